"""What a scan and its label map must fulfil. Each check raises DataError with one line naming subject and file."""

from collections.abc import Collection, Mapping
from pathlib import Path

import nibabel as nib
import numpy as np

from deepatlas_tf.types import DataError

AFFINE_TOLERANCE_MM = 1e-3  # affines pass through float32 headers and quaternions
INTEGER_TOLERANCE = 1e-3  # stored scale factors leave 3 as 2.9999998


def check_voxel_sizes(subject: str, path: Path, sizes: np.ndarray) -> None:
    """``sizes`` (3,) as stored in the header, mm: none is zero or negative."""
    if (sizes <= 0).any():
        shown = " x ".join(f"{size:g}" for size in sizes)
        raise DataError(f"subject {subject}: {path} has voxels of {shown} mm; repair the voxel size in its header")


def check_grid(subject: str, path: Path, volume: np.ndarray, affine: np.ndarray) -> None:
    """3D, not empty, voxels of positive size."""
    if volume.ndim != 3 or volume.size == 0:
        raise DataError(f"subject {subject}: {path} has shape {volume.shape}; one 3D volume is needed")
    if not np.isfinite(affine).all() or np.abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise DataError(f"subject {subject}: {path} has an affine without a valid voxel size; repair its header")


def check_image(subject: str, path: Path, volume: np.ndarray) -> None:
    """Finite and not constant."""
    bad = volume.size - int(np.isfinite(volume).sum())
    if bad:
        raise DataError(f"subject {subject}: {path} has {bad} voxels that are NaN or infinite; export it again")
    if volume.min() == volume.max():
        raise DataError(
            f"subject {subject}: {path} is constant ({volume.min():g} everywhere); remove it or export it again"
        )


def check_integers(subject: str, path: Path, label: np.ndarray) -> None:
    """Whole numbers; a floating-point file may hold them."""
    bad = ~np.isfinite(label) | (np.abs(np.nan_to_num(label) - np.rint(np.nan_to_num(label))) > INTEGER_TOLERANCE)
    if bad.any():
        raise DataError(
            f"subject {subject}: label map {path} has values that are not integers (such as {label[bad][0]:g}); "
            "resample label maps with nearest neighbours"
        )


def check_values(subject: str, path: Path, label: np.ndarray, declared: Collection[int]) -> None:
    """Only declared label numbers."""
    unknown = sorted(set(np.unique(label).tolist()) - set(declared))
    if unknown:
        shown = ", ".join(map(str, unknown[:5])) + (", ..." if len(unknown) > 5 else "")
        raise DataError(f"subject {subject}: label map {path} has numbers the data set does not declare: {shown}")


def check_same_grid(subject: str, image, label) -> None:
    """``image`` and ``label`` are (path, Nifti); same shape and, within tolerance over the volume, same affine."""
    (image_path, image), (label_path, label) = image, label
    if image.volume.shape != label.volume.shape:
        raise DataError(
            f"subject {subject}: label map {label_path} has shape {label.volume.shape}, "
            f"image {image_path} {image.volume.shape}; both must be on one grid"
        )
    # distance in mm between where the two affines put the corners of the volume
    corners = np.stack(np.meshgrid(*[(0, n - 1) for n in image.volume.shape], indexing="ij"), -1).reshape(-1, 3)
    distance = np.abs(nib.affines.apply_affine(image.affine - label.affine, corners)).max()
    if distance > AFFINE_TOLERANCE_MM:
        raise DataError(
            f"subject {subject}: label map {label_path} and image {image_path} have different affines "
            f"(up to {distance:.3g} mm apart); both must be on one grid"
        )


def check_new(subject: str, path: Path, known: Mapping[str, Path]) -> None:
    """No subject twice; ``known`` are the files found so far."""
    if subject in known:
        raise DataError(f"subject {subject} occurs twice: {known[subject]} and {path}; remove one")
