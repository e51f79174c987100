"""Your own NIfTI scans, listed in a CSV or in the layout of nnU-Net: prepared by ``prepared_builder``, by path."""

import dataclasses
import hashlib
import os
import pathlib
import re
import shutil
from collections.abc import Sequence

from deepatlas_tf.datasets.choose_grid import choose_grid, common_axes, fingerprint
from deepatlas_tf.datasets.listing import LAYOUTS, Table, check_table, labelled_domains, read_table
from deepatlas_tf.datasets.prepare import is_prepared, prepare, quiet
from deepatlas_tf.datasets.scan_builder import Scan, ScanBuilder
from deepatlas_tf.datasets.volume_builder import SPLITS, VolumeConfig, split_subjects, volume_config
from deepatlas_tf.keras_stack import tfds
from deepatlas_tf.scans.class_names import BACKGROUND, find_class
from deepatlas_tf.types import DataError, MissingDataError, SettingError

MAX_CLASSES = 256  # records hold the index as uint8


@dataclasses.dataclass(eq=False)
class NiftiConfig(VolumeConfig):
    """table: what is prepared, with all of its classes."""

    table: Table | None = None


class Builder(ScanBuilder):
    """It has no configuration of its own: ``prepared_builder`` makes one from the scans that it is given."""

    pkg_dir_path = pathlib.Path(__file__).parent
    BUILDER_CONFIGS = []

    @classmethod
    def config_for(cls, shape=None, spacing=None, n_subjects=None, variant=None):
        raise SettingError("nifti reads your own scans: name the folder or the CSV that lists them with --data-dir")

    def label_numbers(self):
        labels = self.builder_config.table.labels
        return {name: numbers for name, numbers in labels.items() if name != BACKGROUND}

    def declared_numbers(self):
        return {number for numbers in self.builder_config.table.labels.values() for number in numbers}

    def domains(self, subjects):
        domain = {row.subject: row.domain for row in self.builder_config.table.rows}
        return {subject: domain[subject] for subject in subjects}

    def find_subjects(self, manual_dir):
        rows = self.builder_config.table.rows
        self._rows = {row.subject: row for row in rows}
        self._scans = {row.subject: Scan(row.subject, row.image, row.label) for row in rows}
        return split_rows(rows), {row.subject for row in rows if row.label is not None}

    def read(self, subject):
        found, row = super().read(subject), self._rows[subject]
        if row.labelled:
            labels = self.builder_config.table.labels
            found["labelled"] = tuple(find_class(labels, word) for word in row.labelled)
            present = [name for index, name in enumerate(labels) if index and (found["label"] == index).any()]
            extra = [name for name in present if name not in found["labelled"]]
            if extra:
                where = self.builder_config.table.where(row)
                raise DataError(f"{where}: label map {row.label} holds {extra[0]}, which labelled_classes leaves out")
        return found


def prepared_builder(
    source: str | os.PathLike | None,
    prepared_dir: str | os.PathLike,
    shape: Sequence[int] | None = None,
    spacing: Sequence[float] | None = None,
    beam=None,
):
    """A TFDS builder that reads the prepared scans; they are prepared first where needed.

    Args:
        source: the folder or CSV (``deepatlas_tf.datasets.listing``). None takes the only copy in ``prepared_dir``.
        prepared_dir: where the TFRecords are kept; the source is only read. A copy of scans, list or class names that
            have changed since (by size and time of the files) is replaced.
        shape, spacing: the network's grid (voxels; mm); what is None is chosen (``deepatlas_tf.datasets.choose_grid``).
        beam: PipelineOptions of Apache Beam, to prepare it with its workers.

    Raises:
        MissingDataError: no such source, or no copy. DataError: unusable list or scans.
    """
    prepared_dir = pathlib.Path(os.path.abspath(os.path.expanduser(prepared_dir)))
    if source is None:
        folder = _only_copy(prepared_dir)
    else:
        table = read_table(source)
        check_table(table)
        prefix, name = _names(table, shape, spacing)
        folder = prepared_dir / Builder.name / name / str(Builder.VERSION)
        if not is_prepared(folder):
            prepare(Builder, _config(name, table, shape, spacing), prepared_dir, beam_options=beam)
            _remove_others(prepared_dir / Builder.name, prefix, name.rpartition("_")[2])
    with quiet():
        return tfds.builder_from_directory(folder)


