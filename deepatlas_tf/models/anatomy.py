"""A registration network that sees the anatomy: a segmentation network becomes a part of it.

The network still maps ``[moving, fixed]`` to a field ``u_0``. A further step looks at both images and at the class
probabilities ``P`` of the foreground that the segmentation network predicts for them, those of the moving scan warped
by ``u_0``, and corrects the field:

    F = demons(P_m o (id + u_0), P_f)
    v = U([I_m o (id + u_0), P_m o (id + u_0), F], [I_f, P_f, F])
    u = v + u_0 o (id + v)

``F`` is the displacement that would align the anatomies voxel by voxel
(:class:`~deepatlas_tf.models.registration.learned_demons.DemonsForce`). ``U`` is voxelmorph's U-Net on half the grid,
diffeomorphic, which begins as no displacement; it is what is trained, and what came before stays as it is. So one
network helps the other not only by the loss, as in DeepAtlas, but also in every registration, without a label, and a
registration that follows the forces of the images alone gets weights that can learn from anatomies.

A network that sees the images as earlier steps have warped them is one of a cascade (Zhao, Dong, Chang & Xu, ICCV
2019). That predicted anatomy helps a registration at test time is known from instance optimisation (Siebert, Hansen &
Heinrich, Learn2Reg 2021); here it costs one pass.
"""

from collections.abc import Sequence

from deepatlas_tf.keras_stack import as_written, keras
from deepatlas_tf.models.functional import as_functional
from deepatlas_tf.models.layers import CropLike, Foreground, PadToMultiple, SpatialTransformer, UpsampleField
from deepatlas_tf.models.registration.learned_demons import DAMPING, DemonsForce
from deepatlas_tf.models.registration.voxelmorph import registration_net
from deepatlas_tf.types import Tensor

ENCODER, DECODER = (16, 32, 32, 32), (32, 32, 32, 32, 16)  # widths of U
IMAGES, ANATOMY, STEP = "images", "anatomy", "anatomy_step"  # names of the networks within


def sees_anatomy(net: keras.Model) -> bool:
    """Whether :func:`with_anatomy` has made this registration network."""
    return any(layer.name == STEP for layer in net.layers)


@as_written
def with_anatomy(net: keras.Model, segmentation: keras.Model) -> keras.Model:
    """Make the network that takes one more step, which sees the anatomy; it shares the weights of ``net``.

    The new step does not displace anything yet, so that the field is that of ``net``. A network that has such a step
    already keeps its weights, and another segmentation network takes the place of its own; one of another number of
    classes begins the step anew.

    Args:
        net: Keras model ``[moving, fixed] (B, *S, K) -> u (B, *S, D)`` in voxels, which is not trained any more.
        segmentation: Keras model ``image (B, *S, K) -> class probabilities (B, *S, C)``, which is not, either.
    """
    moving, fixed = (
        keras.Input(tensor.shape[1:], name=name) for tensor, name in zip(net.inputs, ("moving", "fixed"), strict=True)
    )
    known = net.get_layer(STEP) if sees_anatomy(net) else None
    of_images = as_functional(net, IMAGES) if known is None else net.get_layer(IMAGES)
    guide = as_functional(segmentation, ANATOMY)
    guide.trainable = of_images.trainable = False
    u = of_images([moving, fixed], training=False)
    foreground, warp = Foreground(name="foreground", dtype="float32"), SpatialTransformer(name="warp")
    seen_moving, seen_fixed = ([image, foreground(guide(image, training=False))] for image in (moving, fixed))
    v = _step([warp([one, u]) for one in seen_moving], seen_fixed, known)
    displaced = SpatialTransformer(name="displace")([u, v])
    return keras.Model(
        [moving, fixed], keras.layers.Add(name="compose", dtype="float32")([v, displaced]), name=net.name
    )


def _step(warped: Sequence[Tensor], fixed: Sequence[Tensor], known: keras.Model | None) -> Tensor:
    """Build ``U``, or take the one that is known; gives its displacement ``v (B, *S, D)`` on the full grid."""
    image, n_classes = fixed[0], fixed[1].shape[-1]
    pad = PadToMultiple(2, name="pad", dtype="float32")
    pool = getattr(keras.layers, f"AveragePooling{len(image.shape) - 2}D")(2, name="pool", dtype="float32")
    (moving_half, fixed_half) = ([pool(pad(seen)) for seen in both] for both in (warped, fixed))
    force = DemonsForce(DAMPING / n_classes, name="force")([moving_half[1], fixed_half[1]])
    together = keras.layers.Concatenate(name="seen", dtype="float32")
    halves = [together([*moving_half, force]), together([*fixed_half, force])]
    shape, channels = halves[0].shape[1:-1], halves[0].shape[-1]
    if known is None or known.inputs[0].shape[-1] != channels:  # or it knows another number of classes
        known = as_functional(registration_net(shape, ENCODER, DECODER, diffeomorphic=True, channels=channels), STEP)
    return CropLike(name="crop", dtype="float32")([UpsampleField(2, name="upsample")(known(halves)), image])
