"""Reading and writing NIfTI files. What cannot be used stops here, with one line naming subject and file."""

import gzip
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np

from deepatlas_tf.data import checks
from deepatlas_tf.types import DataError


class Nifti(NamedTuple):
    """volume (X, Y, Z) in the file's own order of axes; affine (4, 4) float64, voxels to mm."""

    volume: np.ndarray
    affine: np.ndarray


def read_image(path: Path, subject: str) -> Nifti:
    """A scan, float32. Raises DataError where it cannot be read, is not 3D, not finite, constant, or has no size."""
    volume, affine = _read(path, subject)
    checks.check_image(subject, path, volume)
    return Nifti(volume, affine)


def read_label(path: Path, subject: str) -> Nifti:
    """A label map, int32. Raises DataError as ``read_image`` does, and where a value is not an integer."""
    volume, affine = _read(path, subject)
    checks.check_integers(subject, path, volume)
    return Nifti(np.rint(volume).astype(np.int32), affine)


def save(path: Path, volume: np.ndarray, affine: np.ndarray, header: nib.Nifti1Header | None = None) -> None:
    """Write ``volume`` (X, Y, Z, ...) with ``affine``; ``header`` (of the scan) keeps its units and codes of space.

    The data type written is the volume's own, except int64, which viewers do not read: it becomes int32.
    """
    volume = volume.astype(np.int32) if volume.dtype == np.int64 else volume
    image = nib.Nifti1Image(volume, affine, header)
    image.set_data_dtype(volume.dtype)
    image.header.set_slope_inter(1, 0)
    nib.save(image, path)


def _read(path: Path, subject: str) -> tuple[np.ndarray, np.ndarray]:
    try:
        _verify_gzip(path)
        _verify_spacing(path, subject)
        image = nib.load(path)
        # float32 holds every integer up to 2**24, more than any label file has; scale factors are applied by nibabel
        volume = np.asarray(image.dataobj, dtype=np.float32)
        affine = np.array(image.affine, np.float64)
    except DataError:
        raise
    except Exception as error:  # nibabel, gzip and zlib raise a dozen kinds for a damaged file
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"subject {subject}: cannot read {path} ({reason}); download or export it again") from error
    if volume.ndim == 4 and volume.shape[3] == 1:
        volume = volume[..., 0]
    checks.check_grid(subject, path, volume, affine)
    return volume, affine


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
                checks.check_voxel_sizes(subject, path, header["pixdim"][1:4])
