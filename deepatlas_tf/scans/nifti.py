"""Reading and writing NIfTI files. What cannot be used stops here, with one line naming subject and file."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np

from deepatlas_tf import messages
from deepatlas_tf.scans import checks, headers
from deepatlas_tf.types import DataError


class Nifti(NamedTuple):
    """A scan or label map in memory.

    volume (X, Y, Z) in the file's own order of axes; affine (4, 4) float64, voxels to mm. For a slice they are (X, Y)
    and (3, 3): the affine leaves out the world axis that the slice's normal is closest to, and the plane is turned into
    the other two. others: the further channels of a scan, volumes on the same grid; where a scan lies and where its
    anatomy is, is found in its first channel, ``volume``.
    """

    volume: np.ndarray
    affine: np.ndarray
    others: tuple[np.ndarray, ...] = ()

    @property
    def channels(self) -> tuple[np.ndarray, ...]:
        """All channels, each a volume (X, Y, Z)."""
        return (self.volume, *self.others)


def read_image(path: Path, subject: str, n_axes: int = 3, warn: Callable[[str], None] = messages.warn) -> Nifti:
    """Read a scan as float32.

    Args:
        path: the file.
        subject: who it is, for messages.
        n_axes: 2 takes a slice, stored as (X, Y) or with an axis of one voxel.
        warn: is given a line where the file leaves in doubt where the scan lies (``headers.form_problem``).

    Raises:
        DataError: the file cannot be read or is shorter than its header declares; it has other axes, no plausible voxel
            size, units other than mm, or values that are constant, not finite or no real numbers.
    """
    image, affine = _open(path, subject, n_axes, warn)
    volume = _array(path, subject, n_axes, lambda: np.asarray(image.dataobj, dtype=np.float32))
    checks.check_image(subject, path, volume)
    return Nifti(volume, affine)


def read_values(path: Path, subject: str, n_axes: int = 3, warn: Callable[[str], None] = messages.warn) -> Nifti:
    """Read a map of any values as float32, such as one of statistics.

    Arguments and errors are those of ``read_image``, but that it may be constant, and NaN where it has no value.
    """
    image, affine = _open(path, subject, n_axes, warn)
    return Nifti(_array(path, subject, n_axes, lambda: np.asarray(image.dataobj, dtype=np.float32)), affine)


def read_label(path: Path, subject: str, n_axes: int = 3, warn: Callable[[str], None] = messages.warn) -> Nifti:
    """Read a label map as int32, or as int64 where a number needs it. Integers are never rounded.

    Arguments and errors are those of ``read_image``, but that a label map may be constant. Raises DataError where a
    value is not an integer; a file of floating-point numbers may hold integers.
    """
    image, affine = _open(path, subject, n_axes, warn)
    values = _array(path, subject, n_axes, lambda: _exact_values(image))
    return Nifti(checks.whole_numbers(subject, path, values), affine)


def count_axes(path: Path, subject: str) -> int:
    """2 for a slice, as ``read_image`` takes it, else 3; from the header. Raises DataError where it cannot be read."""
    try:
        shape = headers.open_checked(path, subject).shape
    except DataError:
        raise
    except Exception as error:
        raise _unreadable(path, subject, error) from error
    return 2 if len(shape) == 2 or 1 in shape[:3] else 3


def form_problem(path: Path) -> str | None:
    """What is doubtful about where a file's scan lies (see ``headers.form_problem``); None where it cannot be read."""
    try:
        return headers.form_problem(headers.open_checked(path, ""))
    except Exception:  # reading the file says what is wrong with it
        return None


def save(path: Path, volume: np.ndarray, affine: np.ndarray, header: nib.Nifti1Header | None = None) -> None:
    """Write what :func:`image_of` makes of these."""
    nib.save(image_of(volume, affine, header), path)


def image_of(volume: np.ndarray, affine: np.ndarray, header: nib.Nifti1Header | None = None) -> nib.Nifti1Image:
    """The image of ``volume`` (X, Y, Z, ...) with ``affine`` as both its qform and its sform.

    ``header`` (of the scan) gives the code of space and the units. A slice (X, Y, ...) with a (3, 3) affine gets back
    the singleton axis and the affine of ``header``, or lies in the plane z = 0 without one. The data type is the
    volume's own, except integers of 64 bits, which many viewers do not read: they become 32 bits where they fit.
    """
    volume = _as_32_bits(volume) if volume.dtype in (np.int64, np.uint64) else volume
    if len(affine) == 3:
        volume, affine = _slice_in_space(volume, affine, header)
    image = nib.Nifti1Image(volume, affine, header, dtype=volume.dtype)
    image.set_data_dtype(volume.dtype)
    image.header.set_slope_inter(1, 0)
    headers.set_forms(image, affine, header)
    return image


