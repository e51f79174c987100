"""The network's grid for a whole scan: at the voxel size of training, and as large as the scan needs.

Training crops or pads every scan about its centre to one shape. A fully convolutional network takes any shape, so a
scan that is smaller is padded as in training, which gives the very result of the evaluation, and one that is larger is
not cropped.
"""

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

from deepatlas_tf.runs.model import Grid
from deepatlas_tf.scans.grid import GridTransform
from deepatlas_tf.scans.nifti import Nifti

# Of one pass of a network: with the default widths it takes 0.6 kB of memory a voxel, here 4.5 GiB
MAX_VOXELS = 200**3
OVERLAP = 32  # voxels that two tiles share: what a network sees around a voxel, for the most part


def mirrored(scan: Nifti) -> Nifti:
    """The scan with left and right exchanged: its voxels stay where they are in the file, its affine is mirrored."""
    return Nifti(scan.volume, np.diag([-1.0, *[1.0] * (len(scan.affine) - 1)]) @ scan.affine)


def covering_transform(scan: Nifti, grid: Grid, other: Nifti | None = None) -> GridTransform:
    """The transform of ``scan`` to a grid that holds that of training and all of ``scan``, and of ``other`` too."""
    shapes = [grid.shape, *(extent(one, grid) for one in (scan, other) if one is not None)]
    shape = tuple(max(sizes) for sizes in zip(*shapes, strict=True))
    return GridTransform(scan.affine, scan.volume.shape, shape, grid.spacing)


def extent(scan: Nifti, grid: Grid) -> tuple[int, ...]:
    """Voxels of the grid's spacing that hold the whole scan, in canonical order of axes."""
    transform = GridTransform(scan.affine, scan.volume.shape, grid.shape, grid.spacing)
    # a thousandth, so that rounding errors of the affine do not add a voxel
    return tuple(math.ceil(n / f - 1e-3) for n, f in zip(transform.canonical_shape, transform.factors, strict=True))


def apply_in_tiles(function: Callable, image: np.ndarray, max_voxels: int = MAX_VOXELS) -> np.ndarray:
    """``function(image (*S, 1)) -> (*S, C)``, in overlapping tiles where the image has more than ``max_voxels``.

    Where tiles overlap, they are blended with weights that fall linearly towards the inner borders of each.
    """
    shape = image.shape[:-1]
    parts = split(shape, max_voxels)
    if all(len(starts) == 1 for starts, _ in parts):
        return function(image)
    total, weights = None, np.zeros((*shape, 1), np.float32)
    for corner in itertools.product(*(starts for starts, _ in parts)):
        where = tuple(slice(start, start + size) for start, (_, size) in zip(corner, parts, strict=True))
        values = function(image[where])
        total = np.zeros((*shape, values.shape[-1]), np.float32) if total is None else total
        weight = _blending(where, shape)[..., None]
        total[where] += weight * values
        weights[where] += weight
    return total / weights


def split(shape: Sequence[int], max_voxels: int) -> list[tuple[list[int], int]]:
    """For each axis the starts of the tiles and their size; all tiles are equal, and hold at most ``max_voxels``.

    The longest side of the tiles is cut first. A side is not cut below twice the overlap.
    """
    n_tiles, sizes = [1] * len(shape), list(shape)
    while math.prod(sizes) > max_voxels:
        axis = int(np.argmax(sizes))
        if sizes[axis] <= 2 * OVERLAP:
            break
        n_tiles[axis] += 1
        sizes[axis] = math.ceil((shape[axis] + (n_tiles[axis] - 1) * OVERLAP) / n_tiles[axis])
    axes = zip(shape, sizes, n_tiles, strict=True)
    return [([round(i * (n - size) / max(1, k - 1)) for i in range(k)], size) for n, size, k in axes]


def _blending(where: Sequence[slice], shape: Sequence[int]) -> np.ndarray:
    """Weights of a tile: 1 in its middle, falling over the overlap at borders that are not the image's."""
    result = np.ones((), np.float32)
    for part, n in zip(where, shape, strict=True):
        position = np.arange(part.start, part.stop, dtype=np.float32)
        rise = np.ones_like(position) if part.start == 0 else (position - part.start + 1) / (OVERLAP + 1)
        fall = np.ones_like(position) if part.stop == n else (part.stop - position) / (OVERLAP + 1)
        result = result[..., None] * np.clip(np.minimum(rise, fall), 0, 1)
    return result
