"""Which knee a scan shows, and how a left one is turned into its mirror image."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from deepatlas_tf.scans import itk
from deepatlas_tf.scans.class_names import csv_lines
from deepatlas_tf.types import DataError

SIDES = {"left": "left", "l": "left", "right": "right", "r": "right"}
SIDE_TAGS = {"0020|0060": "Laterality", "0020|0062": "ImageLaterality"}
SERIES_DESCRIPTION = "0008|103e"  # the OAI writes SAG_3D_DESS_LEFT or SAG_3D_DESS_RIGHT
WAY_OUT = "write lines 'subject,side' with left or right into sides.csv in the data set's folder"

# About the scanner's sagittal plane x = 0: only the affine changes, the voxels stay as they are in the file
MIRROR = np.diag([-1.0, 1.0, 1.0, 1.0])


def read_sides(path: Path) -> dict[str, str]:
    """Subject -> ``left`` or ``right`` from a CSV of two columns, with or without a line of headings.

    The first column is the subject or the name of its file, as in OAIZIB-CM's ``kneeSideInfo.csv``.

    Raises:
        DataError: a line has no side, a subject occurs twice, or the file is no CSV of UTF-8 text.
    """
    sides: dict[str, str] = {}
    rows = [[cell.strip() for cell in row] for _, row in csv_lines(path)]
    for number, row in enumerate(rows, start=1):
        side = SIDES.get(row[1].lower()) if len(row) > 1 else None
        if side is None and number == 1:
            continue  # headings
        subject = row[0].removesuffix(".gz").removesuffix(".nii").removesuffix("_0000")
        if side is None:
            raise DataError(f"{path}: subject {subject} has neither left nor right in the second column")
        if subject in sides:
            raise DataError(f"{path}: subject {subject} occurs twice; remove one line")
        sides[subject] = side
    return sides


def side_of_series(folder: Path, subject: str) -> str:
    """The side by the DICOM tags Laterality and ImageLaterality, else by LEFT or RIGHT in the series' description.

    Raises:
        DataError: the tags contradict each other or do not tell.
    """
    tags = itk.read_tags(folder, subject, (*SIDE_TAGS, SERIES_DESCRIPTION))
    words = tags.get(SERIES_DESCRIPTION, "").upper().replace("_", " ").split()
    read = {name: SIDES.get(tags.get(tag, "").lower()) for tag, name in SIDE_TAGS.items()}
    read["SeriesDescription"] = _only({"LEFT", "RIGHT"} & set(words))
    told = {name: side for name, side in read.items() if side is not None}
    if len(set(told.values())) > 1:
        shown = ", ".join(f"{name} {side}" for name, side in told.items())
        raise DataError(f"subject {subject}: the tags of {folder} contradict each other ({shown}); {WAY_OUT}")
    if not told:
        raise DataError(f"subject {subject}: no tag of {folder} tells a left from a right knee; {WAY_OUT}")
    return next(iter(told.values()))


def side_in_table(subject: str, table: Mapping[str, str], path: Path) -> str:
    """The subject's side; raises DataError where the table does not list it."""
    if subject not in table:
        raise DataError(f"subject {subject}: {path} does not list it; add a line '{subject},left' or '{subject},right'")
    return table[subject]


def _only(found: set[str]) -> str | None:
    return found.pop().lower() if len(found) == 1 else None
