"""Registration by demons that learn: some steps at each resolution, from coarse to fine, as one network.

    F = demons(I_m o (id + u), I_f)
    r = K * [F, r_before] + R([F, r_before, u])
    u <- r + u o (id + r),  and  u <- 2 up(u) on the way to the next level

``demons`` is the displacement that would align the locally normalised images voxel by voxel (:class:`DemonsForce`).
``K`` is a convolution that begins as a Gaussian of the force plus a part of the step before, its momentum; ``R`` is a
small network that begins near zero. So the network begins as a classical registration and aligns images before it has
learned anything; what it learns is which forces to follow, how far and how smoothly. The steps of a level share their
weights. The field of a level has half the resolution of its images: the last one is interpolated to that of the input.

The images have to be of one contrast, as for every demons force: the same tissue brighter than its neighbours in both.

- Demons: Thirion (MedIA 1998), with the mean of the gradients of both images (Vercauteren, Pennec, Perchant & Ayache,
  NeuroImage 2009), fields composed and steps smoothed as there.
- Some steps of an optimisation at each resolution as a network, with the force as an input and a learned regulariser:
  GraDIRN (Qiu, Hammernik, Qin, Chen & Rueckert, MICCAI 2022). Its force is the gradient of the loss.
- Levels of images trained for one field: LapIRN (Mok & Chung, MICCAI 2020), which trains one level after the other and
  finds its steps from the images alone.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from deepatlas_tf.keras_stack import as_written, keras, tf
from deepatlas_tf.models.convolution import Conv2D, Conv3D
from deepatlas_tf.models.layers import CropLike, LeakyReLU, PadToMultiple, SpatialTransformer, UpsampleField
from deepatlas_tf.models.network import Interface, Network
from deepatlas_tf.models.upsampling import convolution
from deepatlas_tf.ops.filters import box_sum, cut
from deepatlas_tf.ops.interpolation import along, sizes
from deepatlas_tf.types import Tensor

STEPS = (6, 4, 3)
WIDTH = 8
WINDOW = 3  # of the local normalisation, in voxels
GAIN, SIGMA, MOMENTUM = 2.5, 0.7, 0.3  # of the first K; sigma in voxels of the field
DAMPING = 0.02  # of a force, where the images have no gradient


@dataclasses.dataclass(frozen=True)
class LearnedDemons(Network):
    """The settings of learned demons, which are arguments of :func:`learned_demons_net`."""

    steps: tuple[int, ...] = STEPS
    width: int = WIDTH
    window: int = WINDOW

    def build(self, shape: Sequence[int | None], needed: Interface) -> keras.Model:
        return learned_demons_net(shape, **vars(self), channels=needed.channels)

    def tiny(self) -> "LearnedDemons":
        return dataclasses.replace(self, steps=(1, 1), width=4)


_one_program = tf.function(jit_compile=True, autograph=False)  # traced once for each level, not for each step
_register = keras.utils.register_keras_serializable("deepatlas_tf")


@_register
class LocalNormalisation(keras.layers.Layer):
    """Subtracts from each voxel the mean of the cube of ``window`` voxels around it, and divides by their deviation.

    ``(B, *S, C) -> (B, *S, C)`` float32. It divides by ``sqrt(variance + 0.001)``, so that noise in uniform regions is
    not enlarged. No gradient passes.
    """

    def __init__(self, window: int = WINDOW, **kwargs: Any):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.window = window

    def call(self, image: Tensor) -> Tensor:
        return _normalised(tf.stop_gradient(image), self.window)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "window": self.window}


@_register
class DemonsForce(keras.layers.Layer):
    """Gives for each voxel the displacement that makes the warped image more like the fixed one; no gradient passes.

    ``[warped (B, *S, C), fixed (B, *S, C)] -> (B, *S, D)`` float32, in voxels. With ``d = fixed - warped`` and ``g``
    the mean of their gradients it is ``sum_c d g / sum_c (|g|^2 + d^2 / 4 + damping)``: never longer than a voxel.
    """

    def __init__(self, damping: float = DAMPING, **kwargs: Any):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.damping = damping

    def call(self, inputs: Sequence[Tensor]) -> Tensor:
        return _force(*map(tf.stop_gradient, inputs), self.damping)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "damping": self.damping}

    def compute_output_shape(self, input_shape: Any) -> tf.TensorShape:
        first = tf.TensorShape(input_shape[0])
        return first[:-1].concatenate(first.rank - 2)


@_register
class PoolField(keras.layers.Layer):
    """Brings a field to half the resolution by means, in voxels of that grid: ``(B, *S, D) -> (B, *S / 2, D)``."""

    def call(self, field: Tensor) -> Tensor:
        return tf.nn.avg_pool(field, 2, 2, "VALID") / 2


@_register
class NoDisplacement(keras.layers.Layer):
    """Gives a field of zeros, of half the resolution of an image: ``(B, *S, C) -> (B, *S / 2, D)`` float32."""

    def call(self, image: Tensor) -> Tensor:
        half = tf.nn.avg_pool(tf.cast(image[..., :1], tf.float32), 2, 2, "VALID")
        return tf.zeros_like(tf.repeat(half, image.shape.rank - 2, axis=-1))


@as_written
def learned_demons_net(
    shape: Sequence[int | None],
    steps: Sequence[int] = STEPS,
    width: int = WIDTH,
    window: int = WINDOW,
    channels: int = 1,
) -> keras.Model:
    """Build the network, a Keras model ``[moving (B, *S, C), fixed (B, *S, C)] -> u (B, *S, D)`` float32, in voxels.

    Any image size works: it is padded to a multiple of the coarsest voxel and cropped back.

    Args:
        shape: spatial size ``*S``; ``None`` for an axis of any length.
        steps: the number of steps at each level, full resolution first, then 1/2, 1/4, ...
        width: channels of the small network ``R``.
        window: side of the cube of the local normalisation, an odd number of voxels.
        channels: channels ``C`` of the images.
    """
    moving = keras.Input((*shape, channels), name="moving")
    fixed = keras.Input((*shape, channels), name="fixed")
    pad = PadToMultiple(2 ** len(steps), name="pad", dtype="float32")
    levels = [(pad(moving), pad(fixed))]
    for level in range(1, len(steps)):
        pool = getattr(keras.layers, f"AveragePooling{len(shape)}D")(2, name=f"pool{level}", dtype="float32")
        levels.append(tuple(pool(image) for image in levels[-1]))
    u = NoDisplacement(name="identity", dtype="float32")(levels[-1][0])
    for level in reversed(range(len(steps))):
        u = _level(*levels[level], u, steps[level], (width, window), f"level{level}")
        u = UpsampleField(2, name=f"finer{level}")(u)
    return keras.Model([moving, fixed], CropLike(name="crop", dtype="float32")([u, fixed]), name="registration")


def _level(
    moving: Tensor, fixed: Tensor, u: Tensor, steps: int, width_and_window: tuple[int, int], name: str
) -> Tensor:
    """Build the steps of a level; gives the field after them, of half the resolution of the level's images."""
    width, window = width_and_window
    normalise, force, half = LocalNormalisation(window), DemonsForce(), PoolField(dtype="float32")
    normalised = normalise(fixed)
    correct = _correction(u.shape[1:], width, name)
    before = NoDisplacement(name=f"{name}_start", dtype="float32")(fixed)
    for index in range(steps):
        step = f"{name}_{index}"
        warped = SpatialTransformer(name=f"{step}_warp")([moving, UpsampleField(2, name=f"{step}_full")(u)])
        before = correct([half(force([normalise(warped), normalised])), before, u])
        displaced = SpatialTransformer(name=f"{step}_displace")([u, before])
        u = keras.layers.Add(name=f"{step}_compose", dtype="float32")([before, displaced])
    return u


