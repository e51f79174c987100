"""deepatlas_tf, as ``fit`` runs it: the turns, the warp and the local NCC."""

from types import SimpleNamespace

from turns import commit

from deepatlas_tf.keras_stack import keras, tf
from deepatlas_tf.keras_stack import versions as package_versions
from deepatlas_tf.losses.similarity import local_ncc
from deepatlas_tf.ops.warp import warp
from deepatlas_tf.streams.prefetch import untuned
from deepatlas_tf.training.build_method import build_method
from deepatlas_tf.training.experiment import Stage
from side_by_side import ours_files
from side_by_side.ours_nets import networks, weights_of, widen_field
from side_by_side.worker import Task


def set_threads(n: int) -> None:
    tf.config.threading.set_intra_op_parallelism_threads(n)
    tf.config.threading.set_inter_op_parallelism_threads(n)


def threads() -> dict:
    return {
        "intra_op": tf.config.threading.get_intra_op_parallelism_threads(),
        "inter_op": tf.config.threading.get_inter_op_parallelism_threads(),
    }


def versions() -> dict[str, str]:
    return {"deepatlas_tf": commit(), **package_versions()}


def turn_task(settings, arrays):
    """A step of one turn, or of both one after the other, by the function that ``fit`` calls."""
    keras.utils.set_random_seed(0)
    pair = batch(settings["n_classes"], arrays)
    method = deep_atlas(settings, pair)
    values = {}
    if len(settings["turns"]) == 1:  # the memory of both turns is to be that of training
        images = [pair["moving"]["image"], pair["fixed"]["image"]]
        values["field"] = float(tf.sqrt(tf.reduce_mean(tf.square(method.nets["registration"](images)))))
    weights = weights_of(method.nets)
    iterator = iter(tf.data.Dataset.from_tensors(pair).repeat())
    train = method.make_train_function()

    def step():
        for _ in settings["turns"]:
            logs = train(iterator)
        return {name: float(value) for name, value in logs.items()}

    values |= step()
    return Task(step, values, weights=weights)


def deep_atlas(settings, pair):
    """The method as a stage of an experiment makes it."""
    shape = tuple(pair["moving"]["label"].shape[1:])
    dataset = SimpleNamespace(
        shape=shape,
        class_names=tuple(map(str, range(settings["n_classes"]))),
        partial_labels=False,
        channel_names=("image",),
    )
    turns = {name: int(name in settings["turns"]) for name in ("registration", "segmentation")}
    similarity = settings.get("similarity", "ncc")
    stage = Stage("joint", "deepatlas", steps=10**6, turns=turns, similarity=similarity)
    method = build_method(stage, networks(settings), dataset, None)
    widen_field(method.nets["registration"])
    return method


def batch(n_classes, arrays):
    """A pair of a labelled moving and an unlabelled fixed image."""
    label = tf.constant(arrays["label"])
    moving = {"image": arrays["moving"], "label": label, "label_weight": tf.ones((1, n_classes))}
    fixed = {"image": arrays["fixed"], "label": tf.zeros_like(label), "label_weight": tf.zeros((1, n_classes))}
    return tf.nest.map_structure(tf.constant, {"moving": moving, "fixed": fixed})


def fit_task(settings, arrays):
    """``fit`` of the VoxelMorph method with voxelmorph's losses, ``steps`` at a time."""
    keras.utils.set_random_seed(0)
    pair = batch(2, arrays)
    dataset = SimpleNamespace(
        shape=arrays["moving"].shape[1:-1],
        class_names=("background", "structure"),
        partial_labels=False,
        channel_names=("image",),
    )
    weights = {"registration": {"similarity": 1.0, "gradient": settings["gradient_weight"]}}
    rates = {"registration": 1e-4}
    stage = Stage("vxm", "voxelmorph", 10**6, weights=weights, learning_rates=rates, similarity="local_ncc")
    method = build_method(stage, networks(settings), dataset, None)
    widen_field(method.nets["registration"])
    batches = tf.data.Dataset.from_tensors(pair).repeat().with_options(untuned())
    initial = weights_of(method.nets)

    def step(n_steps=settings["steps"]):
        return method.fit(batches, steps_per_epoch=n_steps, epochs=1, verbose=0).history

    values = {name.removeprefix("registration/"): value[0] for name, value in step(1).items()}
    return Task(step, values, weights=initial)


def warp_task(settings, arrays):
    return compiled_warp(warp, settings, arrays)


def compiled_warp(transform, settings, arrays):
    """``transform(image, u)`` and the gradients that are asked for, inside a ``tf.function``."""
    image, u, upstream = (tf.constant(arrays[name]) for name in ("image", "u", "gradient"))
    wanted = {"none": [], "field": ["u"], "both": ["u", "image"]}[settings["gradient"]]

    @tf.function
    def function(image, u, upstream):
        tensors = {"image": image, "u": u}
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([tensors[name] for name in wanted])
            warped = transform(image, u)
        gradients = tape.gradient(warped, [tensors[name] for name in wanted], upstream) if wanted else []
        return [warped, *gradients]

    results = function(image, u, upstream)
    names = ("warped", "gradient of the field", "gradient of the image")
    values = {name: float(tf.reduce_mean(tf.abs(value))) for name, value in zip(names, results, strict=False)}
    return Task(lambda: function(image, u, upstream), values)


def local_ncc_task(settings, arrays):
    return compiled_loss(local_ncc, arrays)


def compiled_loss(loss, arrays):
    """``loss(warped, fixed) (B,)`` and its gradient of the first image, inside a ``tf.function``."""
    warped, fixed = tf.constant(arrays["warped"]), tf.constant(arrays["fixed"])

    @tf.function
    def function(warped, fixed):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(warped)
            value = tf.reduce_mean(loss(warped, fixed))
        return value, tape.gradient(value, warped)

    value, gradient = function(warped, fixed)
    return Task(lambda: function(warped, fixed), {"loss": float(value), "gradient": float(tf.norm(gradient))})


TASKS = {
    "turn": turn_task,
    "fit": fit_task,
    "warp": warp_task,
    "local_ncc": local_ncc_task,
    **ours_files.TASKS,
}
