"""Data sets by name: built with TFDS where they are not yet prepared, then streamed from their TFRecords."""

import contextlib
import dataclasses
import difflib
import importlib
import io
import os
import pkgutil
from pathlib import Path
from typing import Any

from absl import logging

import deepatlas_tf.datasets
from deepatlas_tf.keras_stack import tf, tfds
from deepatlas_tf.types import DataError, MissingDataError, Sample

PathLike = str | os.PathLike


@dataclasses.dataclass(frozen=True)
class DataSet:
    """A prepared data set. ``builder`` is its TFDS builder, for the records' further entries (affine, source_file).

    class_names: index 0 is ``background``. shape (*S): the grid, spacing (*S) its voxel size in mm.
    subjects, labelled: ids of each split in the records' order; all, and those that have a label map.
    """

    name: str
    class_names: tuple[str, ...]
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    synthetic: bool
    subjects: dict[str, tuple[str, ...]]
    labelled: dict[str, tuple[str, ...]]
    builder: Any

    def samples(self, split: str) -> tf.data.Dataset:
        """Samples of a split (train, validation, test), unbatched, read from disk in the order of ``subjects``."""
        # one file at a time keeps the order; TFDS would cache small data sets whole
        reading = tfds.ReadConfig(try_autocache=False, interleave_cycle_length=1, skip_prefetch=True)
        with _quiet():
            records = self.builder.as_dataset(split=split, shuffle_files=False, read_config=reading)
        return records.map(_sample)


def dataset_names() -> tuple[str, ...]:
    """Names for ``load_dataset``: the folders of ``datasets/``."""
    return tuple(sorted(m.name for m in pkgutil.iter_modules(deepatlas_tf.datasets.__path__) if m.ispkg))


def load_dataset(
    name: str,
    *,
    data_dir: PathLike | None = None,
    manual_dir: PathLike | None = None,
    shape: tuple[int, ...] | None = None,
    spacing: tuple[float, ...] | None = None,
    n_subjects: int | None = None,
) -> DataSet:
    """The data set, prepared first where ``data_dir`` does not hold it. Nothing is downloaded.

    Args:
        name: one of ``dataset_names()``.
        data_dir: where TFDS keeps prepared data sets; None is TFDS's own default.
        manual_dir: the downloaded scans, needed only to prepare; None is ``<data_dir>/downloads/manual``.
        shape, spacing: the network's grid (voxels; mm); None is the default. n_subjects: only for synthetic data.

    Raises:
        MissingDataError: the scans are not in ``manual_dir``. DataError: unknown name or unusable scans.
    """
    builder_class = _builder_class(name)
    config = builder_class.config_for(shape, spacing, n_subjects)
    data_dir = Path(tfds.core.constants.DATA_DIR if data_dir is None else data_dir).expanduser().resolve()
    manual_dir = data_dir / "downloads" / "manual" if manual_dir is None else Path(manual_dir).expanduser().resolve()
    with _quiet():
        builder = builder_class(config=config, data_dir=os.fspath(data_dir))
    _prepare(builder, manual_dir)
    about = builder.info.metadata
    return DataSet(
        name=name,
        class_names=tuple(about["class_names"]),
        shape=tuple(config.shape),
        spacing=tuple(config.spacing),
        synthetic=about["synthetic"],
        subjects={split: tuple(ids) for split, ids in about["subjects"].items()},
        labelled={split: tuple(ids) for split, ids in about["labelled"].items()},
        builder=builder,
    )


def _builder_class(name: str):
    names = dataset_names()
    if name not in names:
        near = difflib.get_close_matches(name, names)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(names)}"
        raise DataError(f"there is no data set {name!r}; {hint}")
    return importlib.import_module(f"deepatlas_tf.datasets.{name}.{name}_dataset_builder").Builder


def _prepare(builder, manual_dir: Path) -> None:
    config = tfds.download.DownloadConfig(
        manual_dir=manual_dir, try_download_gcs=False, compute_stats=tfds.download.ComputeStatsMode.SKIP
    )
    try:
        with _quiet():
            builder.download_and_prepare(download_config=config)
    except MissingDataError as error:
        raise MissingDataError(f"{error}\nLooked in: {manual_dir}") from None


@contextlib.contextmanager
def _quiet():
    """Without TFDS's log, its announcement of a download (there is none) and its bars (the builder draws one)."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        tfds.enable_progress_bar()
        logging.set_verbosity(verbosity)


def _sample(record) -> Sample:
    return {
        "image": record["image"],
        "label": tf.cast(record["label"], tf.int32),
        "label_weight": tf.cast(record["has_label"], tf.float32),
        "subject": record["subject"],
    }
