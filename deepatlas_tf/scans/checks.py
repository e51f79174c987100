"""What a scan and its label map must fulfil. Each check raises DataError with one line naming subject and file."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from deepatlas_tf.types import DataError

# How far a label map's voxel may lie from the image's, in voxels. Affines pass through float32, text with three
# decimals, and the unit quaternion of the qform, whose fourth number is the root of what the others leave: of 8,000
# random rotations of 256 x 256 x 200 voxels 99.9 % come back within 0.08 voxels. Real mistakes begin at half a voxel.
AFFINE_TOLERANCE = 0.1
INTEGER_TOLERANCE = 1e-3  # stored scale factors leave 3 as 2.9999998
# What a scan can be: from a microscope to a whole body, anywhere in a scanner's room
MIN_VOXEL_MM, MAX_VOXEL_MM, MAX_SIDE_MM, MAX_VOLUME_MM3, MAX_ORIGIN_MM = 1e-4, 50.0, 2500.0, 1e9, 1e5
MIN_AXES_VOLUME = 1e-6  # of the axes' unit vectors; where it is less, two of them are parallel


def check_voxel_sizes(subject: str, path: Path, sizes: np.ndarray) -> None:
    """Raise DataError where one of the ``sizes`` (D,), mm, as stored in the header, is not positive."""
    if not (sizes > 0).all():
        shown = " x ".join(f"{size:g}" for size in sizes)
        raise DataError(f"subject {subject}: {path} has voxels of {shown} mm; repair the voxel size in its header")


def check_type(subject: str, path: Path, dtype: np.dtype) -> None:
    """Raise DataError for colours and complex numbers: values must be real numbers."""
    if dtype.fields is not None:
        raise DataError(
            f"subject {subject}: {path} holds colours ({'+'.join(dtype.fields)}); convert it to grey values"
        )
    if not (np.issubdtype(dtype, np.integer) or np.issubdtype(dtype, np.floating)):
        raise DataError(f"subject {subject}: {path} holds {dtype} values; save the magnitude of each as a real number")


def check_grid(subject: str, path: Path, volume: np.ndarray, affine: np.ndarray, n_axes: int = 3) -> None:
    """Raise DataError for a volume (*S) or affine (n_axes+1, n_axes+1), voxels to mm, that no scan can have.

    The volume must have ``n_axes`` axes and not be empty. Of the affine the voxel size, what the scan covers and where
    it lies must be plausible.
    """
    if volume.ndim != n_axes or volume.size == 0:
        needed = f"one {'3D volume' if n_axes == 3 else '2D slice'} is needed"
        if volume.ndim > 3:  # time points, channels, directions
            needed += "; split it into one file for each (nibabel.four_to_three)"
        raise DataError(f"subject {subject}: {path} has shape {volume.shape}; {needed}")
    axes = affine[:-1, :-1]
    sizes = np.linalg.norm(axes, axis=0)
    if not np.isfinite(affine).all() or not sizes.all() or abs(np.linalg.det(axes / sizes)) < MIN_AXES_VOLUME:
        raise DataError(f"subject {subject}: {path} has an affine without a valid voxel size; repair its header")
    covered = sizes * volume.shape
    if sizes.min() < MIN_VOXEL_MM or sizes.max() > MAX_VOXEL_MM:
        reason = f"voxels of {_by_x(sizes)} mm"
    elif covered.max() > MAX_SIDE_MM or covered.prod() > MAX_VOLUME_MM3:
        reason = f"voxels of {_by_x(sizes)} mm that cover {_by_x(covered)} mm"
    elif np.abs(affine[:-1, -1]).max() > MAX_ORIGIN_MM:
        reason = f"its first voxel at {', '.join(f'{x:.3g}' for x in affine[:-1, -1])} mm"
    else:
        return
    raise DataError(f"subject {subject}: {path} has {reason}, which no scan has; repair its header (sizes in mm)")


def check_image(subject: str, path: Path, volume: np.ndarray) -> None:
    """Raise DataError for an image (*S) with values that are not finite, or all the same."""
    bad = volume.size - int(np.isfinite(volume).sum())
    if bad:
        voxels = "1 voxel that is" if bad == 1 else f"{bad} voxels that are"
        raise DataError(f"subject {subject}: {path} has {voxels} NaN or infinite; export it again")
    if volume.min() == volume.max():
        raise DataError(
            f"subject {subject}: {path} is constant ({volume.min():g} everywhere); remove it or export it again"
        )


def whole_numbers(subject: str, path: Path, label: np.ndarray) -> np.ndarray:
    """The label map (*S) as int32, or int64 where a number needs it; DataError where a value is no integer.

    Integers are not rounded on the way. Floating-point numbers may be INTEGER_TOLERANCE away from an integer.
    """
    if label.dtype.kind == "f":
        _check_integers(subject, path, label)
        label = np.rint(label)
    low, high = (int(label.min()), int(label.max())) if label.size else (0, 0)
    if max(abs(low), abs(high)) >= 2**63:
        raise DataError(f"subject {subject}: label map {path} has a number that is too large ({max(-low, high)})")
    return label.astype(np.int32 if -(2**31) <= low and high < 2**31 else np.int64)


def _check_integers(subject: str, path: Path, label: np.ndarray) -> None:
    bad = ~np.isfinite(label) | (np.abs(np.nan_to_num(label) - np.rint(np.nan_to_num(label))) > INTEGER_TOLERANCE)
    if bad.any():
        raise DataError(
            f"subject {subject}: label map {path} has values that are not integers (such as {label[bad][0]:g}); "
            "resample label maps with nearest neighbours"
        )


def check_not_negative(subject: str, path: Path, label: np.ndarray) -> None:
    """Raise DataError where a number in the label map (*S) is below 0."""
    if label.size and label.min() < 0:
        raise DataError(f"subject {subject}: label map {path} has the number {label.min()}; numbers start at 0")


def check_values(
    subject: str,
    path: Path,
    label: np.ndarray,
    declared: Collection[int],
    others: str = "numbers the data set does not declare",
) -> None:
    """Raise DataError where the label map (*S) has a number not ``declared``; ``others``: what the message calls it."""
    unknown = sorted(set(np.unique(label).tolist()) - set(declared))
    if unknown:
        raise DataError(f"subject {subject}: label map {path} has {others}: {some_numbers(unknown)}")


def some_numbers(numbers: Sequence[int], n: int = 8) -> str:
    """``4, 11, 15 and 6 more``: the first ``n`` of the numbers and how many are left."""
    rest = len(numbers) - n
    return ", ".join(map(str, numbers[:n])) + (f" and {rest} more" if rest > 0 else "")


def check_not_ignored(subject: str, path: Path, label: np.ndarray, ignore: int | None) -> None:
    """Raise DataError where all voxels of the label map (*S) have the number ``ignore``."""
    if ignore is not None and (label == ignore).all():
        raise DataError(f"subject {subject}: all voxels of label map {path} are ignored ({ignore}); leave it out")


def check_same_grid(subject: str, image: tuple[Path, Any], other: tuple[Path, Any], kind: str = "label map") -> None:
    """Raise DataError where two files do not lie on one grid; ``image`` and ``other`` are (path, Nifti) each.

    They must have one shape, and no voxel may lie further apart than AFFINE_TOLERANCE. ``kind``: what the message calls
    the other file.
    """
    (image_path, image_grid), (other_path, other_grid) = image, other
    if image_grid.volume.shape != other_grid.volume.shape:
        raise DataError(
            f"subject {subject}: {kind} {other_path} has shape {other_grid.volume.shape}, "
            f"image {image_path} {image_grid.volume.shape}; both must be on one grid"
        )
    voxels, millimetres = grid_distance(image_grid.affine, other_grid.affine, image_grid.volume.shape)
    if voxels > AFFINE_TOLERANCE:
        raise DataError(
            f"subject {subject}: {kind} {other_path} and image {image_path} have different affines "
            f"(up to {millimetres:.3g} mm or {voxels:.3g} voxels apart); both must be on one grid"
        )


def grid_distance(affine: np.ndarray, other: np.ndarray, shape: tuple[int, ...]) -> tuple[float, float]:
    """The largest distance between where two affines (D+1, D+1) put a voxel of a volume (*S).

    It is given in voxels of ``affine`` and in mm, and found at a corner, where affine maps differ most.
    """
    corners = np.stack(np.meshgrid(*[(0, n - 1) for n in shape], indexing="ij"), -1).reshape(-1, len(shape))
    apart = nib.affines.apply_affine(other, corners) - nib.affines.apply_affine(affine, corners)  # (2**D, D) mm
    in_voxels = np.linalg.solve(affine[:-1, :-1], apart.T)
    return float(np.abs(in_voxels).max()), float(np.linalg.norm(apart, axis=1).max())


def check_new(subject: str, path: Path, known: Mapping[str, Path]) -> None:
    """Raise DataError where the subject is among the ``known``, whose files were found before."""
    if subject in known:
        raise DataError(f"subject {subject} occurs twice: {known[subject]} and {path}; remove one")


def _by_x(values: np.ndarray) -> str:
    return " x ".join(f"{value:.3g}" for value in values)
