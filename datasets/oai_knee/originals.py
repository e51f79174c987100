"""The originals: DICOM series of the Osteoarthritis Initiative and the MetaImage masks of OAI-ZIB."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform

from deepatlas_tf.datasets.scan_builder import Scan
from deepatlas_tf.scans import checks, itk
from deepatlas_tf.scans.nifti import Nifti
from deepatlas_tf.types import DataError

MASK_FOLDERS = ("masks", "segmentation_masks", "segmentation/segmentation_masks")
IMAGE_FOLDERS = ("images", "00m", ".")
DOC_FOLDERS = (".", "doc", "segmentation/doc")
PATHS = "oai_mri_paths.txt"
TEST_LIST = "2foldCrossValidation-List2.txt"  # 254 knees; list 1 has the other 253
RELEASE = re.compile(r"\d\.[A-Z]\.\d")  # the folders 0.C.2 and 0.E.1 of the OAI's baseline
SPACING_TOLERANCE = 0.05  # relative; a mask turned by 90 degrees is off by half


def find_masks(folder: Path) -> dict[str, Path]:
    """Subject -> ``SUBJECT.segmentation_masks.mhd``, empty where there are none. Raises DataError for two of one."""
    masks: dict[str, Path] = {}
    for place in (folder / name for name in MASK_FOLDERS):
        for path in sorted([*place.glob("*.mhd"), *place.glob("*.mha")]):
            if not path.name.startswith("."):
                subject = path.name.split(".")[0]
                checks.check_new(subject, path, masks)
                masks[subject] = path
    return masks


def find_scans(folder: Path) -> list[Scan]:
    """A scan for each knee, sorted; ``image`` is the folder of its series.

    With ``oai_mri_paths.txt`` the knees it lists; without, one for each folder in ``images/``.

    Raises:
        DataError: a mask without a series, or a folder with several of them.
    """
    masks, listed = find_masks(folder), _listed_paths(folder)
    series = _listed_series(folder, listed) if listed else _series_by_subject(folder / "images")
    orphans = sorted(set(masks) - set(series))
    if orphans:
        subject, more = orphans[0], f" (nor have {len(orphans) - 1} other masks)" if len(orphans) > 1 else ""
        raise DataError(
            f"subject {subject}: mask {masks[subject]} has no DICOM series in images/{subject} nor where {PATHS} says"
            f"{more}; add it or remove the mask"
        )
    return [Scan(subject, series[subject], masks.get(subject)) for subject in sorted(series)]


def read_test_list(folder: Path) -> set[str]:
    """The second half of OAI-ZIB's cross-validation; empty where its list is not there."""
    path = _document(folder, TEST_LIST)
    return set(_text(path).split()) if path else set()


def load(scan: Scan) -> tuple[Nifti, Nifti | None]:
    """Image and mask on the image's grid. Raises DataError where a file cannot be used or the grids differ."""
    image = itk.read_series(scan.image, scan.subject)
    if scan.label is None:
        return image, None
    mask = itk.read_label(scan.label, scan.subject)
    if not _is_without_pose(mask.affine):
        checks.check_same_grid(scan.subject, (scan.image, image), (scan.label, mask))
        return image, mask
    return image, _with_pose_of(scan, image, mask)


def _is_without_pose(affine: np.ndarray) -> bool:
    directions = (itk.LPS_TO_RAS @ affine)[:3, :3]
    return np.allclose(directions, np.diag(nib.affines.voxel_sizes(affine)))


def _with_pose_of(scan: Scan, image: Nifti, mask: Nifti) -> Nifti:
    """OAI-ZIB's masks hold no pose: their axes run to left, posterior, superior in the scan's own (oblique) frame.

    That the pose is missing is in the README of OAI-ZIB; the order and directions of the axes are those with which
    public converters bring mask and scan together.
    """
    to_image = ornt_transform(axcodes2ornt("LPS"), io_orientation(image.affine))
    volume = apply_orientation(mask.volume, to_image)
    order = np.argsort(to_image[:, 0])  # the mask's axis that becomes each of the image's
    sizes, wanted = nib.affines.voxel_sizes(mask.affine)[order], nib.affines.voxel_sizes(image.affine)
    fits = np.allclose(sizes, wanted, rtol=SPACING_TOLERANCE) or np.allclose(sizes, 1)  # 1: not stored
    if volume.shape != image.volume.shape or not fits:
        raise DataError(
            f"subject {scan.subject}: mask {scan.label} has {_grid(volume, sizes)} along the axes of the series "
            f"{scan.image}, which has {_grid(image.volume, wanted)}; they are not of one scan"
        )
    return Nifti(volume, image.affine)


def _grid(volume: np.ndarray, sizes: np.ndarray) -> str:
    return " x ".join(map(str, volume.shape)) + " voxels of " + " x ".join(f"{size:.3g}" for size in sizes) + " mm"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is no UTF-8 text ({error}); take the file from OAI-ZIB again") from None


def _document(folder: Path, name: str) -> Path | None:
    places = (folder / doc / name for doc in DOC_FOLDERS)
    return next((path for path in places if path.is_file()), None)


def _listed_paths(folder: Path) -> dict[str, str]:
    """Subject -> place of its series, from lines such as ``9001104: 0.C.2/9001104/20040830/10109006``."""
    path = _document(folder, PATHS)
    if path is None:
        return {}
    lines = [line.partition(":") for line in _text(path).splitlines() if line.strip()]
    wrong = [line for line in lines if not line[2].strip()]
    if wrong:
        raise DataError(f"{path}: the line {wrong[0][0]!r} is not 'SUBJECT: PATH'; take the file from OAI-ZIB again")
    return {subject.strip(): place.strip().strip("/") for subject, _, place in lines}


def _listed_series(folder: Path, listed: Mapping[str, str]) -> dict[str, Path]:
    """Subject -> folder of its series, if it exists: its place in the baseline, or ``images/SUBJECT``."""
    found = {}
    for subject, place in listed.items():
        places = [folder / name / place for name in IMAGE_FOLDERS]
        there = [path for path in places if path.is_dir()]
        if there:
            found[subject] = there[0]
        elif (folder / "images" / subject).is_dir():
            found[subject] = _one_series(folder / "images" / subject, subject)
    return found


def _series_by_subject(images: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for place in _subject_folders(images):
        checks.check_new(place.name, place, found)
        found[place.name] = _one_series(place, place.name)
    return found


def _subject_folders(images: Path) -> Sequence[Path]:
    inside = images.iterdir() if images.is_dir() else ()
    folders = sorted(path for path in inside if path.is_dir() and not path.name.startswith("."))
    inner = [_subject_folders(path) if RELEASE.fullmatch(path.name) else [path] for path in folders]
    return [path for paths in inner for path in paths]


def _one_series(folder: Path, subject: str) -> Path:
    series = itk.series_folders(folder)
    if len(series) != 1:
        shown = f", such as {series[0]} and {series[1]}" if series else ""
        raise DataError(
            f"subject {subject}: {folder} holds {len(series)} folders with files{shown}; keep one DICOM series, or add "
            f"OAI-ZIB's {PATHS}, which names it"
        )
    return series[0]
