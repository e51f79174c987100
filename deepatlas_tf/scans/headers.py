"""What the header of a scan's file says, checked before a voxel is read.

A header of 352 bytes can declare terabytes, voxels of a light year, or two different places for its scan. So its shape
and affine must be plausible, and the file must be as long as they need, before memory is taken for them.
"""

import gzip
import os
import stat
from pathlib import Path
from typing import cast

import nibabel as nib
import numpy as np

from deepatlas_tf.scans import checks
from deepatlas_tf.types import DataError

MAX_VOXELS = 2**29  # 2 GiB as float32; a CT of 512 x 512 x 2048 voxels
MAX_DEFLATED = 1032  # bytes that one byte of a gzip stream can stand for at most
# A file compressed to less than a part in SPARSE may need so many bytes in memory: a label map that is nearly empty
SPARSE, MAX_SPARSE_BYTES = 500, 3 * 2**29
GZIPPED, OTHERWISE_COMPRESSED = (".gz", ".mgz"), (".bz2", ".zst")
CHUNK = 2**22
UNITS = {1: "metres", 3: "microns"}  # codes of xyzt_units; 2 is mm, 0 is not stated


def open_checked(path: Path, subject: str) -> nib.spatialimages.SpatialImage:
    """The image with its header read and nothing else.

    Raises DataError for what is no file, colours or complex numbers, a stored voxel size that is not positive, and
    units other than mm; and whatever nibabel raises for a file that it cannot open.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for its other end
        raise DataError(f"subject {subject}: {path} is not a file; check the path")
    _check_stored_header(path, subject)
    image = cast(nib.spatialimages.SpatialImage, nib.load(path))
    checks.check_type(subject, path, image.get_data_dtype())
    return image


def check_size(path: Path, subject: str, image: nib.spatialimages.SpatialImage) -> None:
    """The file holds as many bytes as its header declares, and memory can hold them; compressed files are read once.

    nibabel would take the memory first, and it stops at the last voxel, where the checksum of a gzip stream is unread.
    Raises DataError.
    """
    proxy = image.dataobj
    n_voxels = int(np.prod(image.shape, dtype=object))
    if n_voxels > MAX_VOXELS:
        raise DataError(
            f"subject {subject}: {path} declares {_by_x(image.shape)} voxels, more than {MAX_VOXELS}; "
            "resample it to larger voxels, or repair its header"
        )
    if not isinstance(proxy, nib.arrayproxy.ArrayProxy):
        return  # formats whose data nibabel reads otherwise
    file = Path(proxy.file_like)
    needed, size = int(proxy.offset) + n_voxels * proxy.dtype.itemsize, os.stat(file).st_size
    start = f"subject {subject}: {file}"
    if not file.name.endswith((*GZIPPED, *OTHERWISE_COMPRESSED)):
        _check_enough(subject, file, image.shape, needed, size)
        return
    if file.name.endswith(GZIPPED):
        _check_enough(subject, file, image.shape, needed, MAX_DEFLATED * size)
    if needed > SPARSE * size and needed + 4 * n_voxels > MAX_SPARSE_BYTES:
        raise DataError(f"{start} has {size} bytes for {n_voxels} voxels: there is next to nothing in it; crop it")
    _check_enough(subject, file, image.shape, needed, _stream_length(start, file, 2 * needed + 4 * CHUNK))


def form_problem(image: nib.spatialimages.SpatialImage) -> str | None:
    """What is doubtful about where a NIfTI file says that its scan lies, and which of its forms is used; else None.

    A header holds two maps from voxels to mm, the qform and the sform. Programs choose differently between them: here
    and in nibabel the sform comes first, elsewhere the qform does. With neither, each program has its own default.
    """
    header = image.header
    if not isinstance(header, nib.Nifti1Header):
        return None
    qform_code, sform_code = int(header["qform_code"]), int(header["sform_code"])
    if qform_code <= 0 and sform_code <= 0:
        return (
            "has neither a qform nor an sform (both codes are 0); it is read with x to the left, y to the front and z "
            "up about its middle, where other programs may place it elsewhere: set a form"
        )
    if qform_code <= 0 or sform_code <= 0:
        return None
    try:
        qform = header.get_qform()
        voxels, millimetres = checks.grid_distance(header.get_sform(), qform, (*image.shape, 1, 1)[:3])
    except (nib.spatialimages.HeaderDataError, np.linalg.LinAlgError):
        return "has a qform that cannot be read; its sform is used: repair the header"
    if not voxels > checks.AFFINE_TOLERANCE:
        return None
    return (
        f"has a qform and an sform (codes {qform_code} and {sform_code}) that lie up to {millimetres:.3g} mm apart; "
        "the sform is used, where other programs may use the qform: keep the right one"
    )


def set_forms(image: nib.Nifti1Image, affine: np.ndarray, header: nib.Nifti1Header | None = None) -> None:
    """Give ``image`` (to be saved) the ``affine`` (4, 4) as its qform and sform, with one code.

    The code is that of the form of ``header`` that is used, or "aligned" where it has none. A qform cannot hold shears:
    then it is the nearest that it can hold.
    """
    codes = [] if header is None else [int(header["sform_code"]), int(header["qform_code"])]
    code = next((code for code in codes if code > 0), nib.nifti1.xform_codes["aligned"])
    image.set_sform(affine, code)
    image.set_qform(affine, code)


def _check_stored_header(path: Path, subject: str) -> None:
    """nibabel reads a voxel size of 0 as 1 mm and a negative one as positive: only the stored header shows them."""
    with nib.openers.ImageOpener(os.fspath(path)) as file:
        start = file.read(nib.Nifti2Header.sizeof_hdr)
    for kind in (nib.Nifti1Header, nib.Nifti2Header):
        if kind.may_contain_header(start):
            header = kind(start[: kind.sizeof_hdr], check=False)
            unit = UNITS.get(int(header["xyzt_units"]) & 7)
            if unit:
                raise DataError(
                    f"subject {subject}: {path} gives its voxel size in {unit}; write it in mm (affine and xyzt_units)"
                )
            if header["sform_code"] <= 0:  # otherwise the affine does not come from these sizes
                n_axes = min(3, int(header["dim"][0]))  # a file of one slice need not say how thick it is
                checks.check_voxel_sizes(subject, path, header["pixdim"][1 : 1 + n_axes])


def _stream_length(start: str, file: Path, limit: int) -> int:
    """Bytes of a compressed file when it is decompressed, a little at a time; DataError where they exceed ``limit``."""
    length = 0
    with gzip.open(file) if file.name.endswith(GZIPPED) else nib.openers.ImageOpener(os.fspath(file)) as stream:
        while chunk := stream.read(CHUNK):
            length += len(chunk)
            if length > limit:
                raise DataError(f"{start} holds far more than its header declares; export it again")
    return length


def _check_enough(subject: str, file: Path, shape: tuple[int, ...], needed: int, there: int) -> None:
    if there < needed:
        raise DataError(
            f"subject {subject}: cannot read {file} (it is too short for the {_by_x(shape)} voxels that its header "
            f"declares, which need {needed} bytes); download or export it again"
        )


def _by_x(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
