"""Lists of one's own scans: a CSV, or a folder in the layout of nnU-Net and the Medical Segmentation Decathlon.

Folders are read by :mod:`deepatlas_tf.datasets.nnunet` and, in BIDS, by :mod:`deepatlas_tf.datasets.bids`.

CSV: one line a scan, columns ``subject,image,label,split,domain,labelled_classes`` of which the first two are needed;
paths are relative to the file. ``labels.csv`` beside it (or ``NAME_labels.csv`` for ``NAME.csv``) gives ``number,name``
of the classes; numbers with one name become one class. Columns ``image_NAME`` in the place of ``image`` are the
channels of the scans, such as ``image_t1,image_t2``.

Folder: ``imagesTr``, ``labelsTr`` and, for the test subjects, ``imagesTs``, ``labelsTs``; ``dataset.json`` gives the
classes. Images are called like their label maps, or have ``_0000`` at the end, and ``_0001`` and so on for further
channels, whose names ``dataset.json`` gives.
"""

import difflib
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from deepatlas_tf.datasets.not_a_listing import not_a_listing
from deepatlas_tf.scans.channel_files import with_channel_of
from deepatlas_tf.scans.channels import ONE
from deepatlas_tf.scans.class_names import (
    check_name,
    class_name,
    csv_lines,
    find_class,
    read_label_csv,
    split_ignore,
)
from deepatlas_tf.types import DataError, MissingDataError

COLUMNS = ("subject", "image", "label", "split", "domain", "labelled_classes")
SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
    "testing": "test",
}
LAYOUTS = """\
Name your scans with --data-dir, either a CSV or a folder:
  scans.csv       subject,image,label,split         paths relative to the CSV; label empty where there is none;
                                                    split (train, validation, test) may be left out;
                                                    image_t1,image_t2,... in the place of image: channels
  labels.csv      number,name                       beside it, optional: names of the classes
or, as for nnU-Net and the Medical Segmentation Decathlon,
  DIR/imagesTr/NAME_0000.nii.gz (or NAME.nii.gz)    DIR/labelsTr/NAME.nii.gz; NAME_0001, ...: further channels
  DIR/imagesTs, DIR/labelsTs                        optional: the test subjects
  DIR/dataset.json                                  optional: names of the classes and channels
or a data set in BIDS, with label maps *_dseg.nii.gz in its derivatives.
`--dataset phantom_knee` (synthetic) runs without scans."""


class ListedScan(NamedTuple):
    """One scan of a listing, as it is written there.

    image: of the first channel; None where it is missing, as of a label map without an image (folders only). label:
    None where there is no label map. split: train, validation, test, what else the listing says, or "" where it says
    nothing. labelled_classes: names or numbers of the classes that the label map holds; () is all. place: where the
    scan stands in the listing, such as ``line 7``. others: the images of the further channels, None where missing.
    """

    subject: str
    image: Path | None
    label: Path | None
    split: str
    domain: str
    labelled_classes: tuple[str, ...]
    place: str
    others: tuple[Path | None, ...] = ()

    @property
    def images(self) -> tuple[Path | None, ...]:
        """The image of each channel."""
        return (self.image, *self.others)

    @property
    def files(self) -> list[Path]:
        """All files that are there: image, label map, further channels."""
        return [path for path in (self.image, self.label, *self.others) if path is not None]


class Listing(NamedTuple):
    """The scans of a CSV or folder.

    labels: class name -> numbers, ``background`` first; {} where none is declared. channel_names: of the images of each
    scan, in their order. ignore: the number of voxels that count nothing; None where there is none. labels_file: where
    the classes are declared; None where there is no such file.
    """

    path: Path
    scans: tuple[ListedScan, ...]
    labels: Mapping[str, tuple[int, ...]]
    channel_names: tuple[str, ...] = ONE
    ignore: int | None = None
    labels_file: Path | None = None

    def where(self, scan: ListedScan) -> str:
        """The listing's file, the scan's line and subject: messages begin with it."""
        return f"{self.path}, {scan.place}, subject {scan.subject}"