def _correction(shape: tf.TensorShape, width: int, name: str) -> keras.Model:
    """Build the network ``[force, step before, u] -> step`` that the steps of a level share, all ``(B, *S, D)``."""
    inputs = [keras.Input(shape) for _ in range(3)]
    x = keras.layers.Concatenate(name=f"{name}_all")(inputs)
    for index in range(2):
        x = LeakyReLU(0.2, name=f"{name}_activation{index}")(convolution(x, width, f"{name}_convolution{index}"))
    small = keras.initializers.RandomNormal(stddev=1e-4)
    learned = convolution(x, shape[-1], f"{name}_residual", kernel_initializer=small, dtype="float32")
    smooth = _smoothing(inputs[:2], shape[-1], f"{name}_smooth")
    return keras.Model(inputs, keras.layers.Add(name=f"{name}_sum", dtype="float32")([smooth, learned]), name=name)


def _smoothing(force_and_before: Sequence[Tensor], n_axes: int, name: str) -> Tensor:
    """Build ``K``, a convolution that begins as a Gaussian of the force plus a part of the step before."""
    both = keras.layers.Concatenate(name=f"{name}_inputs", dtype="float32")(force_and_before)
    kind: type[keras.layers.Layer] = {2: Conv2D, 3: Conv3D}[n_axes]
    layer = kind(n_axes, 5, padding="same", use_bias=False, name=name, dtype="float32")
    smoothed = layer(both)
    line, middle = np.exp(-0.5 * (np.arange(-2, 3) / SIGMA) ** 2), np.eye(5)[2]
    gaussian, one = (np.prod(np.meshgrid(*[x / x.sum()] * n_axes), axis=0)[..., None, None] for x in (line, middle))
    identity = np.eye(n_axes)
    layer.set_weights([np.concatenate([GAIN * gaussian * identity, MOMENTUM * one * identity], axis=-2)])
    return smoothed


