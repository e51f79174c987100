"""Lists of one's own scans: a CSV, or a folder in the layout of nnU-Net and the Medical Segmentation Decathlon.

CSV: one line a scan, columns ``subject,image,label,split,domain,labelled_classes`` of which the first two are needed;
paths are relative to the file. ``labels.csv`` beside it (or ``NAME_labels.csv`` for ``NAME.csv``) gives ``number,name``
of the classes; numbers with one name become one class.

Folder: ``imagesTr``, ``labelsTr`` and, for the test subjects, ``imagesTs``, ``labelsTs``; ``dataset.json`` gives the
classes. Images are called like their label maps, or have ``_0000`` at the end.
"""

import difflib
import os
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from deepatlas_tf.scans.class_names import class_name, csv_lines, find_class, read_dataset_json, read_label_csv
from deepatlas_tf.types import DataError, MissingDataError

COLUMNS = ("subject", "image", "label", "split", "domain", "labelled_classes")
SPLITS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
    "testing": "test",
}
_CHANNEL = re.compile(r"(.+)_(\d{4})")  # nnU-Net: NAME_0000 is the first channel of NAME
LAYOUTS = """\
Name your scans with --data-dir, either a CSV or a folder:
  scans.csv       subject,image,label,split         paths relative to the CSV; label empty where there is none;
                                                    split (train, validation, test) may be left out
  labels.csv      number,name                       beside it, optional: names of the classes
or, as for nnU-Net and the Medical Segmentation Decathlon,
  DIR/imagesTr/NAME_0000.nii.gz (or NAME.nii.gz)    DIR/labelsTr/NAME.nii.gz
  DIR/imagesTs, DIR/labelsTs                        optional: the test subjects
  DIR/dataset.json                                  optional: names of the classes
`--dataset phantom_knee` (synthetic) runs without scans."""


class Row(NamedTuple):
    """A scan. label: None where there is none; image: None for a label map without one (folders only).

    split: train, validation, test, what else the table says, or "" where it says nothing. labelled: names or numbers of
    the classes that the label map holds, as written; () is all. spot: where it stands, such as ``line 7``.
    """

    subject: str
    image: Path | None
    label: Path | None
    split: str
    domain: str
    labelled: tuple[str, ...]
    spot: str


class Table(NamedTuple):
    """source: the CSV or folder. labels: class name -> numbers, ``background`` first; {} where none is declared."""

    source: Path
    rows: tuple[Row, ...]
    labels: Mapping[str, tuple[int, ...]]

    def where(self, row: Row) -> str:
        """File and line, to begin a message with."""
        return f"{self.source}, {row.spot}, subject {row.subject}"


def read_table(source: str | os.PathLike) -> Table:
    """The scans that a CSV or a folder lists, as they are listed: ``check_table`` finds wrong rows.

    Raises:
        MissingDataError: there is no such file or folder, or it is neither of the two.
        DataError: the list or the names of the classes cannot be read.
    """
    source = Path(os.path.abspath(os.path.expanduser(source)))
    try:
        if source.is_dir() and (source / "imagesTr").is_dir():
            return _read_folder(source)
        if source.is_file():
            return _read_csv(source)
    except OSError as error:
        raise DataError(f"{source}: cannot be read ({error.strerror or error}: {error.filename})") from error
    found = "there is no imagesTr in it" if source.is_dir() else "there is no such file or folder"
    raise MissingDataError(f"Your scans were not found: {found}.\n{LAYOUTS}\nLooked in: {source}")


def check_table(table: Table) -> None:
    """Raises DataError with one line for the first row that cannot be used.

    Validation and test subjects need a label map, unless no subject of their domain has one.
    """
    if not table.rows:
        raise DataError(f"{table.source}: lists no scan")
    seen: dict[str, Row] = {}
    with_maps = labelled_domains(table.rows)
    for row in table.rows:
        _check_row(table, row)
        if row.label is None and row.split in ("validation", "test") and row.domain in with_maps:
            raise DataError(
                f"{table.where(row)}: a {row.split} subject needs a label map, to measure with; use it to train"
            )
        if row.subject in seen:
            raise DataError(f"{table.where(row)}: occurs twice, first at {seen[row.subject].spot}; remove one")
        seen[row.subject] = row
    given = {row.split for row in table.rows}
    if "" in given and given & {"train", "validation"}:
        row = next(row for row in table.rows if not row.split)
        raise DataError(f"{table.where(row)}: has no split; give one to every row, or leave the column out")
    missing = [split for split in ("train", "validation", "test") if split not in given]
    if "" not in given and missing:
        raise DataError(f"{table.source}: no row has split {missing[0]}; add some, or leave the column out")


def labelled_domains(rows: Iterable[Row]) -> set[str]:
    """The domains of which some subject has a label map."""
    return {row.domain for row in rows if row.label is not None}


