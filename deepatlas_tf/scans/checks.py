"""What a scan and its label map must fulfil. Each check raises DataError with one line naming subject and file."""

from collections.abc import Collection, Mapping
from pathlib import Path

import nibabel as nib
import numpy as np

from deepatlas_tf.types import DataError

# How far a label map's voxel may lie from the image's, in voxels. Affines pass through float32, text with three
# decimals, and the unit quaternion of the qform, whose fourth number is the root of what the others leave: of 8,000
# random rotations of 256 x 256 x 200 voxels 99.9 % come back within 0.08 voxels. Real mistakes begin at half a voxel.
AFFINE_TOLERANCE = 0.1
INTEGER_TOLERANCE = 1e-3  # stored scale factors leave 3 as 2.9999998
MIN_AXES_VOLUME = 1e-6  # of the axes' unit vectors; where it is less, two of them are parallel


def check_voxel_sizes(subject: str, path: Path, sizes: np.ndarray) -> None:
    """``sizes`` (D,) as stored in the header, mm: none is zero or negative."""
    if not (sizes > 0).all():
        shown = " x ".join(f"{size:g}" for size in sizes)
        raise DataError(f"subject {subject}: {path} has voxels of {shown} mm; repair the voxel size in its header")


def check_type(subject: str, path: Path, dtype: np.dtype) -> None:
    """Real numbers: neither colours nor complex."""
    if dtype.fields is not None:
        raise DataError(
            f"subject {subject}: {path} holds colours ({'+'.join(dtype.fields)}); convert it to grey values"
        )
    if not (np.issubdtype(dtype, np.integer) or np.issubdtype(dtype, np.floating)):
        raise DataError(f"subject {subject}: {path} holds {dtype} values; save the magnitude of each as a real number")


def check_grid(subject: str, path: Path, volume: np.ndarray, affine: np.ndarray, n_axes: int = 3) -> None:
    """Volume (*S) with ``n_axes`` axes, not empty; affine (n_axes+1, n_axes+1) with voxels of positive size."""
    if volume.ndim != n_axes or volume.size == 0:
        needed = f"one {'3D volume' if n_axes == 3 else '2D slice'} is needed"
        if volume.ndim > 3:  # time points, channels, directions
            needed += "; split it into one file for each (nibabel.four_to_three)"
        raise DataError(f"subject {subject}: {path} has shape {volume.shape}; {needed}")
    axes = affine[:-1, :-1]
    sizes = np.linalg.norm(axes, axis=0)
    if not np.isfinite(affine).all() or not sizes.all() or abs(np.linalg.det(axes / sizes)) < MIN_AXES_VOLUME:
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


def check_not_negative(subject: str, path: Path, label: np.ndarray) -> None:
    """Label numbers start at 0."""
    if label.size and label.min() < 0:
        raise DataError(f"subject {subject}: label map {path} has the number {label.min()}; numbers start at 0")


def check_values(subject: str, path: Path, label: np.ndarray, declared: Collection[int]) -> None:
    """Only declared label numbers."""
    unknown = sorted(set(np.unique(label).tolist()) - set(declared))
    if unknown:
        shown = ", ".join(map(str, unknown[:5])) + (", ..." if len(unknown) > 5 else "")
        raise DataError(f"subject {subject}: label map {path} has numbers the data set does not declare: {shown}")


def check_same_grid(subject: str, image, label) -> None:
    """``image`` and ``label`` are (path, Nifti); same shape, and no voxel further than AFFINE_TOLERANCE apart."""
    (image_path, image), (label_path, label) = image, label
    if image.volume.shape != label.volume.shape:
        raise DataError(
            f"subject {subject}: label map {label_path} has shape {label.volume.shape}, "
            f"image {image_path} {image.volume.shape}; both must be on one grid"
        )
    voxels, millimetres = grid_distance(image.affine, label.affine, image.volume.shape)
    if voxels > AFFINE_TOLERANCE:
        raise DataError(
            f"subject {subject}: label map {label_path} and image {image_path} have different affines "
            f"(up to {millimetres:.3g} mm or {voxels:.3g} voxels apart); both must be on one grid"
        )


def grid_distance(affine: np.ndarray, other: np.ndarray, shape: tuple[int, ...]) -> tuple[float, float]:
    """How far apart two affines (D+1, D+1) put a voxel of a volume (*S): the most, in voxels of ``affine`` and in mm.

    Affine maps differ most at a corner.
    """
    corners = np.stack(np.meshgrid(*[(0, n - 1) for n in shape], indexing="ij"), -1).reshape(-1, len(shape))
    apart = nib.affines.apply_affine(other, corners) - nib.affines.apply_affine(affine, corners)  # (2**D, D) mm
    in_voxels = np.linalg.solve(affine[:-1, :-1], apart.T)
    return float(np.abs(in_voxels).max()), float(np.linalg.norm(apart, axis=1).max())


def check_new(subject: str, path: Path, known: Mapping[str, Path]) -> None:
    """No subject twice; ``known`` are the files found so far."""
    if subject in known:
        raise DataError(f"subject {subject} occurs twice: {known[subject]} and {path}; remove one")
