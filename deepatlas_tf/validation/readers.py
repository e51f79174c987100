"""Opening what is to be validated: a CSV, a folder, or a data set by its name.

A name with ``manual_dir`` reads the downloaded files, as the data set's builder finds them, before anything is built.
A name without it reads the prepared records, which are built first where that needs no files (synthetic ones).
"""

import dataclasses
import difflib
import functools
import os
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np

import deepatlas_tf.datasets
from deepatlas_tf.datasets.choose_grid import choose_grid, common_axes, fingerprint
from deepatlas_tf.datasets.listing import ListedScan, Listing, check_listing, check_names, read_listing
from deepatlas_tf.datasets.not_a_listing import no_folder_of_label_maps, only_a_part, whole_of
from deepatlas_tf.datasets.splits import split_listed
from deepatlas_tf.scans import checks, nifti
from deepatlas_tf.scans.channels import ONE
from deepatlas_tf.scans.class_names import BACKGROUND, Labels, find_class, unnamed_class
from deepatlas_tf.scans.nifti import Nifti
from deepatlas_tf.types import DataError, MissingDataError
from deepatlas_tf.validation.channels import channel_problems
from deepatlas_tf.validation.loose_files import LAYOUT, loose_scans
from deepatlas_tf.validation.scan_summary import LoadedScan, Problem

if TYPE_CHECKING:  # needs TensorFlow
    from deepatlas_tf.datasets.load import DataSet
    from deepatlas_tf.datasets.scan_builder import Scan, ScanBuilder


