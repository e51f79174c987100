"""Warping by a displacement field: ``warp(image, u)(x) = image(x + u(x))``, in 2D and 3D."""

from deepatlas_tf.keras_stack import as_written, compiled_by_xla, tf
from deepatlas_tf.ops.compiled import compiled
from deepatlas_tf.ops.interpolation import (
    cells,
    clipped_locations,
    corners,
    flat_index,
    grad_field,
    interpolate,
    own_rows,
    plain_interpolate,
    sizes,
    voxel_grid,
)
from deepatlas_tf.ops.sums import on_gpu, scatter_sums
from deepatlas_tf.types import Tensor

FEW_CHANNELS = 4  # images and fields have no more


def warp(image: Tensor, u: Tensor, interpolation: str = "linear") -> Tensor:
    """Sample ``image`` at ``x + u(x)``; outside the image the nearest voxel counts.

    The values are those of voxelmorph's ``SpatialTransformer``. The whole batch is sampled at once by functions that
    XLA compiles, which on a CPU is several times faster than the operations one by one.

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


def plain_warp(image: Tensor, u: Tensor, interpolation: str = "linear") -> Tensor:
    """The definition of :func:`warp`, in operations whose gradients are TensorFlow's own."""
    if interpolation == "linear":
        return plain_interpolate(image, u)
    location = tf.clip_by_value(voxel_grid(u) + u, 0, tf.cast(tf.shape(image)[1:-1] - 1, u.dtype))
    return tf.gather_nd(image, tf.cast(tf.round(location), tf.int32), batch_dims=1)


@compiled
def _warp_linear(image, u):
    return interpolate(image, u)


@as_written
def _warp_in_threads(image, u):
    """:func:`_warp_linear` with a gradient towards the image that runs in several threads, where XLA uses one.

    It cannot be part of a function that the caller compiles by XLA, which has no sparse product. The identities are
    there for the reasons that ``ops/compiled.py`` gives.
    """
    grad_image = _grad_image_by_counting if image.shape[-1] <= FEW_CHANNELS else _grad_image_by_sparse_product

    @tf.custom_gradient
    def with_gradient(image, u):
        def backward(upstream):
            by_voxel = grad_image(tf.cast(upstream, tf.float32), tf.identity(u))
            towards_image = tf.cast(tf.reshape(by_voxel, tf.shape(image)), image.dtype)
            return towards_image, _grad_field(upstream, tf.identity(image), tf.identity(u))

        return _warp_linear(image, u), backward

    return with_gradient(tf.identity(image), tf.identity(u))


_grad_field = compiled(grad_field)


def _grad_image_by_counting(upstream, u):
    """Gradient ``(B * V, C)`` towards the image: for each channel, a weighted count of how often a voxel was read."""
    sums: list[Tensor] = []
    for channel in tf.unstack(upstream, axis=-1):
        with tf.control_dependencies(sums):  # one after the other, since each takes 64 bytes a voxel
            rows, values = _weighted_corners(channel, u)
            sums.append(scatter_sums(values, rows, tf.size(channel)))
    return tf.stack(sums, axis=-1)


@compiled
def _weighted_corners(values, u):
    """Rows of the corners and their weights times ``values (B, *S)``, both ``(2 ** D, B, *S)``."""
    rows, weights = corners(cells(u))
    return rows, tf.cast(weights, tf.float32) * values


def _grad_image_by_sparse_product(upstream, u):
    """Gradient ``(B * V, C)`` towards the image: product with the transposed interpolation matrix."""
    places, weights = _interpolation_matrix(u)
    n_voxels = tf.size(u[..., 0], out_type=tf.int64)
    matrix = tf.raw_ops.SparseTensorToCSRSparseMatrix(
        indices=places, values=weights, dense_shape=tf.stack([n_voxels, n_voxels])
    )
    by_voxel = tf.reshape(upstream, (-1, upstream.shape[-1]))
    return tf.raw_ops.SparseMatrixMatMul(a=matrix, b=by_voxel, transpose_a=True)


@compiled
def _interpolation_matrix(u):
    """The entries of the matrix ``(B * V, B * V)`` that takes the image's voxels to the warped image's.

    Returns:
        Row and column of each entry, ``(B * V * 2 ** D, 2)`` int64, and its value, float32.
    """
    around, shape, n_voxels = cells(u), sizes(u)[1:-1], tf.size(u[..., 0])
    voxel = tf.reshape(own_rows(u), (-1, 1))
    columns, values = voxel // tf.reduce_prod(shape), tf.ones((n_voxels, 1), u.dtype)
    for size, *pairs in zip(shape, around.positions, around.weights, strict=True):  # twice as many with each axis
        positions, weights = (tf.reshape(tf.stack(pair, axis=-1), (-1, 1, 2)) for pair in pairs)
        columns = tf.reshape(columns[..., None] * size + positions, (n_voxels, -1))
        values = tf.reshape(values[..., None] * weights, (n_voxels, -1))
    places = tf.stack([tf.broadcast_to(voxel, tf.shape(columns)), columns], axis=-1)
    return tf.cast(tf.reshape(places, (-1, 2)), tf.int64), tf.cast(tf.reshape(values, [-1]), tf.float32)


@compiled
def _warp_nearest(image, u):
    nearest = [tf.cast(tf.round(location), tf.int32) for location, _ in clipped_locations(u)]
    voxels = tf.reshape(image, (-1, image.shape[-1]))
    return tf.gather(voxels, flat_index(nearest, sizes(u)[:-1]))
