"""Reading and writing NIfTI files. What cannot be used stops here, with one line naming subject and file."""

import gzip
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np

from deepatlas_tf.scans import checks
from deepatlas_tf.types import DataError


class Nifti(NamedTuple):
    """volume (X, Y, Z) in the file's own order of axes; affine (4, 4) float64, voxels to mm. A slice: (X, Y), (3, 3).

    A slice's affine leaves out the world axis that its normal is closest to; the plane is turned into the other two.
    """

    volume: np.ndarray
    affine: np.ndarray


def read_image(path: Path, subject: str, n_axes: int = 3) -> Nifti:
    """A scan, float32. ``n_axes`` 2 takes a slice, stored as (X, Y) or with an axis of one voxel.

    Raises DataError where it cannot be read, has other axes, is not finite, constant, or has no voxel size.
    """
    volume, affine = _read(path, subject, n_axes)
    checks.check_image(subject, path, volume)
    return Nifti(volume, affine)


def read_label(path: Path, subject: str, n_axes: int = 3) -> Nifti:
    """A label map, int32. Raises DataError as ``read_image`` does, and where a value is not an integer."""
    volume, affine = _read(path, subject, n_axes)
    checks.check_integers(subject, path, volume)
    return Nifti(np.rint(volume).astype(np.int32), affine)


def count_axes(path: Path, subject: str) -> int:
    """2 for a slice, as ``read_image`` takes it, else 3; from the header. Raises DataError where it cannot be read."""
    try:
        _verify_spacing(path, subject)
        shape = nib.load(path).shape
    except DataError:
        raise
    except Exception as error:
        raise _unreadable(path, subject, error) from error
    return 2 if len(shape) == 2 or 1 in shape[:3] else 3


def save(path: Path, volume: np.ndarray, affine: np.ndarray, header: nib.Nifti1Header | None = None) -> None:
    """Write ``volume`` (X, Y, Z, ...) with ``affine``; ``header`` (of the scan) keeps its units and codes of space.

    A slice (X, Y, ...) with a (3, 3) affine gets back the singleton axis and the affine of ``header``, or lies in the
    plane z = 0 without one. The data type written is the volume's own, except int64, which viewers do not read: it
    becomes int32.
    """
    volume = volume.astype(np.int32) if volume.dtype == np.int64 else volume
    if len(affine) == 3:
        volume, affine = _slice_in_space(volume, affine, header)
    image = nib.Nifti1Image(volume, affine, header)
    image.set_data_dtype(volume.dtype)
    image.header.set_slope_inter(1, 0)
    nib.save(image, path)


def _read(path: Path, subject: str, n_axes: int) -> tuple[np.ndarray, np.ndarray]:
    try:
        _verify_gzip(path)
        _verify_spacing(path, subject)
        image = nib.load(path)
        checks.check_type(subject, path, image.get_data_dtype())
        # float32 holds every integer up to 2**24, more than any label file has; scale factors are applied by nibabel
        volume = np.asarray(image.dataobj, dtype=np.float32)
        affine = np.array(image.affine, np.float64)
    except DataError:
        raise
    except Exception as error:  # nibabel, gzip and zlib raise a dozen kinds for a damaged file
        raise _unreadable(path, subject, error) from error
    while volume.ndim > 3 and volume.shape[-1] == 1:
        volume = volume[..., 0]
    if n_axes == 2:
        volume, affine = _as_slice(volume, affine)
    checks.check_grid(subject, path, volume, affine, n_axes)
    return volume, affine


def _unreadable(path: Path, subject: str, error: Exception) -> DataError:
    if isinstance(error, FileNotFoundError | PermissionError):
        return DataError(
            f"subject {subject}: cannot read {path} ({error.strerror or error}); check path and permissions"
        )
    reason = " ".join(str(error).split()) or type(error).__name__
    return DataError(f"subject {subject}: cannot read {path} ({reason}); download or export it again")


def _verify_gzip(path: Path) -> None:
    """Read to the end: nibabel stops at the last voxel and leaves the checksum behind it unread."""
    if path.name.endswith(".gz"):
        with gzip.open(path) as file:
            while file.read(1 << 24):
                pass


def _verify_spacing(path: Path, subject: str) -> None:
    """nibabel reads a voxel size of 0 as 1 mm and a negative one as positive: only the stored header shows them."""
    with nib.openers.ImageOpener(path) as file:
        start = file.read(nib.Nifti2Header.sizeof_hdr)
    for kind in (nib.Nifti1Header, nib.Nifti2Header):
        if kind.may_contain_header(start):
            header = kind(start[: kind.sizeof_hdr], check=False)
            if header["sform_code"] == 0:  # otherwise the affine does not come from these sizes
                n_axes = min(3, int(header["dim"][0]))  # a file of one slice need not say how thick it is
                checks.check_voxel_sizes(subject, path, header["pixdim"][1 : 1 + n_axes])


def _as_slice(volume: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(X, Y) and its (3, 3) affine, from (X, Y) or a volume with an axis of one voxel; others are left as they are."""
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


def _slice_in_space(volume, affine, header) -> tuple[np.ndarray, np.ndarray]:
    if header is not None:
        shape = (*header.get_data_shape(), 1, 1)[:3]
        return volume.reshape(*shape, *volume.shape[2:]), header.get_best_affine()
    full = np.eye(4)
    full[:2, :2], full[:2, 3] = affine[:2, :2], affine[:2, 2]
    return volume[:, :, None], full