@dataclasses.dataclass(frozen=True)
class ScanSet:
    """The scans to be validated: ``load`` reads one of ``items`` and never raises for a bad file.

    name: of the folder of results. title: of the report. classes: the foreground classes that are declared, () where
    none are. items: one for each subject; they can be gone through several times. splits: the subjects of each split as
    training would take them, {} where it would take none. refused: what training would stop with. labels: the numbers
    of each foreground class in the label files, {} where they are not declared. choose_grid: gives the shape, the
    spacing (mm) and the number of classes, background included, that training would choose; None where it has its own.
    channels: of the images, by name. ignore: the number of voxels that count nothing; None where there is none.
    labels_file: where the classes are declared; None where there is no such file. doubts: of the list as a whole.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    items: Iterable
    load: Callable[..., LoadedScan]
    splits: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    refused: str = ""
    labels: Mapping[str, Sequence[int]] = dataclasses.field(default_factory=dict)
    choose_grid: Callable[[], tuple[Sequence[int], Sequence[float], int]] | None = None
    channels: Sequence[str] = ONE
    ignore: int | None = None
    labels_file: Path | None = None
    doubts: Sequence[Problem] = ()

    @property
    def training(self) -> frozenset[str]:
        """The subjects that training would take."""
        return frozenset(self.splits.get("train", ()))


def open_scans(text: str, data_dir: Path | None = None, manual_dir: Path | None = None) -> ScanSet:
    """The scans that ``text`` names: a data set, a CSV or a folder; ``./NAME`` is a folder called like a data set.

    Raises MissingDataError where there is no such thing, DataError where a list cannot be read.
    """
    names = {m.name for m in pkgutil.iter_modules(deepatlas_tf.datasets.__path__) if m.ispkg}
    name = text.partition("/")[0]
    if name == "nifti" and name in names:
        return open_files(Path(manual_dir or data_dir or text))
    if text in names or (name in names and not os.path.exists(text)):
        return _builder_files(text, Path(manual_dir)) if manual_dir else _records(text, data_dir)
    if not os.path.exists(os.path.expanduser(text)):
        near = difflib.get_close_matches(name, names)
        hint = (
            f"did you mean {' or '.join(near)}?" if near else f"check the path; data sets: {', '.join(sorted(names))}"
        )
        raise MissingDataError(f"{text}: there is no such file, folder or data set; {hint}")
    return open_files(Path(text).expanduser())


def open_files(path: Path) -> ScanSet:
    """A CSV or folder as :mod:`~deepatlas_tf.datasets.listing` reads it, or a folder that holds the NIfTI files itself.

    Raises MissingDataError where it is none of these.
    """
    loose = loose_scans(path) if path.is_dir() and not (path / "imagesTr").is_dir() else []
    whole = whole_of(path)
    if loose and whole is not None:
        raise MissingDataError(only_a_part(path, whole))
    try:
        listing = check_names(Listing(path, tuple(loose), {})) if loose else read_listing(path)
    except MissingDataError as error:
        raise MissingDataError(f"{error}; {LAYOUT}" if path.is_dir() and whole is None else str(error)) from None
    numbers = _class_of(listing.labels)
    if numbers is not None and listing.ignore is not None:
        numbers[listing.ignore] = None
    labels = {name: numbers for name, numbers in listing.labels.items() if name != BACKGROUND}

    def load(scan: ListedScan) -> LoadedScan:
        expected = tuple(_class_meant(listing.labels, word) for word in scan.labelled_classes) or None
        loaded = load_files(scan.subject, scan.image, scan.label)
        problems = (*loaded.problems, *channel_problems(listing, scan, loaded.image))
        about = {"split": scan.split, "domain": scan.domain, "class_of": numbers, "expected": expected}
        return dataclasses.replace(loaded, problems=problems, **about)

    name = path.resolve().name if path.is_dir() else path.stem
    more = {"labels": labels, "channels": listing.channel_names, "ignore": listing.ignore}
    more |= {"labels_file": listing.labels_file, "doubts": _doubts(listing)}
    made = functools.partial(ScanSet, name, os.fspath(path), tuple(labels), listing.scans, load, **more)
    if loose:  # such a folder cannot be trained on
        return made()
    try:
        check_listing(listing)
    except DataError as error:
        return made(refused=str(error))
    splits = split_listed(listing.scans)

    def grid() -> tuple[Sequence[int], Sequence[float], int]:
        training = [scan for scan in listing.scans if scan.subject in splits["train"]]
        found = fingerprint(training, common_axes(listing.scans), listing.ignore)
        return *choose_grid(found), len(listing.labels) or len(found.numbers | {0})

    return made(splits=splits, choose_grid=grid)


def _class_meant(labels: Labels, word: str) -> str:
    """The class that a word of ``labelled_classes`` means, also where none is declared."""
    return find_class(labels, word) or (unnamed_class(int(word)) if word.isdecimal() else word)


def _doubts(listing: Listing) -> list[Problem]:
    """What is doubtful about a folder as for nnU-Net as a whole."""
    missing = no_folder_of_label_maps(listing.path) if listing.labels else None
    return (
        [Problem("no folder of label maps", f"{listing.labels_file} names classes, but {missing}")] if missing else []
    )


def load_files(subject: str, image: Path | None, label: Path | None) -> LoadedScan:
    """Both files, each as far as it can be read, and what is wrong with them."""
    problems: list[Problem] = []
    doubts: list[str] = []
    found: dict[str, Nifti | None] = {}
    for kind, path, read in (("image", image, nifti.read_image), ("label map", label, nifti.read_label)):
        found[kind] = None
        if path is not None:
            try:
                found[kind] = read(path, subject, nifti.count_axes(path, subject), doubts.append)
            except DataError as error:
                problems.append(Problem(f"unusable {kind}", str(error)))
    if image and label and found["image"] and found["label map"]:
        try:
            checks.check_same_grid(subject, (image, found["image"]), (label, found["label map"]))
        except DataError as error:
            problems.append(Problem("image and label map on different grids", str(error)))
    problems += [Problem("doubtful position", doubt) for doubt in doubts]
    return LoadedScan(
        subject,
        found["image"],
        found["label map"],
        has_label=label is not None,
        files=("" if image is None else os.fspath(image), "" if label is None else os.fspath(label)),
        problems=tuple(problems),
    )


def _class_of(labels: Mapping[str, Iterable[int]]) -> dict[int, str | None] | None:
    if not labels:
        return None
    return {n: None if name == BACKGROUND else name for name, numbers in labels.items() for n in numbers}


def _builder_files(text: str, manual_dir: Path) -> ScanSet:
    """The files that the builder of a data set finds, with its classes and splits."""
    from deepatlas_tf.datasets.load import builder_and_config
    from deepatlas_tf.datasets.prepare import quiet  # needs TensorFlow, as the builders do
    from deepatlas_tf.datasets.scan_builder import ScanBuilder

    builder_class, config = builder_and_config(text)
    with quiet():
        builder = builder_class(config=config)
    if not isinstance(builder, ScanBuilder):
        raise DataError(f"{text} is not made of files: leave --manual-dir out")
    scans = builder.find_scans(manual_dir.expanduser().resolve())
    if not scans:
        raise MissingDataError(f"{builder.MANUAL_DOWNLOAD_INSTRUCTIONS}\nLooked in: {manual_dir}")
    splits, refused = {}, ""
    try:
        splits = builder.split([scan.subject for scan in scans if scan.label is not None])
    except DataError as error:  # too few to be split
        refused = str(error)
    split_of = {subject: split for split, subjects in splits.items() for subject in subjects}
    domains = builder.domains([scan.subject for scan in scans])
    numbers = dict.fromkeys(builder.declared_numbers()) | (_class_of(builder.label_numbers()) or {})
    own = type(builder).load is not ScanBuilder.load

    def load(scan: "Scan") -> LoadedScan:
        loaded = _load_own(builder, scan) if own else load_files(scan.subject, scan.image, scan.label)
        split = split_of.get(scan.subject, "train" if splits else "")
        return dataclasses.replace(loaded, split=split, domain=domains[scan.subject], class_of=numbers)

    if splits:
        others = [scan.subject for scan in scans if scan.subject not in split_of]
        splits = {**splits, "train": [*splits["train"], *others]}
    title, labels = f"{text}, {manual_dir}", builder.label_numbers()
    return ScanSet(text.replace("/", "_"), title, tuple(labels), scans, load, splits, refused, labels)


def _load_own(builder: "ScanBuilder", scan: "Scan") -> LoadedScan:
    """For scans that are more than NIfTI files (DICOM series): image and label map in one go."""
    files = (os.fspath(scan.image), os.fspath(scan.label or ""))
    try:
        image, label = builder.load(scan)
    except DataError as error:
        problem = Problem("unusable image", str(error))
        return LoadedScan(scan.subject, has_label=scan.label is not None, files=files, problems=(problem,))
    return LoadedScan(scan.subject, image, label, has_label=label is not None, files=files)


class _Records:
    """The records of all splits, one after the other."""

    def __init__(self, dataset: "DataSet"):
        self.dataset = dataset

    def __iter__(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        for split in self.dataset.subjects:
            for record in self.dataset.records(split).as_numpy_iterator():
                yield split, record


def _records(text: str, data_dir: Path | None) -> ScanSet:
    from deepatlas_tf.datasets.load import load_dataset  # needs TensorFlow

    dataset = load_dataset(text, data_dir=data_dir)
    names = dataset.class_names
    numbers = {i: name if i else None for i, name in enumerate(names)}

    def load(item: tuple[str, Mapping[str, Any]]) -> LoadedScan:
        return dataclasses.replace(_of_record(item[1], names), split=item[0], class_of=numbers)

    more = {"channels": dataset.channel_names}
    title = f"{text} (synthetic), prepared records" if dataset.synthetic else f"{text}, prepared records"
    labels = {name: (n,) for name, n in zip(names[1:], (dataset.class_numbers or ())[1:], strict=False)}
    return ScanSet(
        text.replace("/", "_"), title, names[1:], _Records(dataset), load, dataset.subjects, labels=labels, **more
    )


def _of_record(record: Mapping[str, Any], names: Sequence[str]) -> LoadedScan:
    subject, kept = record["subject"].decode(), record["labelled"]
    file = record["source_file"].decode() or f"record {subject}"
    first, *others = np.moveaxis(record["image"], -1, 0)
    image: Nifti | None = Nifti(first, record["affine"], tuple(others))
    problems = []
    label = Nifti(record["label"].astype(np.int32), record["affine"]) if kept.any() else None
    try:
        for channel in (first, *others):
            checks.check_image(subject, Path(file), channel)
    except DataError as error:
        image, problems = None, [Problem("unusable image", str(error))]
    if not np.allclose(nib.affines.voxel_sizes(record["affine"]), record["spacing"], rtol=1e-3):
        problems.append(Problem("unusable image", f"subject {subject}: its affine has other voxel sizes than stored"))
    return LoadedScan(
        subject,
        image,
        label,
        has_label=label is not None,
        domain=record["domain"].decode(),
        files=(file, file if label is not None else ""),
        expected=tuple(name for name, is_kept in zip(names[1:], kept[1:], strict=True) if is_kept),
        problems=tuple(problems),
    )
