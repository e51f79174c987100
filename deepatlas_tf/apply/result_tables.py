"""The tables beside the label maps of a folder: ``volumes.csv``, which later calls extend, and ``labels.csv``."""

import csv
from collections.abc import Sequence
from pathlib import Path

from deepatlas_tf.apply.files import writing
from deepatlas_tf.types import DataError


class ResultTables:
    """``volumes.csv``, ml of each structure of each scan, and ``labels.csv``, the name of each number.

    Args:
        folder: of the label maps.
        numbers: in the label maps, of each class.
        names: of the classes; the first is the background, which has no volume.
    """

    def __init__(self, folder: Path, numbers: Sequence[int], names: Sequence[str]):
        self.volumes, self.labels = folder / "volumes.csv", folder / "labels.csv"
        self._heading = ["scan", *(f"{name}_ml" for name in names[1:])]
        self._numbers = [["label", "name"], *([str(n), name] for n, name in zip(numbers, names, strict=True))]

    def check(self) -> None:
        """Raise DataError where a table that is there cannot be read, or is not of these numbers and names."""
        self._rows()
        if self.labels.exists() and _read(self.labels) != self._numbers:
            raise _of_another_model(self.labels, "names other numbers")

    def add(self, row: Sequence[str]) -> None:
        """Write the scan's volumes, in place of its row of an earlier call where there is one; other rows stay.

        Args:
            row: name of the scan, and the volume in ml of each structure.

        Raises:
            DataError: as :meth:`check`, or a table cannot be written.
        """
        rows = {**self._rows(), row[0]: list(row)}
        if not self.labels.exists():
            _write(self.labels, self._numbers)
        _write(self.volumes, [self._heading, *rows.values()])

    def _rows(self) -> dict[str, list[str]]:
        """The rows that are there, by scan."""
        if not self.volumes.exists():
            return {}
        heading, *rows = _read(self.volumes) or [[]]
        if any(len(row) != len(self._heading) for row in rows) or heading != self._heading:
            raise _of_another_model(self.volumes, "has other columns")
        return {row[0]: row for row in rows}


def _of_another_model(path: Path, what: str) -> DataError:
    return DataError(f"{path} {what} than this model's: choose another folder with -o, or remove the results in it")


def _read(path: Path) -> list[list[str]]:
    """The rows that are not empty; a spreadsheet's mark at the beginning is left out."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return [row for row in csv.reader(file, strict=True) if row]
    except (OSError, ValueError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise DataError(f"cannot read {path} ({reason}); choose another folder with -o, or remove it") from error


def _write(path: Path, rows: Sequence[Sequence[str]]) -> None:
    with writing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
