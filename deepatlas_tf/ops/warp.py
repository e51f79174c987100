"""Warping by a displacement field: ``warp(image, u)(x) = image(x + u(x))``, in 2D and 3D."""

import itertools

from deepatlas_tf.keras_stack import tf


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
        return _warp_linear(image, u)
    if interpolation == "nearest":
        return _warp_nearest(image, u)
    raise ValueError(f"interpolation is 'linear' or 'nearest', not {interpolation!r}")


@tf.function(jit_compile=True)
def _warp_linear(image, u):
    shape = tf.shape(image)
    spatial = shape[1:-1]
    location = _clipped_location(u, spatial)
    lower = tf.floor(location)
    fraction = tf.cast(location - lower, image.dtype)  # (B, *S, D), distance from the lower corner
    lower = tf.cast(lower, tf.int32)
    upper = tf.minimum(lower + 1, spatial - 1)
    voxels = tf.reshape(image, (-1, shape[-1]))
    n_axes = image.shape.rank - 2
    result = None
    for corner in itertools.product((0, 1), repeat=n_axes):
        index = [(upper if side else lower)[..., axis] for axis, side in enumerate(corner)]
        weight = [fraction[..., axis] if side else 1 - fraction[..., axis] for axis, side in enumerate(corner)]
        part = _product(weight)[..., None] * tf.gather(voxels, _flat_index(index, shape))
        result = part if result is None else result + part
    return result


@tf.function(jit_compile=True)
def _warp_nearest(image, u):
    shape = tf.shape(image)
    nearest = tf.cast(tf.round(_clipped_location(u, shape[1:-1])), tf.int32)
    return tf.gather(tf.reshape(image, (-1, shape[-1])), _flat_index(tf.unstack(nearest, axis=-1), shape))


def _clipped_location(u, spatial):
    """Absolute location ``x + u(x)`` in voxels, held inside the image: ``(B, *S, D)``."""
    axes = [tf.range(spatial[axis]) for axis in range(u.shape[-1])]
    grid = tf.cast(tf.stack(tf.meshgrid(*axes, indexing="ij"), axis=-1), u.dtype)
    return tf.clip_by_value(grid + u, tf.zeros((), u.dtype), tf.cast(spatial - 1, u.dtype))


def _flat_index(index, shape):
    """Row of each sampled voxel in the image reshaped to ``(B * prod(S), C)``."""
    batch_shape = tf.concat([shape[:1], tf.ones((len(index),), tf.int32)], axis=0)
    flat = tf.reshape(tf.range(shape[0]), batch_shape)
    for axis, position in enumerate(index):
        flat = flat * shape[axis + 1] + position
    return flat


def _product(factors):
    result = factors[0]
    for factor in factors[1:]:
        result = result * factor
    return result
