"""Points in volumes: the coordinates of a block's voxels, affine maps of them, and the values there."""

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import map_coordinates


def voxels(shape: Sequence[int], rows: slice) -> np.ndarray:
    """Voxel coordinates ``(n, *shape[1:], D)`` float64 of a block."""
    axes = [np.arange(rows.start, rows.stop), *(np.arange(n) for n in shape[1:])]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).astype(np.float64)


def transformed_voxels(matrix: np.ndarray, shape: Sequence[int], rows: slice) -> np.ndarray:
    """``apply_affine(matrix, voxels(shape, rows))``, without making the coordinates of the voxels first."""
    ranges = [np.arange(rows.start, rows.stop), *(np.arange(n) for n in shape[1:])]
    points = matrix[:-1, -1]
    for axis, column in zip(np.ix_(*ranges), matrix[:-1, :-1].T, strict=True):
        points = points + axis[..., None] * column
    return points


def apply_affine(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """An affine map ``(D+1, D+1)`` of points ``(..., D)``."""
    return points @ matrix[:-1, :-1].T + matrix[:-1, -1]


def sample(volume: np.ndarray, at: np.ndarray, order: int = 1) -> np.ndarray:
    """``volume (*S)`` or ``(*S, C)`` at voxel coordinates ``at (..., D)``: linear, or nearest with order 0.

    Outside, the nearest voxel counts.
    """
    n_axes = at.shape[-1]
    channels = volume[..., None] if volume.ndim == n_axes else volume
    where = np.moveaxis(at, -1, 0)
    values = [map_coordinates(channels[..., i], where, order=order, mode="nearest") for i in range(channels.shape[-1])]
    return values[0] if volume.ndim == n_axes else np.stack(values, axis=-1)
