"""The files of a command: those that it is given, and what it writes, whole or not at all, and never over another."""

import contextlib
import errno
import os
import shutil
import struct
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel as nib
import numpy as np

from deepatlas_tf.processor import usable_cores
from deepatlas_tf.runs.files import replacing
from deepatlas_tf.scans import nifti
from deepatlas_tf.types import DataError

ENDINGS = (".nii", ".nii.gz")
GZIP_CHUNK = 2**22  # bytes
GZIP_START = bytes.fromhex("1f8b08000000000004ff")  # RFC 1952: deflate, no name, no time, fastest, unknown system


def is_nifti(path: Path) -> bool:
    """Whether the name ends in .nii or .nii.gz."""
    return path.name.endswith(ENDINGS)


def check_scan(path: Path) -> Path:
    """``path``, if it is a NIfTI file; DataError otherwise."""
    if not path.exists():
        raise DataError(f"there is no file {path}: check the path")
    if not is_nifti(path):
        raise DataError(f"{path} does not end in .nii or .nii.gz: convert it to NIfTI (dcm2niix for DICOM)")
    return path


def stem(path: Path) -> str:
    """The file's name without .nii or .nii.gz: what errors and tables call the scan."""
    return path.name.removesuffix(".gz").removesuffix(".nii")


def check_outputs(outputs: Iterable[Path], overwrite: bool, inputs: Iterable[Path] = ()) -> None:
    """Nothing is there that would be replaced, and the folders can be made and written; before any work is done.

    No folder is made here: what fails before it has a result leaves none.

    Raises:
        DataError: an output is an input or a folder, or exists and ``overwrite`` is not set, or cannot be written.
    """
    sources = {path.resolve() for path in inputs}
    for path in outputs:
        if path.resolve() in sources:
            raise DataError(f"{path} is an input: choose another place for the result")
        if path.is_dir():
            raise DataError(f"{path} is a folder: choose another name for the result")
        if path.exists() and not overwrite:
            raise DataError(f"{path} exists: choose another place for the result, or pass --overwrite")
        with _readable_errors(path):
            there = next(folder for folder in path.absolute().parents if folder.exists())
            if not there.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            if not os.access(there, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def check_nifti_output(path: Path) -> None:
    """DataError where the name of an output does not end in .nii or .nii.gz."""
    if not is_nifti(path):
        raise DataError(f"-o {path}: the result is a NIfTI file, its name must end in .nii or .nii.gz")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """A temporary path that takes the place of ``path`` at the end; DataError where the disk does not take it."""
    with _readable_errors(path), replacing(path) as temporary:
        yield temporary


@contextlib.contextmanager
def writing_floats(path: Path) -> Iterator[Path]:
    """A temporary path for an image of floating-point numbers, written by :func:`writing`.

    The path ends in .nii; the file is compressed afterwards where its name ends in .gz.

    The lower bytes of interpolated numbers do not repeat. Where they are not searched for repetitions, but for runs,
    such as those of zeros, gzip takes a third of the time; files are about as large (up to 6 % more for real scans).
    """
    with writing(path) as temporary:
        if not temporary.name.endswith(".gz"):
            yield temporary
            return
        plain = temporary.with_suffix("")
        try:
            yield plain
            _gzip(plain, temporary)
        finally:
            plain.unlink(missing_ok=True)


@contextlib.contextmanager
def writing_together(folder: Path) -> Iterator[Path]:
    """A temporary folder; what is in it at the end is moved to ``folder``, all files or none.

    Raises:
        DataError: the disk does not take them.
    """
    temporary = folder / f".{os.getpid()}.unfinished"
    with _readable_errors(folder):
        temporary.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            for path in sorted(temporary.iterdir()):
                os.replace(path, folder / path.name)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def save(path: Path, volume: np.ndarray, affine: np.ndarray, header: nib.Nifti1Header | None) -> None:
    """Write a NIfTI file of ``volume (X, Y, Z, ...)`` with ``affine (4, 4)``, whole or not at all.

    Args:
        path: of the result.
        volume: its data type is that of the file.
        affine: voxels to mm.
        header: of the scan on whose grid the volume lies; None where there is none.
    """
    with (writing_floats if volume.dtype.kind == "f" else writing)(path) as temporary:
        nifti.save(temporary, volume, affine, header)


def _gzip(source: Path, target: Path) -> None:
    """One gzip stream (RFC 1952); its chunks are compressed on all cores."""
    data = np.memmap(source, np.uint8, "r").data

    def compressed(start: int) -> bytes:
        end = start + GZIP_CHUNK
        deflate = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS, strategy=zlib.Z_RLE)
        # a chunk that is flushed ends with a whole byte, where the next one can go on
        rest = zlib.Z_FINISH if end >= len(data) else zlib.Z_FULL_FLUSH
        return deflate.compress(data[start:end]) + deflate.flush(rest)

    with target.open("wb") as file, ThreadPoolExecutor(usable_cores()) as pool:
        file.write(GZIP_START)
        file.writelines(pool.map(compressed, range(0, len(data), GZIP_CHUNK)))
        file.write(struct.pack("<II", zlib.crc32(data), len(data) % 2**32))


def header_of(scan: Path) -> nib.Nifti1Header:
    """The scan's header for a result on its grid: codes of space and units, without its window of grey values."""
    header = nib.Nifti1Header.from_header(nib.load(scan).header, check=False)
    header["cal_min"] = header["cal_max"] = 0
    header.set_intent("none")
    return header


@contextlib.contextmanager
def _readable_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"cannot write {path} ({error.strerror or error}); choose another place with -o") from error
