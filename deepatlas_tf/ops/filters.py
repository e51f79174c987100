"""Finite differences and box filters along the spatial axes of ``(B, *S, C)`` tensors."""

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.ops.compiled import compiled


def difference(x, axis: int):
    """Forward difference ``x[i + 1] - x[i]`` along a spatial axis, 0 the first after the batch; one shorter there."""
    return cut(x, axis, 1, None) - cut(x, axis, 0, -1)


@compiled
def box_sum(x, window: int):
    """Sum over a cube of ``window`` voxels a side around each voxel; outside the image counts as zero.

    One pass for each axis, so that the cost grows with ``window`` and not with ``window ** D``.

    Args:
        x: ``(B, *S, C)``.
        window: odd number of voxels.
    """
    half = window // 2

    @tf.custom_gradient
    def with_gradient(x):
        # A symmetric window with zeros outside is its own adjoint
        return _box_sum(x, half), lambda upstream: _box_sum(upstream, half)

    return with_gradient(x)


def _box_sum(x, half):
    for axis in range(x.shape.rank - 2):
        padding = [[0, 0]] * x.shape.rank
        padding[axis + 1] = [half, half]
        padded = tf.pad(x, padding)
        x = tf.add_n([cut(padded, axis, offset, offset - 2 * half or None) for offset in range(2 * half + 1)])
    return x


def cut(x, axis, start, stop):
    """The part of a tensor between two places along a spatial axis."""
    index = [slice(None)] * x.shape.rank
    index[axis + 1] = slice(start, stop)
    return x[tuple(index)]
