"""A first look at the training scans: a grid for the network where none is chosen, and the numbers in the label maps.

The grid: voxels of the median spacing, and the smallest shape (a multiple of 8 along each axis) that holds, about the
centres of the scans, all that is labelled and the foreground of 95 % of them. Where that has more than a million voxels
(a quarter of a million in 2D; ``data.max_voxels`` sets another limit), the finest axes are made coarser, all to the
same voxel size, until it has not; an axis that is coarser than that stays as it is.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import nibabel as nib
import numpy as np

from deepatlas_tf.datasets.listing import ListedScan
from deepatlas_tf.messages import progress
from deepatlas_tf.scans import checks, nifti
from deepatlas_tf.types import DataError, SettingError

MAX_VOXELS = {2: 2**18, 3: 2**20}
MULTIPLE = 8  # the networks halve the grid three times or more
COVERED = 95  # per cent of the scans
DARK = 0.01  # of the 99.5 percentile; below is air, also where a resampled scan rings


class Fingerprint(NamedTuple):
    """What ``choose_grid`` needs to know of N scans, in canonical order of axes.

    spacings (N, D): voxel sizes in mm. foreground, anatomy (N, D): size in mm of the box about the centre that holds
    what is not air, and what has a label (0 where there is no label map). numbers: all that occur in label maps.
    """

    spacings: np.ndarray
    foreground: np.ndarray
    anatomy: np.ndarray
    numbers: frozenset[int]


def common_axes(scans: Sequence[ListedScan]) -> int:
    """How many axes the images have: 3, or 2 where all are slices. Raises DataError where there are both."""
    axes = {scan.subject: nifti.count_axes(scan.image, scan.subject) for scan in scans}
    slices = [scan for scan in scans if axes[scan.subject] == 2]
    if slices and len(slices) < len(scans):
        raise DataError(
            f"subject {slices[0].subject}: {slices[0].image} is a slice, but others are volumes; remove one kind"
        )
    return 2 if slices else 3


def fingerprint(scans: Sequence[ListedScan], n_axes: int, ignore: int | None = None) -> Fingerprint:
    """What is in the scans, each read once. Raises DataError for the first that cannot be used.

    ``ignore``: the number in label maps that is no anatomy.
    """
    found, numbers = [], set()
    for scan in progress(scans, desc="looking at the scans", unit="scan"):
        image = nifti.read_image(scan.image, scan.subject, n_axes)
        order = np.argsort(nib.io_orientation(image.affine)[:, 0])  # canonical axis -> axis of the file
        spacing = nib.affines.voxel_sizes(image.affine)
        anatomy = np.zeros(n_axes)
        if scan.label is not None:
            label = nifti.read_label(scan.label, scan.subject, n_axes)
            checks.check_same_grid(scan.subject, (scan.image, image), (scan.label, label))
            checks.check_not_negative(scan.subject, scan.label, label.volume)
            numbers |= set(np.unique(label.volume).tolist())
            anatomy = _central_box((label.volume != 0) & (label.volume != ignore)) * spacing
        box = _central_box(_foreground(image.volume)) * spacing
        found.append([sizes[order] for sizes in (spacing, box, anatomy)])
    spacings, foreground, anatomy = np.stack(found, axis=1)
    return Fingerprint(spacings, foreground, anatomy, frozenset(numbers))


class WantedGrid(NamedTuple):
    """What is asked for: shape (D,), spacing (D,) in mm; what is None is chosen, with at most so many voxels."""

    shape: tuple[int, ...] | None = None
    spacing: tuple[float, ...] | None = None
    max_voxels: int | None = None


ANY = WantedGrid()


def choose_grid(found: Fingerprint, wanted: WantedGrid = ANY) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """The (shape, spacing in mm) by the rule of this module.

    For a given shape the spacing is the median, made coarser until the shape holds the foreground. A given shape or
    spacing may have any number of voxels.
    """
    shape, spacing, most_voxels = wanted
    fewest = (2 * MULTIPLE) ** found.spacings.shape[1]
    if most_voxels is not None and most_voxels < fewest:
        raise SettingError(f"data.max_voxels={most_voxels}: a grid has {fewest} voxels at least")
    most = np.percentile(found.foreground, COVERED, axis=0, method="inverted_cdf")
    extent = np.maximum(most, found.anatomy.max(axis=0))
    median = np.array([float(f"{value:.4g}") for value in np.median(found.spacings, axis=0)])
    if spacing is not None:
        return _shape(extent, np.asarray(spacing)), tuple(spacing)
    if shape is not None:
        needed = extent / np.asarray(shape)
        too_fine = needed > median
        least = _round_up(needed[too_fine].max()) if too_fine.any() else 0
        return tuple(shape), tuple(np.maximum(median, least).tolist())
    least = median.min()
    while math.prod(_shape(extent, np.maximum(median, least))) > (most_voxels or MAX_VOXELS[len(median)]):
        least = _round_up(least * 1.001)
    chosen = np.maximum(median, least)
    return _shape(extent, chosen), tuple(chosen.tolist())


def _foreground(image: np.ndarray) -> np.ndarray:
    darkest = image.min()
    return image > darkest + DARK * (np.percentile(image, 99.5) - darkest)


def _central_box(inside: np.ndarray) -> np.ndarray:
    """The size (D,) in voxels of the smallest box about the centre of the volume (*S) that holds all of ``inside``."""
    sizes = []
    for axis, n in enumerate(inside.shape):
        places = np.flatnonzero(inside.any(axis=tuple(k for k in range(inside.ndim) if k != axis)))
        sizes.append(max(n - 2 * places[0], 2 * places[-1] - n + 2) if len(places) else 0)
    return np.array(sizes)


def _shape(extent: np.ndarray, spacing: np.ndarray) -> tuple[int, ...]:
    voxels = np.ceil(extent / spacing - 1e-2)  # a hundredth of a voxel is rounding
    return tuple(int(n) for n in np.maximum(np.ceil(voxels / MULTIPLE), 2) * MULTIPLE)


def _round_up(value: float) -> float:
    """The value rounded up to two significant digits."""
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / step - 1e-9) * step:.2g}")
