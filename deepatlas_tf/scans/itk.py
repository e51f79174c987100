"""Reading DICOM series and MetaImages with SimpleITK (the extra ``[itk]``), as ``nifti`` reads NIfTI files.

DICOM and ITK give positions towards left, posterior, superior (LPS); here, as in NIfTI, affines lead to right,
anterior, superior (RAS): the first two world axes change sign.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deepatlas_tf.scans import checks
from deepatlas_tf.scans.nifti import Nifti
from deepatlas_tf.types import DataError

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
POSITION, SERIES = "0020|0032", "0020|000e"  # Image Position (Patient), Series Instance UID
UNEVEN = 0.05  # relative; positions are written with a few decimals
SAME_AXES = 1e-3  # of direction cosines and voxel sizes within one series


class _Slice(NamedTuple):
    """pixels (columns, rows) float32; axes (3, 2): mm along a row and along a column; position (3,) of its corner."""

    path: Path
    pixels: np.ndarray
    axes: np.ndarray
    position: np.ndarray
    series: str


def read_series(folder: Path, subject: str) -> Nifti:
    """The one DICOM series in ``folder``; volume (columns, rows, slices) float32 in rescaled units.

    Slices are put in the order of their positions along the normal; file names do not matter. The affine is that of
    the DICOM standard (PS3.3, C.7.6.2.1.1), its third column the step from the first slice to the last.

    Raises:
        DataError: a file that cannot be read, two series, slices of different size or orientation, at one position
            or with a gap between them; an image that is constant or not finite; SimpleITK is not installed.
    """
    slices = [_read_slice(path, subject) for path in series_files(folder)]
    _check_one_grid(subject, folder, slices)
    normal = np.cross(*slices[0].axes.T)
    slices.sort(key=lambda one: float(one.position @ normal))
    _check_steps(subject, folder, slices, normal / np.linalg.norm(normal))
    affine = np.eye(4)
    affine[:3, :2] = slices[0].axes
    affine[:3, 2] = (slices[-1].position - slices[0].position) / (len(slices) - 1)
    affine[:3, 3] = slices[0].position
    volume = np.stack([one.pixels for one in slices], axis=-1)
    affine = LPS_TO_RAS @ affine
    checks.check_grid(subject, folder, volume, affine)
    checks.check_image(subject, folder, volume)
    return Nifti(volume, affine)


def read_tags(folder: Path, subject: str, tags: Sequence[str]) -> dict[str, str]:
    """The values of ``tags`` (``"0020|0060"``) in the first file of a series; those it does not have are left out.

    Raises DataError where the file cannot be read.
    """
    path = series_files(folder)[0]
    reader = _reader(path, subject, "GDCMImageIO")
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise _unreadable(path, subject, "a DICOM image") from error
    return {tag: reader.GetMetaData(tag).strip() for tag in tags if reader.HasMetaDataKey(tag)}


def series_folders(folder: Path) -> list[Path]:
    """The folders at any depth in ``folder``, itself included, that hold files; sorted."""
    return sorted(Path(place) for place, _, _ in os.walk(folder) if series_files(Path(place)))


def series_files(folder: Path) -> list[Path]:
    """The files in ``folder`` that must be slices: all but hidden ones and an index named ``DICOMDIR``."""
    files = (path for path in folder.iterdir() if path.is_file())
    return sorted(path for path in files if not path.name.startswith(".") and path.name != "DICOMDIR")


def read_label(path: Path, subject: str) -> Nifti:
    """A label map from a MetaImage (``.mhd`` with its data file, ``.mha``); the volume is as of ``nifti.read_label``.

    Raises DataError where it cannot be read, is not one 3D volume, has a value that is not an integer, or SimpleITK is
    not installed.
    """
    reader = _reader(path, subject, "MetaImageIO", keep_type=True)
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise _unreadable(path, subject, "a MetaImage with all of its data") from error
    volume, affine = _array(image), np.eye(4)
    if volume.ndim == 3:  # what has more or fewer axes is refused below
        affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
        affine[:3, 3] = image.GetOrigin()
    affine = LPS_TO_RAS @ affine
    checks.check_grid(subject, path, volume, affine)
    return Nifti(checks.whole_numbers(subject, path, volume), affine)


def _reader(path: Path, subject: str, image_io: str, keep_type: bool = False) -> Any:
    try:
        import SimpleITK as sitk
    except ImportError:
        raise DataError(
            f"subject {subject}: reading {path} needs SimpleITK; install it with pip install -e '.[itk]'"
        ) from None
    reader = sitk.ImageFileReader()
    reader.SetImageIO(image_io)
    reader.SetFileName(os.fspath(path))
    if not keep_type:
        reader.SetOutputPixelType(sitk.sitkFloat32)
    return reader


def _array(image: Any) -> np.ndarray:
    """A SimpleITK image as an array with x first."""
    import SimpleITK as sitk

    return np.ascontiguousarray(sitk.GetArrayFromImage(image).T)


def _unreadable(path: Path, subject: str, kind: str) -> DataError:
    # SimpleITK's own reasons are many lines of its build and end in the system's last error, which need not be about it
    return DataError(f"subject {subject}: cannot read {path} as {kind}; download it again, or remove what is not one")


def _read_slice(path: Path, subject: str) -> _Slice:
    reader = _reader(path, subject, "GDCMImageIO")
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise _unreadable(path, subject, "a DICOM image") from error
    pixels = _array(image)
    if pixels.ndim != 3 or pixels.shape[2] != 1:
        raise DataError(f"subject {subject}: {path} has shape {pixels.shape}; one grey slice in each file is needed")
    if not reader.HasMetaDataKey(POSITION):
        raise DataError(f"subject {subject}: {path} has no Image Position (0020,0032); export the series again")
    axes = np.reshape(image.GetDirection(), (3, 3))[:, :2] * image.GetSpacing()[:2]
    series = reader.GetMetaData(SERIES).strip() if reader.HasMetaDataKey(SERIES) else ""
    return _Slice(path, pixels[..., 0], axes, np.array(image.GetOrigin()), series)


def _check_one_grid(subject: str, folder: Path, slices: Sequence[_Slice]) -> None:
    if len(slices) < 2:
        raise DataError(f"subject {subject}: {folder} holds {len(slices)} slice(s); a DICOM series of one is needed")
    first = slices[0]
    for one in slices[1:]:
        if one.series != first.series:
            raise DataError(
                f"subject {subject}: {folder} holds two series, of {first.path.name} and of {one.path.name}; "
                "keep one in the folder"
            )
        if one.pixels.shape != first.pixels.shape:
            raise DataError(
                f"subject {subject}: slice {one.path} has size {one.pixels.shape}, {first.path.name} "
                f"{first.pixels.shape}; download the series again"
            )
        if not np.allclose(one.axes, first.axes, atol=SAME_AXES):
            raise DataError(
                f"subject {subject}: slice {one.path} has another orientation or pixel size than {first.path.name}; "
                "download the series again"
            )


def _check_steps(subject: str, folder: Path, slices: Sequence[_Slice], normal: np.ndarray) -> None:
    """``slices`` in order. A slice that is missing at an end cannot be noticed."""
    steps = np.diff([float(one.position @ normal) for one in slices])
    usual = float(np.median(steps))
    worst = int(np.argmax(np.abs(steps - usual)))
    if usual <= 0 or abs(steps[worst] - usual) > UNEVEN * usual:
        before, after = slices[worst].path.name, slices[worst + 1].path.name
        raise DataError(
            f"subject {subject}: in {folder} the slices {before} and {after} are {steps[worst]:.3g} mm apart, others "
            f"{usual:.3g} mm: a slice is missing or there twice; download the series again"
        )