def read_listing(path: str | os.PathLike) -> Listing:
    """Read a CSV or a folder as it is: ``check_listing`` finds the scans that cannot be used.

    Raises:
        MissingDataError: there is no such file or folder, or it is none of the three.
        DataError: the list or the names of the classes cannot be read.
    """
    from deepatlas_tf.datasets import bids, nnunet  # which make listings, too

    path = Path(os.path.abspath(os.path.expanduser(path)))
    try:
        if path.is_dir() and (path / "imagesTr").is_dir():
            return _checked(nnunet.read_folder(path))
        if path.is_dir() and bids.is_bids(path):
            return _checked(bids.read_bids(path))
        if path.is_file():
            return _checked(_read_csv(path))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}: {error.filename})") from error
    raise MissingDataError(not_a_listing(path))


def check_names(listing: Listing) -> Listing:
    """The listing, if its subjects and domains have names that can be shown; else raises DataError."""
    for scan in listing.scans:
        where = f"{listing.path}, {scan.place}"
        check_name(where, "the subject", scan.subject)
        check_name(where, "the domain", scan.domain)
    for name in listing.channel_names:
        check_name(listing.path, "the channel", name)
    return listing


def _checked(listing: Listing) -> Listing:
    """The listing with its label ``ignore`` apart from the classes. Raises DataError as ``check_names`` does."""
    labels, ignore = split_ignore(listing.labels)
    return check_names(listing._replace(labels=labels, ignore=ignore))


def check_listing(listing: Listing) -> None:
    """Raises DataError with one line for the first scan that cannot be used, and where no scan is for training.

    Validation and test subjects need a label map, unless no subject of their domain has one.
    """
    if not listing.scans:
        raise DataError(f"{listing.path}: lists no scan")
    seen: dict[str, ListedScan] = {}
    with_maps = labelled_domains(listing.scans)
    for scan in listing.scans:
        if scan.subject in seen:
            raise DataError(f"{listing.where(scan)}: occurs twice, first at {seen[scan.subject].place}; remove one")
        seen[scan.subject] = scan
        _check_scan(listing, scan)
        if scan.label is None and scan.split in ("validation", "test") and scan.domain in with_maps:
            raise DataError(
                f"{listing.where(scan)}: a {scan.split} subject needs a label map, to measure with; use it to train"
            )
    given = {scan.split for scan in listing.scans}
    if "" in given and given & {"train", "validation"}:
        scan = next(scan for scan in listing.scans if not scan.split)
        where = f" in {listing.path / 'participants.tsv'}" if listing.path.is_dir() else ""
        raise DataError(f"{listing.where(scan)}: has no split{where}; give one to every row, or leave the column out")
    if not given & {"", "train"}:
        raise DataError(f"{listing.path}: no row has split train; add some, or leave the column out")


def labelled_domains(scans: Iterable[ListedScan]) -> set[str]:
    """The domains of which some subject has a label map."""
    return {scan.domain for scan in scans if scan.label is not None}


def _check_scan(listing: Listing, scan: ListedScan) -> None:
    where = listing.where(scan)
    missing = missing_channel(listing, scan)
    if missing:
        raise DataError(f"{where}: {missing}")
    for kind, path in (*(("image", image) for image in scan.images), ("label map", scan.label)):
        reason = None if path is None else _not_a_file(path)
        if reason is not None:
            raise DataError(f"{where}: {kind} {path} {reason}; paths are relative to {listing.path.parent}")
    if scan.split and scan.split not in SPLIT_WORDS.values():
        raise DataError(f"{where}: split {scan.split!r} is none of train, validation, test")
    if scan.labelled_classes and scan.label is None:
        raise DataError(f"{where}: names labelled classes but no label map")
    unknown = [word for word in scan.labelled_classes if listing.labels and find_class(listing.labels, word) is None]
    if unknown:
        near = difflib.get_close_matches(unknown[0], listing.labels) or list(listing.labels)[1:6]
        raise DataError(f"{where}: there is no class {unknown[0]!r}; there are {', '.join(near)}")


