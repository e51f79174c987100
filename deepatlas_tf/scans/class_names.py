"""Names of classes and the numbers that stand for them in label maps, from a CSV or a ``dataset.json``."""

import csv
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from deepatlas_tf.types import DataError

BACKGROUND = "background"
_NO_CLASS = {BACKGROUND, "", "unknown", "none", "unlabeled", "unlabelled", "clear_label"}  # what 0 is called elsewhere

Labels = Mapping[str, tuple[int, ...]]


def class_name(text: str) -> str:
    """A name without spaces, as it stands in tables, options and file names."""
    return "_".join(text.split())


def find_class(labels: Labels, word: str) -> str | None:
    """The name of the class that is meant by a name or a number; None where there is none."""
    if word in labels:
        return word
    number = int(word) if word.isdecimal() else None
    return next((name for name, numbers in labels.items() if number in numbers), None)


def read_label_csv(path: Path) -> Labels:
    """``number,name`` below a heading; further columns are left alone. Numbers with one name are one class.

    Without a name, or called background, a number is allowed in label maps and belongs to no class. Raises DataError.
    """
    pairs = []
    for line, row in csv_lines(path)[1:]:
        if not re.fullmatch(r"\s*\d+\s*", row[0]):
            raise DataError(f"{path}, line {line}: {row[0]!r} is no label number; the columns are number,name")
        pairs.append((int(row[0]), row[1] if len(row) > 1 else ""))
    return _collect(path, pairs)


def read_dataset_json(path: Path) -> Labels:
    """The entry ``labels``, {"1": "femur"} or {"femur": 1}; {} where there is none. Raises DataError."""
    try:
        labels = json.loads(path.read_text(encoding="utf-8-sig")).get("labels", {})
        pairs = list(labels.items())
    except (ValueError, AttributeError) as error:
        raise DataError(f"{path}: is no description of a data set ({error}); repair or remove it") from None
    return _collect(path, [_json_pair(path, key, value) for key, value in pairs]) if pairs else {}


def csv_lines(path: Path) -> list[tuple[int, list[str]]]:
    """(line number, cells) of the lines that are not empty. Spreadsheets of some countries write semicolons.

    Raises DataError where it is no CSV of UTF-8 text.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            delimiter = max(",;\t", key=file.readline().count)
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter)
            return [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: is no CSV ({error}); save it as CSV with UTF-8 text") from None


def _json_pair(path: Path, key: str, value) -> tuple[int, str]:
    if isinstance(value, list):
        raise DataError(
            f"{path}: {key!r} is a region of several labels, and one voxel has one class here; list classes"
        )
    number, name = (key, value) if isinstance(value, str) and key.isdecimal() else (value, key)
    if name == "ignore":
        raise DataError(
            f"{path}: the label 'ignore' is not supported; use a CSV whose labelled_classes say what is labelled"
        )
    if isinstance(number, bool) or not re.fullmatch(r"\d+", str(number)):
        raise DataError(f"{path}: {number!r} is no label number")
    return int(number), name


def _collect(path: Path, pairs: Iterable[tuple[int, str]]) -> Labels:
    """name -> numbers, in the order of the smallest number."""
    labels, seen = {BACKGROUND: [0]}, set()
    for number, name in sorted(pairs):
        if number in seen:
            raise DataError(f"{path}: label number {number} occurs twice")
        seen.add(number)
        name = class_name(name)
        if number:
            labels.setdefault(name if name.lower() not in (BACKGROUND, "") else BACKGROUND, []).append(number)
        elif name.lower() not in _NO_CLASS:
            raise DataError(f"{path}: label number 0 is always the background, not {name}; renumber the label maps")
    return {name: tuple(numbers) for name, numbers in labels.items()}
