"""Names of classes and the numbers that stand for them in label maps, from a CSV or a ``dataset.json``."""

import csv
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from deepatlas_tf.types import DataError

BACKGROUND = "background"
IGNORE = "ignore"  # the label of voxels that count nothing, as in nnU-Net
_NO_CLASS = {BACKGROUND, "", "unknown", "none", "unlabeled", "unlabelled", "clear_label"}  # what 0 is called elsewhere

MAX_CLASSES = 256  # background included: records hold the index as uint8
LARGEST_NUMBER = 2**63 - 1  # of a label: what an integer of 64 bits holds
LONGEST_NAME = 200
LONGEST_CELL = 4096  # of a CSV; no path is longer
_DIGITS = re.compile(r"[0-9]+")

Labels = Mapping[str, tuple[int, ...]]


def class_name(text: str) -> str:
    """A name without spaces, as it stands in tables, options and file names."""
    return "_".join(text.split())


def unnamed_class(number: int) -> str:
    """What a class is called that only its number is known of."""
    return f"class_{number}"


def check_name(where: str | Path, what: str, name: str) -> None:
    """Raise DataError for a name that cannot be shown: ``where`` begins the message, ``what`` says whose name it is.

    Control characters and halves of characters (surrogates) can be written to no table, and pictures take what stands
    between two dollar signs for a formula.
    """
    wrong = [sign for sign in name if sign == "$" or unicodedata.category(sign) in ("Cc", "Cs")]
    if wrong:
        raise DataError(f"{where}: {what} {_shown(name)} has the character {ascii(wrong[0])}; rename it")
    if len(name) > LONGEST_NAME:
        raise DataError(f"{where}: {what} {_shown(name)} has {len(name)} characters; at most {LONGEST_NAME} are shown")


def label_number(where: str | Path, text: str) -> int:
    """The label number that ``text`` says. Raises DataError, beginning with ``where``, for anything else."""
    text = text.strip()
    if not _DIGITS.fullmatch(text):
        raise DataError(f"{where}: {_shown(text)} is no label number; the columns are number,name")
    number = int(text) if len(text) <= len(str(LARGEST_NUMBER)) else LARGEST_NUMBER + 1
    if number > LARGEST_NUMBER:
        raise DataError(f"{where}: the label number {_shown(text)} is too large; renumber the label maps")
    return number


def find_class(labels: Labels, word: str) -> str | None:
    """The name of the class that is meant by a name or a number; None where there is none."""
    if word in labels:
        return word
    number = int(word) if _DIGITS.fullmatch(word) and len(word) <= len(str(LARGEST_NUMBER)) else None
    return next((name for name, numbers in labels.items() if number in numbers), None)


def read_label_csv(path: Path) -> Labels:
    """``number,name`` below a heading; further columns are left alone. Numbers with one name are one class.

    Without a name, or called background, a number is allowed in label maps and belongs to no class. ``ignore`` is as in
    :func:`split_ignore`. Raises DataError.
    """
    pairs = []
    for line, row in csv_lines(path)[1:]:
        pairs.append((label_number(f"{path}, line {line}", row[0]), row[1] if len(row) > 1 else ""))
    return collect_labels(path, pairs)


def read_dataset_json(path: Path) -> Labels:
    """The entry ``labels``, {"1": "femur"} or {"femur": 1}; {} where there is none. Raises DataError.

    ``ignore`` is as in :func:`split_ignore`.
    """
    try:
        labels = json.loads(path.read_text(encoding="utf-8-sig")).get("labels", {})
        pairs = list(labels.items())
    except (ValueError, AttributeError, RecursionError) as error:
        raise DataError(f"{path}: is no description of a data set ({error}); repair or remove it") from None
    return collect_labels(path, [_json_pair(path, key, value) for key, value in pairs]) if pairs else {}


def csv_lines(path: Path) -> list[tuple[int, list[str]]]:
    """The (line number, cells) of the lines of a CSV that are not empty.

    Semicolons and tabs may stand for the commas, as spreadsheets of some countries write them. Raises DataError where
    it is no CSV of UTF-8 text.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            delimiter = max(",;\t", key=file.readline().count)
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter)
            lines = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: is no CSV ({error}); save it as CSV with UTF-8 text") from None
    for number, row in lines:
        longest = max(map(len, row))
        if longest > LONGEST_CELL:
            raise DataError(f"{path}, line {number}: has a cell of {longest} characters; is a quotation mark missing?")
        wrong = [sign for cell in row for sign in cell if unicodedata.category(sign) == "Cc" and sign not in "\t\n\r"]
        if wrong:
            raise DataError(
                f"{path}, line {number}: has the character {ascii(wrong[0])}; save it as CSV with UTF-8 text"
            )
    return lines


def _shown(text: str) -> str:
    """Quoted, in printable characters and not too long for a line."""
    return ascii(text if len(text) <= 60 else f"{text[:50]}...")


def _json_pair(path: Path, key: str, value: Any) -> tuple[int, str]:
    if isinstance(value, list):
        raise DataError(
            f"{path}: {_shown(key)} is a region of several labels, and one voxel has one class here; list classes"
        )
    number, name = (key, value) if isinstance(value, str) and key.isdecimal() else (value, key)
    if isinstance(number, bool) or not _DIGITS.fullmatch(str(number)):
        raise DataError(f"{path}: {ascii(number)[:60]} is no label number")
    return label_number(path, str(number)), name


def collect_labels(path: Path, pairs: Iterable[tuple[int, str]]) -> Labels:
    """The classes of pairs (number, name) that a file ``path`` gave: name -> numbers, in the order of the smallest.

    Raises DataError where a number occurs twice, 0 is a class, a name cannot be shown, or ``ignore`` is the only label,
    or not one number, the highest.
    """
    labels, seen = {BACKGROUND: [0]}, set()
    for number, name in sorted(pairs):
        if number in seen:
            raise DataError(f"{path}: label number {number} occurs twice")
        seen.add(number)
        name = class_name(name)
        check_name(path, "the class", name)
        if number:
            labels.setdefault(name if name.lower() not in (BACKGROUND, "") else BACKGROUND, []).append(number)
        elif name.lower() not in _NO_CLASS:
            raise DataError(f"{path}: label number 0 is always the background, not {name}; renumber the label maps")
    _check_ignore(path, labels)
    return {name: tuple(numbers) for name, numbers in labels.items()}


def split_ignore(labels: Labels) -> tuple[Labels, int | None]:
    """The classes of ``labels``, and the number of its entry ``ignore``, which is no class; None where it has none."""
    classes = {name: numbers for name, numbers in labels.items() if name.lower() != IGNORE}
    return classes, next((numbers[0] for name, numbers in labels.items() if name not in classes), None)


def _check_ignore(path: Path, labels: Mapping[str, list[int]]) -> None:
    ignored = [number for name, numbers in labels.items() if name.lower() == IGNORE for number in numbers]
    others = {number: name for name, numbers in labels.items() if name.lower() != IGNORE for number in numbers}
    highest = max(others)
    if ignored and not highest:
        raise DataError(f"{path}: 'ignore' is the only label; name the classes, too")
    if len(ignored) > 1 or min(ignored, default=highest + 1) < highest:
        shown = ", ".join(map(str, ignored))
        raise DataError(
            f"{path}: the label 'ignore' has to be one number, the highest, not {shown} ({others[highest]} is "
            f"{highest}); renumber the label maps"
        )