def _check_row(table: Table, row: Row) -> None:
    where = table.where(row)
    if row.image is None:
        raise DataError(f"{where}: label map {row.label} has no image; add it or remove the map")
    for kind, path in (("image", row.image), ("label map", row.label)):
        reason = None if path is None else _not_a_file(path)
        if reason is not None:
            raise DataError(f"{where}: {kind} {path} {reason}; paths are relative to {table.source.parent}")
    if row.split and row.split not in SPLITS.values():
        raise DataError(f"{where}: split {row.split!r} is none of train, validation, test")
    if row.labelled and row.label is None:
        raise DataError(f"{where}: names labelled classes but no label map")
    unknown = [word for word in row.labelled if table.labels and find_class(table.labels, word) is None]
    if unknown:
        near = difflib.get_close_matches(unknown[0], table.labels) or list(table.labels)[1:6]
        raise DataError(f"{where}: there is no class {unknown[0]!r}; there are {', '.join(near)}")


def _not_a_file(path: Path) -> str | None:
    """What is wrong with a path that should be a file's, or None."""
    try:
        return None if stat.S_ISREG(os.stat(path).st_mode) else "is not a file"
    except FileNotFoundError:
        return "does not exist"
    except OSError as error:  # a link that leads to itself, a folder that may not be entered
        return f"cannot be reached ({error.strerror})"


def _read_csv(source: Path) -> Table:
    lines = csv_lines(source)
    if not lines:
        raise DataError(f"{source}: is empty; the first line must be {','.join(COLUMNS[:4])}")
    heads = [head.strip().lower() for head in lines[0][1]]
    for head in heads:
        if head not in COLUMNS:
            near = difflib.get_close_matches(head, COLUMNS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(COLUMNS)}"
            raise DataError(f"{source}: unknown column {head!r}; {hint}")
    missing = [head for head in COLUMNS[:2] if head not in heads]
    twice = [head for head in heads if heads.count(head) > 1]
    if missing or twice:
        problem = f"column {twice[0]!r} occurs twice" if twice else f"column {missing[0]!r} is missing"
        raise DataError(f"{source}: {problem}; the first line must be {','.join(COLUMNS[:4])}")
    rows = []
    for number, cells in lines[1:]:
        if len(cells) != len(heads):
            raise DataError(f"{source}, line {number}: has {len(cells)} cells, not {len(heads)} as the first line")
        rows.append(_csv_row(source, number, dict(zip(heads, (cell.strip() for cell in cells), strict=True))))
    named = [source.with_name(f"{source.stem}_labels.csv"), source.with_name("labels.csv")]
    found = next((path for path in named if path.is_file() and path != source), None)
    return Table(source, tuple(rows), {} if found is None else read_label_csv(found))


def _csv_row(source: Path, number: int, cell: dict[str, str]) -> Row:
    for name in COLUMNS[:2]:
        if not cell[name]:
            raise DataError(f"{source}, line {number}: no {name} is given")
    split, words = cell.get("split", "").lower(), cell.get("labelled_classes", "")
    words = words.split(";") if ";" in words else words.split()
    return Row(
        cell["subject"],
        source.parent / os.path.expanduser(cell["image"]),
        source.parent / os.path.expanduser(cell["label"]) if cell.get("label") else None,
        SPLITS.get(split, split),
        cell.get("domain", ""),
        tuple(class_name(word) for word in words if word.strip()),
        f"line {number}",
    )


def _read_folder(source: Path) -> Table:
    images = _stems(source / "imagesTr") + _stems(source / "imagesTs")
    if not images:
        raise DataError(f"{source / 'imagesTr'}: holds no .nii or .nii.gz file; use a CSV for scans that lie elsewhere")
    labelled = {stem for part in ("labelsTr", "labelsTs") for stem, _ in _stems(source / part)}
    channels = all(_CHANNEL.fullmatch(stem) for stem, _ in images) and labelled.isdisjoint(stem for stem, _ in images)
    rows = _folder_rows(source, "Tr", "", channels)
    # a challenge keeps the labels of its test scans to itself: they are not for training either
    rows += [row for row in _folder_rows(source, "Ts", "test", channels) if row.label is not None]
    names = source / "dataset.json"
    return Table(source, tuple(rows), read_dataset_json(names) if names.is_file() else {})


def _folder_rows(source: Path, part: str, split: str, channels: bool) -> list[Row]:
    rows, maps = [], {}
    for stem, path in _stems(source / f"labels{part}"):
        maps.setdefault(stem, []).append(path)
    for stem, path in _stems(source / f"images{part}"):
        subject, channel = _CHANNEL.fullmatch(stem).groups() if channels else (stem, "0000")
        if channel != "0000":
            raise DataError(
                f"{source}: subject {subject} has a second channel, {path.name}, and one image a subject is used; "
                "choose with a CSV which one"
            )
        for label in maps.get(subject, [None]):
            rows.append(Row(subject, path, label, split, "", (), f"images{part}/{path.name}"))
    known = {row.subject for row in rows}
    orphans = [(stem, path) for stem in sorted(set(maps) - known) for path in maps[stem]]
    return rows + [Row(stem, None, path, split, "", (), f"labels{part}/{path.name}") for stem, path in orphans]


def _stems(folder: Path) -> list[tuple[str, Path]]:
    """(name without .nii[.gz], path) of the NIfTI files of a folder that may be absent, sorted."""
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    # macOS leaves files ._NAME beside the real ones
    found = [path for path in paths if re.search(r"\.nii(\.gz)?$", path.name) and not path.name.startswith(".")]
    return [(path.name.removesuffix(".gz").removesuffix(".nii"), path) for path in found]
