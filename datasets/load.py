"""Data sets by name: built with TFDS where they are not yet prepared, then streamed from their TFRecords."""

import dataclasses
import difflib
import importlib
import os
import pkgutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import deepatlas_tf.datasets
from deepatlas_tf.datasets.alignment import NONE, parse, plain_to_network
from deepatlas_tf.datasets.choose_grid import WantedGrid
from deepatlas_tf.datasets.folds import fold_of
from deepatlas_tf.datasets.prepare import prepare, quiet
from deepatlas_tf.datasets.source import Source, check_source
from deepatlas_tf.datasets.volume_builder import VolumeConfig
from deepatlas_tf.keras_stack import tf, tfds
from deepatlas_tf.plugins import plugin, plugin_names
from deepatlas_tf.scans.channels import ONE
from deepatlas_tf.scans.nifti import Nifti
from deepatlas_tf.types import DataError, Sample, SettingError

PathLike = str | os.PathLike


@dataclasses.dataclass(frozen=True)
class DataSet:
    """A prepared data set. ``builder`` is its TFDS builder.

    class_names: index 0 is ``background``. shape (*S): the grid, spacing (*S) its voxel size in mm.
    subjects, labelled: ids of each split in the records' order; all, and those that have a label map.
    domains: subject -> what kind of image it has (modality, contrast, site); "" where there is only one.
    partial_labels: whether there may be label maps that hold some of the classes only.
    source: what it was prepared from (``datasets.source``), {} for synthetic data and what earlier versions prepared.
    alignment: ``none``, or how the scans were aligned to the scan of the training subject ``reference``.
    read_from: what TFDS reads for a split, where that is not the split itself (``datasets.folds``).
    class_numbers: the number of each class in the label files, 0 first; None where a class has several, or there are no
    such files. channel_names: of the images. ignore_number: of the voxels in the label files that count nothing, which
    have the index ``C`` in the records; None where there is none. merged_numbers: of each class in the label files, the
    background's first, where a class has several; else None.
    """

    name: str
    class_names: tuple[str, ...]
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    synthetic: bool
    subjects: dict[str, tuple[str, ...]]
    labelled: dict[str, tuple[str, ...]]
    domains: dict[str, str]
    builder: Any
    partial_labels: bool = True
    source: Source = dataclasses.field(default_factory=dict)
    alignment: str = NONE
    reference: str | None = None
    read_from: dict[str, str] = dataclasses.field(default_factory=dict)
    class_numbers: tuple[int, ...] | None = None
    channel_names: tuple[str, ...] = ONE
    ignore_number: int | None = None
    merged_numbers: tuple[tuple[int, ...], ...] | None = None

    def samples(self, split: str) -> tf.data.Dataset:
        """Samples of a split (train, validation, test), unbatched, read from disk in the order of ``subjects``."""
        return self.records(split).map(_sample)

    def reference_scan(self) -> Nifti:
        """The image of the reference that the scans were aligned to, on the network's grid, and the affine of that.

        Of several channels the first, by which they were aligned.
        """
        found = (r for r in self.records("train").as_numpy_iterator() if r["subject"].decode() == self.reference)
        record = next(found)
        return Nifti(record["image"][..., 0], record["affine"])

    def measured(self, split: str) -> Iterator[dict]:
        """The samples of a split as NumPy arrays, with what a scan that was aligned is measured on.

        ``plain_label (*S)`` int32, the label map on the grid that the scan has without the alignment, and
        ``plain_to_network (D+1, D+1)``, from voxels of that grid to voxels of the network's.
        """
        if self.alignment == NONE:
            yield from self.samples(split).as_numpy_iterator()
            return
        for record in self.records(split).as_numpy_iterator():
            label = record["plain_label"].astype(np.int32)
            weight = record["labelled"].astype(np.float32)
            sample = {"image": record["image"], "label": record["label"].astype(np.int32), "label_weight": weight}
            plain = {"plain_label": label, "plain_to_network": plain_to_network(record)}
            yield {**sample, "subject": record["subject"], **plain}

    def records(self, split: str) -> tf.data.Dataset:
        """The records that the samples come from, with all that is stored: affine, spacing, source_file, ..."""
        if not self.subjects[split]:  # nor need TFDS know of such a split
            return self.records("train").take(0)
        # one file at a time keeps the order; TFDS would cache small data sets whole
        reading = tfds.ReadConfig(try_autocache=False, interleave_cycle_length=1, skip_prefetch=True)
        with quiet():
            source = self.read_from.get(split, split)
            return self.builder.as_dataset(split=source, shuffle_files=False, read_config=reading)


