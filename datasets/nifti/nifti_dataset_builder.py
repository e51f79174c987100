"""Your own NIfTI scans, listed in a CSV or in the layout of nnU-Net: prepared by ``prepared_builder``, by path."""

import dataclasses
import hashlib
import os
import pathlib
import re
import shutil
from collections.abc import Iterable, Sequence
from typing import Any

from deepatlas_tf.datasets.alignment import NONE
from deepatlas_tf.datasets.choose_grid import ANY, WantedGrid, choose_grid, common_axes, fingerprint
from deepatlas_tf.datasets.copies import copy_in_use
from deepatlas_tf.datasets.listing import LAYOUTS, Listing, check_listing, labelled_domains, read_listing
from deepatlas_tf.datasets.prepare import is_prepared, prepare, quiet
from deepatlas_tf.datasets.scan_builder import Scan, ScanBuilder
from deepatlas_tf.datasets.source import source_of
from deepatlas_tf.datasets.splits import split_listed
from deepatlas_tf.datasets.volume_builder import VolumeConfig, volume_config
from deepatlas_tf.keras_stack import tfds
from deepatlas_tf.scans.class_names import BACKGROUND, MAX_CLASSES, find_class, unnamed_class
from deepatlas_tf.types import DataError, MissingDataError, SettingError


@dataclasses.dataclass(eq=False)
class NiftiConfig(VolumeConfig):
    """listing: what is prepared, with all of its classes."""

    listing: Listing | None = None


class Builder(ScanBuilder):
    """The builder of one's own scans, whose configuration ``prepared_builder`` makes from the listing."""

    pkg_dir_path = pathlib.Path(__file__).parent
    BUILDER_CONFIGS = []

    @classmethod
    def config_for(
        cls,
        shape: Sequence[int] | None = None,
        spacing: Sequence[float] | None = None,
        n_subjects: int | None = None,
        variant: str | None = None,
    ) -> VolumeConfig:
        raise SettingError("nifti reads your own scans: name the folder or the CSV that lists them with --data-dir")

    def label_numbers(self):
        labels = self.builder_config.listing.labels
        return {name: numbers for name, numbers in labels.items() if name != BACKGROUND}

    def declared_numbers(self):
        listing = self.builder_config.listing
        return {number for numbers in listing.labels.values() for number in numbers} | ({listing.ignore} - {None})

    def ignore_number(self):
        return self.builder_config.listing.ignore

    def undeclared(self):
        file = self.builder_config.listing.labels_file
        if file is not None:
            remedy = "name them there" + ", or leave the name empty for background" * (file.suffix == ".csv")
            return f"numbers that {file} does not declare ({remedy})"
        return "numbers that no training label map has (labels.csv beside the list can name all classes)"

    def source(self, manual_dir):
        listing = self.builder_config.listing
        return source_of((file for scan in listing.scans for file in scan.files), listing.path)

    def domains(self, subjects):
        domain = {scan.subject: scan.domain for scan in self.builder_config.listing.scans}
        return {subject: domain[subject] for subject in subjects}

    def find_subjects(self, manual_dir):
        scans = self.builder_config.listing.scans
        self._listed = {scan.subject: scan for scan in scans}
        self._scans = {scan.subject: Scan(scan.subject, scan.image, scan.label, scan.others) for scan in scans}
        splits = split_listed(scans)
        self.set_reference(splits["train"])
        self.keep_numbers()
        if self.ignore_number() is not None:
            self.info.metadata["ignore_number"] = self.ignore_number()
        return splits, {scan.subject for scan in scans if scan.label is not None}

    def read(self, subject):
        found, scan = super().read(subject), self._listed[subject]
        if scan.labelled_classes:
            labels = self.builder_config.listing.labels
            found["labelled_classes"] = tuple(find_class(labels, word) for word in scan.labelled_classes)
            present = [name for index, name in enumerate(labels) if index and (found["label"] == index).any()]
            extra = [name for name in present if name not in found["labelled_classes"]]
            if extra:
                where = self.builder_config.listing.where(scan)
                raise DataError(f"{where}: label map {scan.label} holds {extra[0]}, which labelled_classes leaves out")
        return found