@_one_program
def _normalised(image: Tensor, window: int) -> Tensor:
    mean = _box_mean(image, window)
    variance = tf.maximum(_box_mean(image * image, window) - mean * mean, 0.0)
    return (image - mean) * tf.math.rsqrt(variance + 1e-3)


def _box_mean(x: Tensor, window: int) -> Tensor:
    """Mean of the voxels of ``(B, *S, C)`` in the cube around each, of those that are in the image."""
    x, half = box_sum(x, window), window // 2
    for axis, size in enumerate(sizes(x)[1:-1], start=1):
        place = tf.range(size)
        count = tf.minimum(place, half) + 1 + tf.minimum(size - 1 - place, half)
        x /= tf.reshape(tf.cast(count, x.dtype), along(axis, x.shape.rank, -1))
    return x


@_one_program
def _force(warped: Tensor, fixed: Tensor, damping: float) -> Tensor:
    d, both, n_axes = fixed - warped, warped + fixed, warped.shape.rank - 2
    size, along_axes = tf.reduce_sum(d * d / 4 + damping, axis=-1), []
    for axis in range(1, n_axes + 1):  # axis by axis: XLA is slow on one tensor of the gradients of many channels
        g = _central_difference(both, axis) / 2
        size += tf.reduce_sum(g * g, axis=-1)
        along_axes.append(tf.reduce_sum(d * g, axis=-1))
    return tf.stack(along_axes, axis=-1) / size[..., None]


def _central_difference(image: Tensor, axis: int) -> Tensor:
    """Central differences of ``(B, *S, C)`` along an axis; the values at the edge repeat."""
    wide = tf.pad(image, [[int(k == axis)] * 2 for k in range(image.shape.rank)], "SYMMETRIC")
    return (cut(wide, axis - 1, 2, None) - cut(wide, axis - 1, 0, -2)) / 2
