"""Warping by a displacement field: ``warp(image, u)(x) = image(x + u(x))``, in 2D and 3D."""

from deepatlas_tf.keras_stack import compiled_by_xla, tf
from deepatlas_tf.ops.compiled import compiled
from deepatlas_tf.ops.interpolation import (
    cells,
    clipped_locations,
    corners,
    field_gradient,
    flat_index,
    interpolate,
    own_rows,
    sizes,
)
from deepatlas_tf.ops.sums import on_gpu, place_sums

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
        return (_warp_linear if on_gpu() or compiled_by_xla() else _warp_in_threads)(image, u)
    if interpolation == "nearest":
        return _warp_nearest(image, u)
    raise ValueError(f"interpolation is 'linear' or 'nearest', not {interpolation!r}")


@compiled
def _warp_linear(image, u):
    return interpolate(image, u)


@tf.autograph.experimental.do_not_convert
def _warp_in_threads(image, u):
    """The same with another gradient towards the image: XLA adds up what belongs to a voxel in one thread.

    Not where the caller compiles by XLA, which has no sparse product. The identities are for the
    reasons that are told in ``ops/compiled.py``.
    """
    by_voxel = _counted if image.shape[-1] <= FEW_CHANNELS else _by_sparse_product

    @tf.custom_gradient
    def with_gradient(image, u):
        def backward(upstream):
            of_image = tf.reshape(by_voxel(tf.cast(upstream, tf.float32), tf.identity(u)), tf.shape(image))
            return tf.cast(of_image, image.dtype), _of_field(upstream, tf.identity(image), tf.identity(u))

        return _warp_linear(image, u), backward

    return with_gradient(tf.identity(image), tf.identity(u))


_of_field = compiled(field_gradient)


def _counted(upstream, u):
    """Gradient ``(B * V, C)`` towards the image, as a weighted count of voxels for each channel."""
    sums = []
    for of_channel in tf.unstack(upstream, axis=-1):
        with tf.control_dependencies(sums):  # one after the other, since each takes 64 bytes a voxel
            rows, values = _weighted_corners(of_channel, u)
            sums.append(place_sums(values, rows, tf.size(of_channel)))
    return tf.stack(sums, axis=-1)


@compiled
def _weighted_corners(values, u):
    rows, weights = corners(cells(u))
    return rows, tf.cast(weights, tf.float32) * values


def _by_sparse_product(upstream, u):
    """The same as the product with the transposed matrix of the interpolation, ``(B * V, B * V)``."""
    places, weights = _matrix(u)
    n_voxels = tf.size(u[..., 0], out_type=tf.int64)
    matrix = tf.raw_ops.SparseTensorToCSRSparseMatrix(
        indices=places, values=weights, dense_shape=tf.stack([n_voxels, n_voxels])
    )
    by_voxel = tf.reshape(upstream, (-1, upstream.shape[-1]))
    return tf.raw_ops.SparseMatrixMatMul(a=matrix, b=by_voxel, transpose_a=True)


@compiled
def _matrix(u):
    """Row, column ``(B * V * 2 ** D, 2)`` and value of what the matrix has at the corners of each voxel."""
    around, shape, n_voxels = cells(u), sizes(u)[1:-1], tf.size(u[..., 0])
    voxel = tf.reshape(own_rows(u), (-1, 1))
    columns, values = voxel // tf.reduce_prod(shape), tf.ones((n_voxels, 1), u.dtype)
    for size, *pairs in zip(shape, around.positions, around.weights, strict=True):  # twice as many with each axis
        lower_upper, of_both = (tf.reshape(tf.stack(pair, axis=-1), (-1, 1, 2)) for pair in pairs)
        columns = tf.reshape(columns[..., None] * size + lower_upper, (n_voxels, -1))
        values = tf.reshape(values[..., None] * of_both, (n_voxels, -1))
    places = tf.stack([tf.broadcast_to(voxel, tf.shape(columns)), columns], axis=-1)
    return tf.cast(tf.reshape(places, (-1, 2)), tf.int64), tf.cast(tf.reshape(values, [-1]), tf.float32)


@compiled
def _warp_nearest(image, u):
    nearest = [tf.cast(tf.round(location), tf.int32) for location, _ in clipped_locations(u)]
    voxels = tf.reshape(image, (-1, image.shape[-1]))
    return tf.gather(voxels, flat_index(nearest, sizes(u)[:-1]))
