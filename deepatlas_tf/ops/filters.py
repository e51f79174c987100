"""Finite differences and box filters along the spatial axes of ``(B, *S, C)`` tensors."""

import itertools
import math

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.ops.compiled import compiled
from deepatlas_tf.types import Tensor


def difference(x: Tensor, axis: int) -> Tensor:
    """Forward difference ``x[i + 1] - x[i]`` along one spatial axis.

    Args:
        x: ``(B, *S, C)``.
        axis: 0 is the first axis after the batch.

    Returns:
        a tensor with one voxel less along that axis.
    """
    return cut(x, axis, 1, None) - cut(x, axis, 0, -1)


@compiled
def box_sum(x: Tensor, window: int) -> Tensor:
    """Sum over a cube of ``window`` voxels a side around each voxel; voxels outside the image count as zero.

    The sum is taken along one axis after the other, so that the cost grows with ``window`` and not with
    ``window ** D``.

    Args:
        x: ``(B, *S, C)``.
        window: odd number of voxels.

    Returns:
        ``(B, *S, C)``.
    """
    half = window // 2

    @tf.custom_gradient
    def with_gradient(x):
        # The window is symmetric and the padding is zero, so the operator is its own adjoint
        return _box_sum(x, half), lambda upstream: _box_sum(upstream, half)

    return with_gradient(x)


def plain_box_sum(x: Tensor, window: int) -> Tensor:
    """The definition of :func:`box_sum`: the sum of ``window ** D`` shifted images."""
    half, shape = window // 2, x.shape[1:-1]
    padded = tf.pad(x, [[0, 0], *[[half, half]] * len(shape), [0, 0]])
    total = tf.zeros_like(x)
    for offset in itertools.product(range(window), repeat=len(shape)):
        shifted = (slice(start, start + size) for start, size in zip(offset, shape, strict=True))
        total += padded[(slice(None), *shifted)]
    return total


def _box_sum(x, half):
    for axis in range(x.shape.rank - 2):
        padding = [[0, 0]] * x.shape.rank
        padding[axis + 1] = [half, half]
        padded = tf.pad(x, padding)
        x = tf.add_n([cut(padded, axis, offset, offset - 2 * half or None) for offset in range(2 * half + 1)])
    return x


@compiled
def gaussian_smoothing(x: Tensor, sigma: float) -> Tensor:
    """Gaussian mean along each spatial axis, cut off at 3 sigma or the size; at the border the image is mirrored.

    Args:
        x: ``(B, *S, C)``.
        sigma: standard deviation in voxels, above 0.

    Returns:
        ``(B, *S, C)``.
    """
    for axis in range(x.shape.rank - 2):
        half, size = math.ceil(3 * sigma), x.shape[axis + 1]
        half = half if size is None else min(half, size)
        weights = [math.exp(-0.5 * (offset / sigma) ** 2) for offset in range(-half, half + 1)]
        padding = [[0, 0]] * x.shape.rank
        padding[axis + 1] = [half, half]
        padded = tf.pad(x, padding, "SYMMETRIC")
        parts = [w / sum(weights) * cut(padded, axis, i, i - 2 * half or None) for i, w in enumerate(weights)]
        x = tf.add_n(parts)
    return x


def cut(x: Tensor, axis: int, start: int | None, stop: int | None) -> Tensor:
    """Slice ``start:stop`` of ``x (B, *S, C)`` along one spatial axis, of which 0 is the first after the batch."""
    index = [slice(None)] * x.shape.rank
    index[axis + 1] = slice(start, stop)
    return x[tuple(index)]