def split_rows(rows) -> dict[str, list[str]]:
    """Subjects of each split, as given; where not, 20 % of the labelled ones to test and 10 % to validate.

    From eight on it is two of each at least: a registration is measured on a pair. The rest and those without a label
    map are for training; where no subject of a domain has one, its subjects count as labelled ones, since folds can
    be measured without. Given test subjects stay the only ones.
    """
    given = {split: [row.subject for row in rows if row.split == split] for split in SPLITS}
    free = [row for row in rows if not row.split]
    if not free:
        return given
    with_maps = labelled_domains(rows)
    measured = [row.subject for row in free if row.label is not None or row.domain not in with_maps]
    n = len(measured)
    n_test, n_validation = (max(n // part, 2 if n >= 8 else 1) for part in (5, 10))
    splits = split_subjects(measured, 0 if given["test"] else n_test, n_validation, full=n)
    others = sorted({row.subject for row in free} - set(measured))
    return {**splits, "train": [*splits["train"], *others], "test": given["test"] or splits["test"]}


def _config(name: str, table: Table, shape, spacing) -> NiftiConfig:
    n_axes = common_axes(table.rows)
    for values in (shape, spacing):
        if values is not None:
            volume_config(values, values)  # raises for values that are no grid
            if len(values) != n_axes:
                raise DataError(f"{table.source}: the scans have {n_axes} axes, but {tuple(values)} is asked for")
    if shape is None or spacing is None or not table.labels:
        found = fingerprint(table.rows, n_axes)
        if shape is None or spacing is None:
            shape, spacing = choose_grid(found, shape, spacing)
        table = table._replace(labels=table.labels or _found_labels(table, found.numbers))
        check_table(table)  # labelled_classes can be compared with the classes only now
    if len(table.labels) > MAX_CLASSES:
        raise DataError(
            f"{table.source}: {len(table.labels) - 1} classes are more than {MAX_CLASSES - 1}; "
            "merge some by giving them one name (labels.csv)"
        )
    grid = volume_config(shape, spacing)
    return NiftiConfig(name=name, shape=grid.shape, spacing=grid.spacing, table=table)


def _found_labels(table: Table, numbers) -> dict[str, tuple[int, ...]]:
    classes = sorted(set(numbers) - {0})
    if not classes and labelled_domains(table.rows):
        raise DataError(f"{table.source}: no label map holds anything but background; give label maps to some subjects")
    return {BACKGROUND: (0,), **{f"class_{number}": (number,) for number in classes}}


def _names(table: Table, shape, spacing) -> tuple[str, str]:
    """(start of the names of all copies of this source, name of this one); the last part is of what it is made from."""
    path = os.path.realpath(table.source)
    stem = re.sub(r"\W+", "_", pathlib.Path(path).stem).strip("_") or "scans"
    prefix = f"{stem}-{_digest(path)[:6]}_"
    grid = ["x".join(f"{value:g}" for value in values or ()) or "auto" for values in (shape, spacing)]
    state = [[*row[:1], *row[3:6], *map(_file_state, row[1:3])] for row in table.rows]
    return prefix, f"{prefix}{grid[0]}_{grid[1]}_{_digest((state, dict(table.labels)))[:10]}"


def _file_state(path: pathlib.Path | None):
    if path is None:
        return None
    about = os.stat(path)
    return os.fspath(path), about.st_size, about.st_mtime_ns


def _digest(value) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()


def _remove_others(folder: pathlib.Path, prefix: str, state: str) -> None:
    """Copies of this source as it was before."""
    for path in folder.glob(f"{prefix}*"):
        if not path.name.endswith(state):
            shutil.rmtree(path, ignore_errors=True)


def _only_copy(prepared_dir: pathlib.Path) -> pathlib.Path:
    copies = [path for path in prepared_dir.glob(f"{Builder.name}/*/{Builder.VERSION}") if is_prepared(path)]
    if len(copies) == 1:
        return copies[0]
    found = "there are several prepared data sets" if copies else "there is no prepared data set"
    raise MissingDataError(f"Your scans were not named, and {found} in {prepared_dir}.\n{LAYOUTS}")