def dataset_names() -> tuple[str, ...]:
    """Names for ``load_dataset``: the folders of ``datasets/``, and the plug-ins."""
    own = (m.name for m in pkgutil.iter_modules(deepatlas_tf.datasets.__path__) if m.ispkg)
    return tuple(sorted({*own, *plugin_names("datasets")}))


def load_dataset(
    name: str,
    *,
    data_dir: PathLike | None = None,
    manual_dir: PathLike | None = None,
    workdir: PathLike | None = None,
    fold: int = 0,
    folds: int = 0,
    **grid: Any,
) -> DataSet:
    """The data set, prepared first where ``data_dir`` does not hold it. Only ``hippocampus`` can be downloaded.

    Args:
        name: one of ``dataset_names()``, or ``name/variant``, such as ``oasis/seg35``, where there are several.
        data_dir: where TFDS keeps prepared data sets; None is TFDS's own default. For ``nifti``, your own scans, it is
            the folder or CSV of the scans.
        manual_dir: the downloaded scans, needed only to prepare; None is ``<data_dir>/downloads/manual``. What is
            prepared must have been made of them.
        workdir: of a run; your own scans are kept there, in ``data``, unless ``manual_dir`` names them.
        fold: of a cross-validation, see :mod:`deepatlas_tf.datasets.folds`; 0 is the splits as they were prepared.
        folds: how many there are; 0 for as many as the test split makes.
        grid: ``shape``, ``spacing``: the network's grid (voxels; mm); None is the default. ``n_subjects``: only for
            synthetic data. ``max_voxels``: only for your own scans, of a grid that is chosen. ``alignment``: ``none``,
            ``rigid`` or ``affine``, see ``deepatlas_tf.datasets.alignment``. ``own_labels``: the records hold the label
            maps on the scans' own grids, too.

    Raises:
        MissingDataError: the scans are not in ``manual_dir``. DataError: unknown name, unusable scans, or scans in
            ``manual_dir`` that are not those that were prepared.
        SettingError: ``n_subjects`` of data that are not synthetic, ``alignment`` of data that are; no such fold.
    """
    if name == "nifti":
        if grid.pop("n_subjects", None) is not None:
            raise SettingError("n_subjects is for synthetic data: --dataset nifti takes all scans that it is given")
        builder = _own_scans(data_dir, manual_dir, workdir, grid)
    else:
        if grid.pop("max_voxels", None) is not None:
            raise SettingError(f"data.max_voxels is for a grid that is chosen: {name} has its own, see data.shape")
        builder = prepared_builder(name, data_dir, manual_dir, **grid)
    return fold_of(data_set(name, builder), fold, folds)


def data_set(name: str, builder: tfds.core.DatasetBuilder) -> DataSet:
    """What a prepared TFDS builder holds."""
    about = builder.info.metadata
    numbers, merged = (about.get(name) for name in ("class_numbers", "merged_numbers"))
    return DataSet(
        name=name,
        class_names=tuple(about["class_names"]),
        shape=tuple(builder.info.features["label"].shape),
        spacing=tuple(about["spacing"]),
        synthetic=about["synthetic"],
        subjects={split: tuple(ids) for split, ids in about["subjects"].items()},
        labelled={split: tuple(ids) for split, ids in about["labelled"].items()},
        domains=dict(about["domains"]),
        builder=builder,
        partial_labels=about.get("partial_labels", True),  # what was prepared by earlier versions does not say it
        source=about.get("source", {}),
        alignment=about.get("alignment", NONE),
        reference=about.get("reference"),
        class_numbers=None if numbers is None else tuple(numbers),
        channel_names=tuple(about.get("channel_names", ONE)),
        ignore_number=about.get("ignore_number"),
        merged_numbers=None if merged is None else tuple(map(tuple, merged)),
    )