def _open(
    path: Path, subject: str, n_axes: int, warn: Callable[[str], None]
) -> tuple[nib.spatialimages.SpatialImage, np.ndarray]:
    """The image, of which no voxel is read, and the affine of the volume or slice."""
    try:
        image = headers.open_checked(path, subject)
        # an array of this shape that takes no memory
        volume, affine = _on_axes(np.broadcast_to(np.uint8(0), image.shape), np.array(image.affine, float), n_axes)
        checks.check_grid(subject, path, volume, affine, n_axes)
        headers.check_size(path, subject, image)
    except DataError:
        raise
    except Exception as error:  # nibabel, gzip and zlib raise a dozen kinds for a damaged file
        raise _unreadable(path, subject, error) from error
    problem = headers.form_problem(image)
    if problem:
        warn(f"subject {subject}: {path} {problem}")
    return image, affine


def _array(path: Path, subject: str, n_axes: int, read: Callable[[], np.ndarray]) -> np.ndarray:
    try:
        with np.errstate(all="ignore"):  # what overflows is found by the checks that follow
            values = read()
    except Exception as error:
        raise _unreadable(path, subject, error) from error
    return _on_axes(values, np.eye(4), n_axes)[0]


def _exact_values(image: nib.spatialimages.SpatialImage) -> np.ndarray:
    """Integers as they are stored, also where whole scale factors apply; other values as floating-point numbers."""
    proxy, dtype = image.dataobj, image.get_data_dtype()
    slope, offset = getattr(proxy, "slope", 1.0), getattr(proxy, "inter", 0.0)
    if dtype.kind == "f":
        return np.asarray(proxy, np.float32 if dtype.itemsize <= 4 and (slope, offset) == (1, 0) else np.float64)
    if not (hasattr(proxy, "get_unscaled") and float(slope).is_integer() and float(offset).is_integer()):
        return np.asarray(proxy, np.float64)
    stored = np.asarray(proxy.get_unscaled())
    if (slope, offset) == (1, 0):
        return stored
    ends = [int(end) * int(slope) + int(offset) for end in (stored.min(), stored.max())]
    fits = all(abs(end) < 2**63 for end in ends) and stored.max() < 2**63
    return stored.astype(np.int64) * int(slope) + int(offset) if fits else np.asarray(proxy, np.float64)


def _unreadable(path: Path, subject: str, error: Exception) -> DataError:
    if isinstance(error, FileNotFoundError | PermissionError):
        return DataError(
            f"subject {subject}: cannot read {path} ({error.strerror or error}); check path and permissions"
        )
    if isinstance(error, nib.filebasedimages.ImageFileError) and not path.name.endswith((".nii", ".nii.gz")):
        how = "docs/troubleshooting.md, Other file formats"
        return DataError(f"subject {subject}: {path} is no NIfTI file; convert it to .nii.gz ({how})")
    reason = " ".join(str(error).split()) or type(error).__name__
    return DataError(f"subject {subject}: cannot read {path} ({reason}); download or export it again")


def _on_axes(volume: np.ndarray, affine: np.ndarray, n_axes: int) -> tuple[np.ndarray, np.ndarray]:
    """The volume without axes of one voxel behind its third, and as a slice where ``n_axes`` is 2."""
    while volume.ndim > 3 and volume.shape[-1] == 1:
        volume = volume[..., 0]
    return _as_slice(volume, affine) if n_axes == 2 else (volume, affine)


def _as_slice(volume: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A slice (X, Y) and its (3, 3) affine, of (X, Y) or a volume with an axis of one voxel; others stay unchanged."""
    flat = [axis for axis, n in enumerate(volume.shape) if n == 1] if volume.ndim == 3 else [2]
    if volume.ndim > 3 or not flat:
        return volume, affine
    kept = [axis for axis in range(3) if axis != flat[-1]]
    columns = affine[:3, kept]
    sizes = np.linalg.norm(columns, axis=0)
    away = np.abs(np.cross(columns[:, 0], columns[:, 1])).argmax()
    rows = [axis for axis in range(3) if axis != away]
    # the rotation (or reflection) nearest to the projected axes, so that an oblique slice keeps its voxel sizes
    left, _, right = np.linalg.svd(columns[rows] / np.where(sizes > 0, sizes, 1))
    plane = np.eye(3)
    plane[:2, :2] = left @ right * sizes
    plane[:2, 2] = affine[rows, 3]
    return volume.squeeze(flat[-1]) if volume.ndim == 3 else volume, plane


def _slice_in_space(
    volume: np.ndarray, affine: np.ndarray, header: nib.Nifti1Header | None
) -> tuple[np.ndarray, np.ndarray]:
    if header is not None:
        shape = (*header.get_data_shape(), 1, 1)[:3]
        return volume.reshape(*shape, *volume.shape[2:]), header.get_best_affine()
    full = np.eye(4)
    full[:2, :2], full[:2, 3] = affine[:2, :2], affine[:2, 2]
    return volume[:, :, None], full


def _as_32_bits(volume: np.ndarray) -> np.ndarray:
    low, high = (int(volume.min()), int(volume.max())) if volume.size else (0, 0)
    kinds = (kind for kind in (np.int32, np.uint32) if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)
    return volume.astype(next(kinds, volume.dtype))