def prepared_builder(
    source: str | os.PathLike | None,
    prepared_dir: str | os.PathLike,
    grid: WantedGrid = ANY,
    beam: Any = None,
    alignment: str = NONE,
    own_labels: bool = False,
) -> tfds.core.DatasetBuilder:
    """A TFDS builder that reads the prepared scans; they are prepared first where needed.

    Args:
        source: the folder or CSV (``deepatlas_tf.datasets.listing``). None takes the copy in ``prepared_dir`` that a
            run was trained on (``deepatlas_tf.datasets.copies``), or the only one.
        prepared_dir: where the TFRecords are kept; the source is only read. A copy of scans, list or class names that
            have changed since (by size and time of the files) is replaced, unless a run was trained on one in there.
        grid: of the network.
        beam: PipelineOptions of Apache Beam, to prepare it with its workers.
        alignment: to which reference scans are aligned, see ``deepatlas_tf.datasets.alignment``.
        own_labels: keep the label maps on the scans' own grids, too.

    Raises:
        MissingDataError: no such source, or no copy. DataError: unusable list or scans.
    """
    prepared_dir = pathlib.Path(os.path.abspath(os.path.expanduser(prepared_dir)))
    if source is None:
        folder = _only_copy(prepared_dir)
    else:
        listing = read_listing(source)
        check_listing(listing)
        prefix, name = _names(listing, grid, alignment)
        folder = prepared_dir / Builder.name / name / str(Builder.VERSION)
        if not is_prepared(folder):
            config = _config(name, listing, grid)
            config.alignment, config.own_labels = alignment, own_labels
            prepare(Builder, config, prepared_dir, beam_options=beam)
            if copy_in_use(prepared_dir) is None:
                _remove_others(prepared_dir / Builder.name, prefix, name.rpartition("_")[2])
    with quiet():
        return tfds.builder_from_directory(folder)


def _config(name: str, listing: Listing, wanted: WantedGrid) -> NiftiConfig:
    n_axes, (shape, spacing, _) = common_axes(listing.scans), wanted
    for values in (shape, spacing):
        if values is not None:
            volume_config(values, values)  # raises for values that are no grid
            if len(values) != n_axes:
                raise DataError(f"{listing.path}: the scans have {n_axes} axes, but {tuple(values)} is asked for")
    if shape is None or spacing is None or not listing.labels:
        # what is measured later must not decide on anything: the training subjects alone are looked at
        training = set(split_listed(listing.scans)["train"])
        found = fingerprint([scan for scan in listing.scans if scan.subject in training], n_axes, listing.ignore)
        if shape is None or spacing is None:
            shape, spacing = choose_grid(found, wanted)
        listing = listing._replace(labels=listing.labels or _found_labels(listing, found.numbers))
        check_listing(listing)  # labelled_classes can be compared with the classes only now
    most = MAX_CLASSES - (listing.ignore is not None)
    if len(listing.labels) > most:
        raise DataError(
            f"{listing.path}: {len(listing.labels) - 1} classes are more than {most - 1}; "
            "merge some by giving them one name (labels.csv)"
        )
    grid = volume_config(shape, spacing)
    return NiftiConfig(
        name=name,
        shape=grid.shape,
        spacing=grid.spacing,
        channel_names=listing.channel_names,
        listing=listing,
    )


def _found_labels(listing: Listing, numbers: Iterable[int]) -> dict[str, tuple[int, ...]]:
    classes = sorted(set(numbers) - {0})
    if not classes and labelled_domains(listing.scans):
        raise DataError(f"{listing.path}: no training label map holds anything but background; give label maps to some")
    return {BACKGROUND: (0,), **{unnamed_class(number): (number,) for number in classes}}


def _names(listing: Listing, wanted: WantedGrid, alignment: str) -> tuple[str, str]:
    """The start of the names of all copies of this source, and the name of this one.

    The last part of the name is a digest of the files' states and the classes.
    """
    path = os.path.realpath(listing.path)
    stem = re.sub(r"\W+", "_", pathlib.Path(path).stem).strip("_") or "scans"
    prefix = f"{stem}-{_digest(path)[:6]}_"
    grid = ["x".join(f"{value:g}" for value in values or ()) or "auto" for values in wanted[:2]]
    if wanted.max_voxels is not None:
        grid.append(f"{wanted.max_voxels}voxels")
    state = [[*scan[:1], *scan[3:6], *map(_file_state, (*scan[1:3], *scan.others))] for scan in listing.scans]
    channels = listing.channel_names if len(listing.channel_names) > 1 else ()
    ignored = () if listing.ignore is None else (f"ignore {listing.ignore}",)
    if alignment != NONE:
        grid.append(re.sub(r"\W+", "-", alignment))
    return prefix, f"{prefix}{'_'.join(grid)}_{_digest((state, dict(listing.labels), *channels, *ignored))[:10]}"


def _file_state(path: pathlib.Path | None) -> tuple[str, int, int] | None:
    if path is None:
        return None
    about = os.stat(path)
    return os.fspath(path), about.st_size, about.st_mtime_ns


def _digest(value: Any) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()


def _remove_others(folder: pathlib.Path, prefix: str, state: str) -> None:
    """Remove the copies of this source as it was before."""
    for path in folder.glob(f"{prefix}*"):
        if not path.name.endswith(state):
            shutil.rmtree(path, ignore_errors=True)


def _only_copy(prepared_dir: pathlib.Path) -> pathlib.Path:
    used = copy_in_use(prepared_dir)
    if used is not None and is_prepared(used):
        return used
    copies = [path for path in prepared_dir.glob(f"{Builder.name}/*/{Builder.VERSION}") if is_prepared(path)]
    if len(copies) == 1:
        return copies[0]
    found = "there are several prepared data sets" if copies else "there is no prepared data set"
    raise MissingDataError(f"Your scans were not named, and {found} in {prepared_dir}.\n{LAYOUTS}")