def missing_channel(listing: Listing, scan: ListedScan) -> str | None:
    """Which image of a scan is missing, and what to do; None where all are there."""
    if not any(scan.images):
        return "has no image; add it" + ", or remove the label map" * (scan.label is not None)
    if all(scan.images):
        return None
    index = scan.images.index(None)
    file = _absent_file(listing, scan, index) if listing.path.is_dir() else None
    what = f"channel {listing.channel_names[index]} is missing" + (f" ({file})" if file else "")
    return f"{what}; each subject needs all of {', '.join(listing.channel_names)}"


def _absent_file(listing: Listing, scan: ListedScan, index: int) -> Path | None:
    """The file that a scan of a folder lacks, named as its other channels; None where no scan has this channel."""
    own = next(path for path in scan.images if path is not None)
    like = next((one.images[index] for one in listing.scans if one.images[index] is not None), None)
    return None if like is None else with_channel_of(own, like)


def _not_a_file(path: Path) -> str | None:
    """What is wrong with a path that should be a file's, or None."""
    try:
        return None if stat.S_ISREG(os.stat(path).st_mode) else "is not a file"
    except FileNotFoundError:
        return "does not exist"
    except OSError as error:  # a link that leads to itself, a folder that may not be entered
        return f"cannot be reached ({error.strerror})"


def _read_csv(path: Path) -> Listing:
    lines = csv_lines(path)
    if not lines:
        raise DataError(f"{path}: is empty; the first line must be {','.join(COLUMNS[:4])}")
    heads = [head.strip().lower() for head in lines[0][1]]
    images = _image_columns(path, heads)
    for head in heads:
        if head not in (*COLUMNS, *images):
            near = difflib.get_close_matches(head, COLUMNS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(COLUMNS)}"
            raise DataError(f"{path}: unknown column {head!r}; {hint}")
    missing = [head for head in ("subject", *images) if head not in heads]
    twice = [head for head in heads if heads.count(head) > 1]
    if missing or twice:
        problem = f"column {twice[0]!r} occurs twice" if twice else f"column {missing[0]!r} is missing"
        raise DataError(f"{path}: {problem}; the first line must be {','.join(COLUMNS[:4])}")
    scans = []
    for number, cells in lines[1:]:
        if len(cells) != len(heads):
            raise DataError(f"{path}, line {number}: has {len(cells)} cells, not {len(heads)} as the first line")
        row = dict(zip(heads, (cell.strip() for cell in cells), strict=True))
        scans.append(_csv_scan(path, number, row, images))
    named = [path.with_name(f"{path.stem}_labels.csv"), path.with_name("labels.csv")]
    found = next((file for file in named if file.is_file() and file != path), None)
    names = tuple(head.removeprefix("image_") for head in images) if len(images) > 1 else ONE
    labels = {} if found is None else read_label_csv(found)
    return Listing(path, tuple(scans), labels, names, labels_file=found)


def _image_columns(path: Path, heads: Sequence[str]) -> list[str]:
    """The columns of images: ``image``, or ``image_NAME`` for each channel."""
    channels = [head for head in heads if head.startswith("image_") and head != "image_"]
    if channels and "image" in heads:
        raise DataError(
            f"{path}: column 'image' stands beside {channels[0]!r}; call it image_NAME too, or leave it out"
        )
    return channels or ["image"]


def _csv_scan(path: Path, number: int, cell: dict[str, str], images: Sequence[str]) -> ListedScan:
    for name in ("subject", *(images if len(images) == 1 else ())):  # a missing channel is found with the subject
        if not cell[name]:
            raise DataError(f"{path}, line {number}: no {name} is given")
    for name in (*images, "label"):
        if len(cell.get(name, "").splitlines()) > 1:
            raise DataError(f"{path}, line {number}: the path of the {name} has a line break; write it in one line")
    split, listed = cell.get("split", "").lower(), cell.get("labelled_classes", "")
    words = listed.split(";") if ";" in listed else listed.split()
    label, image, *others = (
        path.parent / os.path.expanduser(cell[name]) if cell.get(name) else None for name in ("label", *images)
    )
    return ListedScan(
        cell["subject"],
        image,
        label,
        SPLIT_WORDS.get(split, split),
        cell.get("domain", ""),
        tuple(class_name(word) for word in words if word.strip()),
        f"line {number}",
        tuple(others),
    )