def prepared_builder(
    name: str,
    data_dir: PathLike | None = None,
    manual_dir: PathLike | None = None,
    beam: Any = None,
    **grid: Any,
) -> tfds.core.DatasetBuilder:
    """The TFDS builder of a named data set, prepared first where needed; arguments and errors as for ``load_dataset``.

    ``beam``: PipelineOptions of Apache Beam, to prepare it with its workers.
    """
    builder_class, config = builder_and_config(name, **grid)
    data_dir = _absolute(tfds.core.constants.DATA_DIR if data_dir is None else data_dir)
    if data_dir.is_file() or (builder_class.SYNTHETIC and (data_dir / "imagesTr").is_dir()):
        kind = "a list" if data_dir.is_file() else "a folder"
        raise SettingError(f"--data-dir {data_dir} is {kind} of scans: add --dataset nifti")
    scans = data_dir / "downloads" / "manual" if manual_dir is None else _absolute(manual_dir)
    builder = prepare(builder_class, config, data_dir, scans, beam)
    if manual_dir is not None:
        check_source(builder, scans)
    return builder


def builder_and_config(
    name: str,
    shape: tuple[int, ...] | None = None,
    spacing: tuple[float, ...] | None = None,
    n_subjects: int | None = None,
    alignment: str = NONE,
    own_labels: bool = False,
) -> tuple[Any, VolumeConfig]:
    """The builder class of ``name`` or ``name/variant``, and its configuration with these values.

    Raises DataError for an unknown name, variant or grid, and SettingError for an alignment that cannot be.
    """
    base, _, variant = name.partition("/")
    names = dataset_names()
    if base not in names:
        near = difflib.get_close_matches(base, names)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(names)}"
        raise DataError(f"there is no data set {base!r}; {hint}")
    if base in plugin_names("datasets"):
        builder_class = plugin("datasets", base)
    else:
        builder_class = importlib.import_module(f"deepatlas_tf.datasets.{base}.{base}_dataset_builder").Builder
    config = builder_class.config_for(shape, spacing, n_subjects, variant=variant or None)
    if own_labels:
        config = dataclasses.replace(config, name=f"{config.name}_own_labels", own_labels=True)
    if parse(alignment)[0] == NONE:
        return builder_class, config
    if builder_class.SYNTHETIC:
        raise SettingError(f"data.alignment is for scans: {base} is synthetic, and drawn on the network's grid")
    return builder_class, config.aligned(alignment)


def _own_scans(data_dir, manual_dir, workdir, grid):
    source = data_dir if manual_dir is None else manual_dir
    in_run = None if workdir is None else Path(workdir) / "data"
    kept = (data_dir if manual_dir is not None else in_run) or tfds.core.constants.DATA_DIR
    module = importlib.import_module("deepatlas_tf.datasets.nifti.nifti_dataset_builder")
    wanted = WantedGrid(*(grid.pop(name, None) for name in WantedGrid._fields))
    return module.prepared_builder(source, kept, wanted, **grid)


def _absolute(path: PathLike) -> Path:
    return Path(os.path.abspath(os.path.expanduser(path)))


def _sample(record: Mapping[str, tf.Tensor]) -> Sample:
    return {
        "image": record["image"],
        "label": tf.cast(record["label"], tf.int32),
        # the stored feature is called "labelled" so that data sets prepared by earlier versions still open
        "label_weight": tf.cast(record["labelled"], tf.float32),
        "subject": record["subject"],
    }
