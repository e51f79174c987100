"""voxelmorph 0.2 as shipped: its networks, losses and layers, in TensorFlow, in the environment of deepatlas_tf."""

from deepatlas_tf.keras_stack import keras, tf, vxm
from deepatlas_tf.streams.prefetch import untuned
from side_by_side import ours
from side_by_side.worker import Task

set_threads, threads, versions = ours.set_threads, ours.threads, ours.versions


def fit_task(settings, arrays):
    """``fit`` of ``VxmDense`` with ``NCC`` and ``Grad``, as in voxelmorph's own training script.

    A displacement network (``int_steps=0``) with the package's widths, which both sides have; voxelmorph's own default
    is to integrate at half the resolution. The batches come from a stream as ours in place of the script's generator:
    the end of ``fit`` waits for tf.data's tuner, up to as long as the steps themselves took.
    """
    shape = arrays["moving"].shape[1:-1]
    widths = [list(settings["widths"][f"registration_{part}"]) for part in ("encoder", "decoder")]
    net = vxm.networks.VxmDense(shape, nb_unet_features=widths, int_steps=0)
    names = {layer.name.removeprefix("vxm_dense_"): layer for layer in net.layers}
    for name, array in arrays.items():
        if name.startswith("registration/"):
            _, layer, kind = name.split("/")
            getattr(names[layer], kind).assign(array)
    losses = [vxm.losses.NCC().loss, vxm.losses.Grad("l2").loss]
    net.compile(optimizer=keras.optimizers.Adam(1e-4), loss=losses, loss_weights=[1, settings["gradient_weight"]])
    zeros = arrays["moving"].repeat(3, axis=-1) * 0
    batch = (arrays["moving"], arrays["fixed"]), (arrays["fixed"], zeros)
    batches = tf.data.Dataset.from_tensors(batch).repeat().with_options(untuned())

    def step(n_steps=settings["steps"]):
        return net.fit(batches, steps_per_epoch=n_steps, epochs=1, verbose=0).history

    first = step(1)
    similarity, gradient = [value for name, value in first.items() if name != "loss"]
    return Task(step, {"similarity": 1 + similarity[0], "gradient": gradient[0], "loss": 1 + first["loss"][0]})


def warp_task(settings, arrays):
    layer = vxm.layers.SpatialTransformer(interp_method="linear", indexing="ij")
    return ours.compiled_warp(lambda image, u: layer([image, u]), settings, arrays)


def local_ncc_task(settings, arrays):
    loss = vxm.losses.NCC()
    return ours.compiled_loss(lambda warped, fixed: 1 + loss.loss(fixed, warped), arrays)


TASKS = {"fit": fit_task, "warp": warp_task, "local_ncc": local_ncc_task}
