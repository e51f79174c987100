"""The network's grid for a whole scan: at the voxel size of training, and as large as the scan needs.

Training crops or pads every scan about its centre to one shape. A scan that is smaller is padded as in training, which
gives the very result of the evaluation, and one that is larger is not cropped.
"""

import math
from collections.abc import Sequence

import numpy as np
from nibabel.affines import voxel_sizes

from deepatlas_tf.apply.foreground import Region, around_content, without_border
from deepatlas_tf.datasets.alignment import aligned_transform
from deepatlas_tf.runs.model import Grid
from deepatlas_tf.scans.grid import GridTransform
from deepatlas_tf.scans.nifti import Nifti
from deepatlas_tf.types import DataError

MAX_FACTOR = 100  # times that a voxel of the network's is as wide as one of the scan
MAX_VOXELS = 2**28  # of a scan at the network's voxel size: 1 GiB a class


def mirrored(scan: Nifti) -> Nifti:
    """The scan with left and right exchanged: its voxels stay where they are in the file, its affine is mirrored."""
    return scan._replace(affine=np.diag([-1.0, *[1.0] * (len(scan.affine) - 1)]) @ scan.affine)


def network_transform(scan: Nifti, grid: Grid) -> GridTransform:
    """The transform of ``scan`` to the grid that a network sees it on: that of the reference, where there is one.

    Raises DataError where the scan cannot be aligned, or has voxels of a size that cannot be.
    """
    if grid.reference is None:
        return covering_transform(scan, grid)
    _check_size(scan, grid)
    return aligned_transform(scan, grid.reference.scan, grid.reference.kind)


def covering_transform(scan: Nifti, grid: Grid, other: Nifti | None = None) -> GridTransform:
    """The transform of ``scan`` to a grid that holds that of training and all of ``scan``, and of ``other`` too.

    Raises DataError where a scan has voxels of a size that cannot be, beside those of the grid.
    """
    for one in (scan, other):
        if one is not None:
            _check_size(one, grid)
    shapes = [grid.shape, *(extent(one, grid) for one in (scan, other) if one is not None)]
    shape = tuple(max(sizes) for sizes in zip(*shapes, strict=True))
    return GridTransform(scan.affine, scan.volume.shape, shape, grid.spacing)


def check_window(shape: Sequence[int], grid: Grid) -> None:
    """Raise DataError where a scan, by its shape on the network's grid, is larger than that of training and atlases."""
    if tuple(shape) != tuple(grid.shape):
        large, known = (" x ".join(map(str, sizes)) for sizes in (shape, grid.shape))
        raise DataError(
            f"it takes {large} voxels of the network's grid, and atlases are registered on {known}: crop it to its "
            "anatomy, or do without --atlas and --template"
        )


def _check_size(scan: Nifti, grid: Grid) -> None:
    transform = GridTransform(scan.affine, scan.volume.shape, grid.shape, grid.spacing)
    finest, voxels = max(transform.factors), math.prod(extent(scan, grid))
    if finest > MAX_FACTOR or voxels > MAX_VOXELS:
        sizes, known = (" x ".join(f"{x:.3g}" for x in s) for s in (voxel_sizes(scan.affine), grid.spacing))
        raise DataError(
            f"a scan of {' x '.join(map(str, scan.volume.shape))} voxels of {sizes} mm is not one for a network of "
            f"{known} mm: check the voxel size in its header"
        )


def extent(scan: Nifti, grid: Grid) -> tuple[int, ...]:
    """Voxels of the grid's spacing that hold the whole scan, in canonical order of axes."""
    transform = GridTransform(scan.affine, scan.volume.shape, grid.shape, grid.spacing)
    # a thousandth, so that rounding errors of the affine do not add a voxel
    return tuple(math.ceil(n / f - 1e-3) for n, f in zip(transform.canonical_shape, transform.factors, strict=True))


def anatomy(scan: Nifti, grid: Grid) -> Region:
    """The part of a scan's volume that a network is shown: without an added border, about the size of ``grid``.

    It is that of the first channel.
    """
    region = without_border(scan.volume)
    transform = GridTransform(scan.affine, scan.volume.shape, grid.shape, grid.spacing)
    canonical = [math.floor(m * f + 1e-3) for m, f in zip(grid.shape, transform.factors, strict=True)]
    sizes = [canonical[int(axis)] for axis in transform.orientation[:, 0]]
    inner = around_content(scan.volume[region], sizes)
    parts = zip(region, inner, strict=True)
    return tuple(slice(whole.start + part.start, whole.start + part.stop) for whole, part in parts)


def cropped(scan: Nifti, region: Region) -> Nifti:
    """The part of a scan, at the same place in space."""
    affine = scan.affine.copy()
    affine[:-1, -1] += scan.affine[:-1, :-1] @ [part.start for part in region]
    return Nifti(scan.volume[region], affine, tuple(channel[region] for channel in scan.others))
