"""Warping by a displacement field: ``warp(image, u)(x) = image(x + u(x))``, in 2D and 3D."""

import functools
import operator

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.ops.compiled import compiled
from deepatlas_tf.ops.sums import bin_sums, on_gpu

FEW_CHANNELS = 4  # such as images and fields


def warp(image, u, interpolation: str = "linear"):
    """Sample ``image`` at ``x + u(x)``.

    The values are those of voxelmorph's ``SpatialTransformer``: outside the image the nearest voxel counts. The whole
    batch is sampled at once, and the function is compiled by XLA, which on a CPU is several times faster than the ops
    one by one.

    Args:
        image: ``(B, *S, C)`` floating point.
        u: displacement field ``(B, *S, D)`` in voxels; component order is axis order.
        interpolation: ``"linear"`` (in each axis) or ``"nearest"`` (for label maps; no gradient with respect to ``u``).

    Returns:
        ``(B, *S, C)``, of the type of ``image``.

    Raises:
        ValueError: if the interpolation is unknown or the field does not have one component for each axis.
    """
    image, u = tf.convert_to_tensor(image), tf.convert_to_tensor(u)
    n_axes = image.shape.rank - 2
    if u.shape[-1] != n_axes:
        raise ValueError(f"the field has {u.shape[-1]} components, the image {n_axes} spatial axes")
    if interpolation == "linear":
        few = image.shape[-1] <= FEW_CHANNELS and not on_gpu()
        return (_warp_few_channels if few else _warp_linear)(image, u)
    if interpolation == "nearest":
        return _warp_nearest(image, u)
    raise ValueError(f"interpolation is 'linear' or 'nearest', not {interpolation!r}")


@compiled
def _warp_linear(image, u):
    return interpolate(image, u)


@tf.autograph.experimental.do_not_convert
def _warp_few_channels(image, u):
    """The same with another gradient towards the image: XLA adds up what belongs to a voxel in one thread.

    The identities are for the reasons that are told in ``ops/compiled.py``.
    """
    image, u = tf.identity(image), tf.identity(u)

    @tf.custom_gradient
    def with_gradient(image, u, warped):
        def backward(upstream):
            rows, weights = _corners(tf.identity(u))
            sums = []
            for of_channel in tf.unstack(upstream, axis=-1):
                with tf.control_dependencies(sums):  # one after the other, since each takes 64 bytes a voxel
                    sums.append(bin_sums(_weighted(weights, of_channel), rows, tf.size(image[..., 0])))
            of_image = tf.reshape(tf.stack(sums, axis=-1), tf.shape(image))
            return tf.cast(of_image, image.dtype), None, upstream

        return tf.identity(warped), backward

    return with_gradient(image, u, _warp_linear(tf.stop_gradient(image), u))


@compiled
def _corners(u):
    return corners(u)


@compiled
def _weighted(weights, values):
    """float64, for :func:`~deepatlas_tf.ops.sums.bin_sums`."""
    return tf.cast(weights * tf.cast(values, weights.dtype), tf.float64)


@compiled
def _warp_nearest(image, u):
    nearest = [tf.cast(tf.round(location), tf.int32) for location in _clipped_locations(u)]
    voxels = tf.reshape(image, (-1, image.shape[-1]))
    return tf.gather(voxels, _flat_index(nearest, tf.shape(u)))


def interpolate(image, u):
    """The linear interpolation of :func:`warp`, to be part of a compiled function."""
    voxels = tf.reshape(image, (-1, image.shape[-1]))
    # Corner by corner: XLA gathers all of them at once several times slower
    pairs = zip(*map(tf.unstack, corners(u)), strict=True)
    return tf.add_n([tf.cast(weight, image.dtype)[..., None] * tf.gather(voxels, index) for index, weight in pairs])


def corners(u):
    """The ``2 ** D`` voxels around ``x + u(x)``, each with its weight in the linear interpolation.

    Returns:
        The rows of the voxels in the image as ``(B * V, C)``, int32, and the weights, both ``(2 ** D, B, *S)``.
    """
    n_axes = u.shape[-1]
    index, weight = [], []
    for axis, location in enumerate(_clipped_locations(u)):
        lower = tf.floor(location)
        fraction = location - lower  # (B, *S), distance from the lower corner
        lower = tf.cast(lower, tf.int32)
        upper = tf.minimum(lower + 1, tf.shape(u)[axis + 1] - 1)
        shape = tf.concat([along(axis, n_axes, 2), tf.shape(u)[:-1]], axis=0)
        index.append(tf.reshape(tf.stack([lower, upper]), shape))
        weight.append(tf.reshape(tf.stack([1 - fraction, fraction]), shape))
    all_corners = tf.concat([[2**n_axes], tf.shape(u)[:-1]], axis=0)
    weights = functools.reduce(operator.mul, weight)
    return tf.reshape(_flat_index(index, tf.shape(u)), all_corners), tf.reshape(weights, all_corners)


def _clipped_locations(u):
    """Absolute location ``x + u(x)`` in voxels, held inside the image: ``(B, *S)`` for each axis.

    Axis by axis: of a grid of all axes XLA makes constants, each as large as the field, in every compiled program.
    """
    locations = []
    for axis, component in enumerate(tf.unstack(u, axis=-1)):
        last = tf.cast(tf.shape(u)[axis + 1] - 1, u.dtype)
        start = tf.cast(tf.reshape(tf.range(tf.shape(u)[axis + 1]), along(axis, u.shape[-1], -1)), u.dtype)
        locations.append(tf.clip_by_value(start + component, tf.zeros((), u.dtype), last))
    return locations


def along(axis, n_axes, size):
    """The shape of a vector of this size along one of the axes."""
    return [size if other == axis else 1 for other in range(n_axes)]


def _flat_index(index, shape):
    """Row of each sampled voxel in the image reshaped to ``(B * prod(S), C)``."""
    batch_shape = tf.concat([shape[:1], tf.ones((len(index),), tf.int32)], axis=0)
    flat = tf.reshape(tf.range(shape[0]), batch_shape)
    for axis, position in enumerate(index):
        flat = flat * shape[axis + 1] + position
    return flat
