"""Work on the voxels of a large volume slab by slab, on all cores: memory stays bounded."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy.ndimage import map_coordinates

SLAB_VOXELS = 2**18


def by_slabs(function: Callable[[slice], np.ndarray], shape: Sequence[int]) -> np.ndarray:
    """``function(rows)`` for slices of the first axis of a volume ``shape``, put together along that axis."""
    step = max(1, SLAB_VOXELS // max(1, int(np.prod(shape[1:]))))
    slabs = [slice(start, min(start + step, shape[0])) for start in range(0, shape[0], step)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # SciPy's interpolation lets other threads run
        return np.concatenate(list(pool.map(function, slabs)))


def voxels(shape: Sequence[int], rows: slice) -> np.ndarray:
    """Voxel coordinates ``(n, *shape[1:], D)`` float64 of a slab."""
    axes = [np.arange(rows.start, rows.stop), *(np.arange(n) for n in shape[1:])]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).astype(np.float64)


def transform(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
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
