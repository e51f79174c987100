"""Registration in several steps from coarse to fine, and registration of label maps in place of images.

The cascade is that of GradICON (Tian et al., CVPR 2023): each step is a network of its own, which sees the moving image
as the steps before have warped it.
"""

from collections.abc import Sequence

from deepatlas_tf.keras_stack import keras, tf
from deepatlas_tf.models.layers import CropLike, PadToMultiple, SpatialTransformer
from deepatlas_tf.models.voxelmorph import DECODER, ENCODER, registration_net
from deepatlas_tf.types import SettingError

_register = keras.utils.register_keras_serializable("deepatlas_tf")


@_register
class UpsampleField(keras.layers.Layer):
    """Linear interpolation of a field ``(B, *S / factor, D)`` of the mean-pooled grid: ``(B, *S, D)``, float32.

    The field is in voxels of the fine grid after it as well: its values are multiplied by ``factor``. A coarse voxel
    lies in the middle of the ``factor`` fine ones that it is the mean of; beyond the last one its value is kept.
    """

    def __init__(self, factor, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.factor = factor

    def call(self, field):
        for axis in range(1, field.shape.rank - 1):
            field = self._interpolate(field, axis)
        return self.factor * field

    def _interpolate(self, field, axis):
        n = tf.shape(field)[axis]
        fine = tf.cast(tf.range(n * self.factor), tf.float32)
        position = (fine - (self.factor - 1) / 2) / self.factor
        position = tf.clip_by_value(position, 0.0, tf.cast(n - 1, tf.float32))
        lower = tf.cast(position, tf.int32)
        weight = position - tf.cast(lower, tf.float32)
        weight = tf.reshape(weight, [-1] + [1] * (field.shape.rank - 1 - axis))  # along the axis, for all channels
        upper = tf.minimum(lower + 1, n - 1)
        return (1 - weight) * tf.gather(field, lower, axis=axis) + weight * tf.gather(field, upper, axis=axis)

    def compute_output_shape(self, input_shape):
        spatial = [None if n is None else n * self.factor for n in input_shape[1:-1]]
        return tf.TensorShape([input_shape[0], *spatial, input_shape[-1]])

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


@_register
class MostProbable(keras.layers.Layer):
    """One-hot map of the most probable class: ``(B, *S, C) -> (B, *S, C)`` float32. No gradient passes."""

    def __init__(self, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})

    def call(self, probabilities):
        return tf.one_hot(tf.argmax(probabilities, axis=-1), probabilities.shape[-1], dtype=tf.float32)


def cascade_net(
    shape: Sequence[int | None],
    encoder: Sequence[int] = ENCODER,
    decoder: Sequence[int] = DECODER,
    factors: Sequence[int] = (4, 2, 1, 1),
    channels: int = 1,
):
    """A Keras model ``[moving (B, *S, C), fixed (B, *S, C)] -> u (B, *S, D)`` in voxels, the steps composed by warping.

    Step ``k`` registers the moving image warped by ``u_{k-1}`` to the fixed one, both mean-pooled by its factor. Its
    field ``v`` makes ``u_k(x) = v(x) + u_{k-1}(x + v(x))``, so that warping by ``u_k`` once is warping by ``u_{k-1}``
    and then by ``v``. GradICON has the factors (4, 2, 1), then one more at full resolution. Any image size works.

    Args:
        shape: spatial size ``*S``; ``None`` for an axis of any length.
        encoder, decoder: widths of the U-Net of each step.
        factors: of each step, its voxel size over that of the images.
        channels: of the images, ``C``.
    """
    moving = keras.Input((*shape, channels), name="moving")
    fixed = keras.Input((*shape, channels), name="fixed")
    u = None
    for index, factor in enumerate(factors):
        warped = moving if u is None else SpatialTransformer(name=f"warp{index}")([moving, u])
        v = _step(warped, fixed, (encoder, decoder), factor, f"step{index}")
        if u is not None:
            u = keras.layers.Add(name=f"compose{index}", dtype="float32")(
                [v, SpatialTransformer(name=f"displace{index}")([u, v])]
            )
        else:
            u = v
    return keras.Model([moving, fixed], u, name="registration")


def on_label_maps(registration, segmentation_moving, segmentation_fixed):
    """A registration of images by their predicted label maps: ``[moving, fixed] (B, *S, 1) -> u (B, *S, D)``.

    Args:
        registration: Keras model ``[moving, fixed] (B, *S, C) -> u`` on one-hot label maps.
        segmentation_moving: Keras model ``image -> probabilities (B, *S, C)`` of the moving domain; it is frozen.
        segmentation_fixed: that of the fixed domain; it is frozen.

    Raises:
        SettingError: if one is a subclass of ``keras.Model`` that was never called.
    """
    maps, inputs = [], []
    for side, net in (("moving", segmentation_moving), ("fixed", segmentation_fixed)):
        frozen = as_functional(net, f"segmentation_{side}")
        frozen.trainable = False
        image = keras.Input(frozen.inputs[0].shape[1:], name=side)
        maps.append(MostProbable(name=f"label_map_{side}")(frozen(image)))
        inputs.append(image)
    inner = as_functional(registration, "label_registration")
    return keras.Model(inputs, inner(maps), name="registration")


def as_functional(net, name: str):
    """The same network with the same weights as a functional Keras model of this name.

    Args:
        net: any Keras model of one output. A subclass of ``keras.Model`` knows its inputs once it was called.
        name: of the result.

    Raises:
        SettingError: if it was not.
    """
    if getattr(net, "outputs", None):
        return keras.Model(net.inputs, net.outputs[0], name=name)
    inputs = new_inputs(net)
    return keras.Model(inputs, net(inputs), name=name)


def new_inputs(net):
    """Keras inputs as those that a subclass of ``keras.Model`` was called with: one, or a list.

    Raises:
        SettingError: if it was never called.
    """
    spec = net.save_spec()
    if spec is None:
        raise SettingError(f"the network {type(net).__name__} does not know its inputs yet: call it once")
    return tf.nest.map_structure(lambda tensor: keras.Input(tensor.shape[1:], dtype=tensor.dtype), spec[0][0])


def _step(moving, fixed, widths, factor, name):
    """The field of one step on the full grid."""
    images = [moving, fixed]
    if factor > 1:
        pool = getattr(keras.layers, f"AveragePooling{len(fixed.shape) - 2}D")
        padded = [PadToMultiple(factor, name=f"{name}_{side}_pad")(x) for side, x in zip("mf", images, strict=True)]
        images = [pool(factor, name=f"{name}_{side}_pool")(x) for side, x in zip("mf", padded, strict=True)]
    shape, channels = images[0].shape[1:-1], fixed.shape[-1]
    net = registration_net(shape, *widths, channels=channels)
    v = keras.Model(net.inputs, net.output, name=name)(images)
    if factor == 1:
        return v
    return CropLike(name=f"{name}_crop", dtype="float32")([UpsampleField(factor, name=f"{name}_upsample")(v), fixed])
