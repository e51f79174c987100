"""What the data sets share: the TFDS records of a scan on the network's grid, and their builder."""

import contextlib
import dataclasses
import functools
import importlib.util
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepatlas_tf.datasets import beam
from deepatlas_tf.datasets.alignment import NONE, parse
from deepatlas_tf.datasets.source import Source
from deepatlas_tf.datasets.splits import SPLITS
from deepatlas_tf.keras_stack import tf, tfds
from deepatlas_tf.messages import progress
from deepatlas_tf.scans.channels import ONE
from deepatlas_tf.types import DataError, MissingDataError, SettingError


@dataclasses.dataclass(eq=False)
class VolumeConfig(tfds.core.BuilderConfig):
    """shape (*S): the network's grid. spacing (*S): its voxel size in mm. n_subjects: only for synthetic data.

    variant: which one of the builder's ``VARIANTS``, None where it has none. alignment: ``none``, or to which reference
    the scans are aligned and how, see :mod:`deepatlas_tf.datasets.alignment`. own_labels: the records of scans hold
    the label map on the scan's own grid, too. channel_names: of the images.
    """

    name: str
    shape: tuple[int, ...] = ()
    spacing: tuple[float, ...] = ()
    n_subjects: int | None = None
    variant: str | None = None
    alignment: str = NONE
    own_labels: bool = False
    channel_names: tuple[str, ...] = ONE

    def aligned(self, alignment: str) -> "VolumeConfig":
        """A copy with another alignment, and a name that tells it. Raises SettingError where there is no such one."""
        kind, subject = parse(alignment)
        if kind == NONE:
            return self
        suffix = kind if subject is None else f"{kind}_{re.sub(r'[^A-Za-z0-9.-]+', '-', subject)}"
        return dataclasses.replace(self, name=f"{self.name}_{suffix}", alignment=alignment)


def volume_config(
    shape: Sequence[int], spacing: Sequence[float], n_subjects: int | None = None, variant: str | None = None
) -> VolumeConfig:
    """A configuration named after its values: ``48x64x48_3.3mm``, ``seg35_32x32_3x2.5mm``, ``32x32_2mm_60subjects``.

    Raises DataError where the number of axes is not 2 or 3 or differs, or a value is not positive.
    """
    shape, spacing = tuple(int(n) for n in shape), tuple(float(s) for s in spacing)
    if len(shape) != len(spacing) or len(shape) not in (2, 3):
        raise DataError(f"shape {shape} and spacing {spacing}: give both two or three axes")
    if min(shape) < 1 or min(spacing) <= 0:
        raise DataError(f"shape {shape} and spacing {spacing}: all values must be positive")
    same = len(set(spacing)) == 1
    name = "x".join(map(str, shape)) + "_" + "x".join(f"{s:g}" for s in (spacing[:1] if same else spacing)) + "mm"
    if n_subjects is not None:
        name += f"_{n_subjects}subjects"
    name = name if variant is None else f"{variant}_{name}"
    return VolumeConfig(name=name, shape=shape, spacing=spacing, n_subjects=n_subjects, variant=variant)


# mypy takes a base class that brings no types, such as TFDS's, for one that has no arguments
class VolumeBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Base of all builders. A subclass sets the constants and writes ``find_subjects`` and ``read``.

    Records come in the order of the split's subjects, made in this process or, where TFDS was given options or a runner
    of Beam, by Beam's workers. They know of the builder its arguments, and the attributes that ``find_subjects`` and
    ``domains`` have set. CLASS_NAMES: index 0 is ``background``. VARIANTS: names of the
    forms in which the data set can be had (contrasts, sets of labels), the default first.
    """

    VERSION = tfds.core.Version("2.0.0")
    CLASS_NAMES: tuple[str, ...]
    VARIANTS: tuple[str, ...] = ()
    SYNTHETIC = False
    _with_beam = False
    _found: Mapping = {}

    def find_subjects(self, manual_dir: Path | None) -> tuple[Mapping[str, Sequence[str]], set[str]]:
        """Subject ids of each split in order, and which of all subjects have a label map."""
        raise NotImplementedError

    def read(self, subject: str) -> dict:
        """image (*S) or (*S, K) float32 in [0, 1], label (*S) uint8 or None, affine (D+1, D+1), and what is unusual.

        plain_label, plain_affine: of a scan that was aligned, its label map on the grid that it has without, and the
        affine of that grid. source_affine, source_shape, source_file: where the scan's own grid is not the
        network's. labelled_classes: names of the classes that the label map holds, where it does not hold all. Then
        what ``extra_features`` declares.
        """
        raise NotImplementedError

    def source(self, manual_dir: Path | None) -> Source:
        """The files of ``manual_dir`` that are read; {} where none are read. Raises MissingDataError for no scans."""
        return {}

    def extra_features(self) -> dict:
        """TFDS features of the records besides those that all data sets share."""
        return {}

    def class_names(self) -> tuple[str, ...]:
        """The classes of this configuration, ``background`` first."""
        return self.CLASS_NAMES

    def class_numbers(self) -> tuple[int, ...] | None:
        """The number of each class in the label files, 0 first; None where one has several, or there are no files."""
        return None

    def domains(self, subjects: Sequence[str]) -> dict[str, str]:
        """The domain of each subject; "" where there is only one."""
        return dict.fromkeys(subjects, "")

    @classmethod
    def config_for(
        cls,
        shape: Sequence[int] | None = None,
        spacing: Sequence[float] | None = None,
        n_subjects: int | None = None,
        variant: str | None = None,
    ) -> VolumeConfig:
        """The configuration with these values; None takes the value of the variant's default configuration.

        Raises SettingError for an unknown variant, DataError for a grid that the data set cannot have.
        """
        if variant is not None and variant not in cls.VARIANTS:
            have = f"there are {', '.join(cls.VARIANTS)}" if cls.VARIANTS else "it has none"
            raise SettingError(f"{cls.name} has no variant {variant!r}; {have}")
        variant = variant or next(iter(cls.VARIANTS), None)
        default = next(config for config in cls.BUILDER_CONFIGS if config.variant == variant)
        if n_subjects is not None and not cls.SYNTHETIC:
            raise DataError(f"{cls.name} is not synthetic: n_subjects cannot be chosen")
        config = volume_config(
            default.shape if shape is None else shape,
            default.spacing if spacing is None else spacing,
            default.n_subjects if n_subjects is None else n_subjects,
            variant,
        )
        if len(config.shape) != len(default.shape) and not cls.SYNTHETIC:
            holds, axes = ("volumes", "three") if len(default.shape) == 3 else ("slices", "two")
            raise DataError(f"{cls.name} holds {holds}: shape {config.shape} must have {axes} axes")
        return next((known for known in cls.BUILDER_CONFIGS if known.name == config.name), config)

    def _info(self) -> tfds.core.DatasetInfo:
        shape, n = self.builder_config.shape, len(self.builder_config.shape)
        tensor, raw = tfds.features.Tensor, tfds.features.Encoding.BYTES
        numbers = self.class_numbers()
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tensor(
                        shape=(*shape, len(self.builder_config.channel_names)), dtype=tf.float32, encoding=raw
                    ),
                    "label": tensor(shape=shape, dtype=tf.uint8, encoding=raw),
                    "labelled": tensor(shape=(len(self.class_names()),), dtype=tf.bool),
                    "subject": tfds.features.Text(),
                    "domain": tfds.features.Text(),
                    "spacing": tensor(shape=(n,), dtype=tf.float64),
                    "affine": tensor(shape=(n + 1, n + 1), dtype=tf.float64),
                    "source_affine": tensor(shape=(n + 1, n + 1), dtype=tf.float64),
                    "source_shape": tensor(shape=(n,), dtype=tf.int64),
                    "source_file": tfds.features.Text(),
                    **self._further_labels(),
                    **self.extra_features(),
                }
            ),
            metadata=tfds.core.MetadataDict(
                class_names=list(self.class_names()),
                class_numbers=None if numbers is None else list(numbers),
                spacing=list(self.builder_config.spacing),
                synthetic=self.SYNTHETIC,
                alignment=self.builder_config.alignment,
                channel_names=list(self.builder_config.channel_names),
            ),
            disable_shuffling=True,
        )

    def _further_labels(self) -> dict:
        """Features with the label map on other grids: of an aligned data set, on the grid without alignment."""
        if self.builder_config.alignment == NONE:
            return {}
        shape, n = self.builder_config.shape, len(self.builder_config.shape)
        tensor, raw = tfds.features.Tensor, tfds.features.Encoding.BYTES
        label = tensor(shape=shape, dtype=tf.uint8, encoding=raw)
        return {"plain_label": label, "plain_affine": tensor(shape=(n + 1, n + 1), dtype=tf.float64)}

    def _download_and_prepare(
        self, dl_manager: tfds.download.DownloadManager, download_config: tfds.download.DownloadConfig
    ) -> None:
        self._with_beam = (download_config.beam_options or download_config.beam_runner) is not None
        with beam.plain_errors(self.data_dir) if self._with_beam else contextlib.nullcontext():
            super()._download_and_prepare(dl_manager, download_config)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        before = set(vars(self)) - set(self._found)
        splits, labelled = self.find_subjects(self._manual_dir(dl_manager))
        self.info.metadata["subjects"] = {split: list(splits[split]) for split in SPLITS}
        self.info.metadata["labelled"] = {split: [s for s in splits[split] if s in labelled] for split in SPLITS}
        self.info.metadata["source"] = self.source(self._given_dir(dl_manager))
        self._domains = self.domains([subject for split in SPLITS for subject in splits[split]])
        self.info.metadata["domains"] = self._domains
        self.info.metadata["partial_labels"] = self._with_beam  # whose workers cannot say that there are none
        self._found = {name: value for name, value in vars(self).items() if name not in before}
        self._bar = progress(total=sum(map(len, splits.values())), desc=f"preparing {self.name}", unit="scan")
        # TFDS writes no split without records
        return {split: self._generate_examples(split, splits[split]) for split in SPLITS if splits[split]}

    def __reduce__(self):
        return _restored, (_importable(type(self)), type(self).__name__, self._original_state, self._found)

    def _manual_dir(self, dl_manager: tfds.download.DownloadManager) -> Path | None:
        folder = self._given_dir(dl_manager)
        if folder is None and self.MANUAL_DOWNLOAD_INSTRUCTIONS is not None:
            raise MissingDataError(self.MANUAL_DOWNLOAD_INSTRUCTIONS)
        return folder

    def _given_dir(self, dl_manager: tfds.download.DownloadManager) -> Path | None:
        if self.MANUAL_DOWNLOAD_INSTRUCTIONS is None:
            return None
        try:
            return Path(dl_manager.manual_dir)
        except AssertionError:  # TFDS: the folder is absent or empty
            return None

    def _generate_examples(self, split: str, subjects: Sequence[str]) -> Any:
        # TFDS sorts by key through files on disk, each for a range of 128-bit keys. Small keys would share one file,
        # which it reads whole: spread out, the memory used does not grow with the number of subjects.
        step = 2**128 // max(1, len(subjects))
        if self._with_beam:
            report = f"{SPLITS.index(split)}-{split}"  # read in this order
            return beam.examples(self.data_dir, report, subjects, functools.partial(self._example, step))
        return self._in_process(subjects, step)

    def _in_process(self, subjects: Sequence[str], step: int) -> Iterator[tuple[int, dict]]:
        for index, subject in enumerate(subjects):
            try:
                example = self._example(step, index, subject)
            except DataError:
                self._bar.close()  # the message gets a line of its own
                raise
            self.info.metadata["partial_labels"] |= len(set(example[1]["labelled"])) > 1
            yield example
            self._bar.update()
            if self._bar.n == self._bar.total:
                self._bar.close()

    def _example(self, step: int, index: int, subject: str) -> tuple[int, dict]:
        return index * step, self._record(subject)

    def _record(self, subject: str) -> dict:
        found, shape = self.read(subject), self.builder_config.shape
        label = found["label"]
        record = {
            "image": found["image"].reshape(*shape, -1).astype(np.float32),
            "label": np.zeros(shape, np.uint8) if label is None else label.astype(np.uint8),
            "labelled": self._labelled_classes(found),  # the name in data sets that earlier versions prepared
            "subject": subject,
            "domain": self._domains[subject],
            "spacing": np.array(self.builder_config.spacing, np.float64),
            "affine": found["affine"],
            "source_affine": found.get("source_affine", found["affine"]),
            "source_shape": np.array(found.get("source_shape", shape), np.int64),
            "source_file": found.get("source_file", ""),
        }
        return record | {name: found[name] for name in (*self._further_labels(), *self.extra_features())}

    def _labelled_classes(self, found: dict) -> np.ndarray:
        """Which classes the label map holds, (C,) bool. The background counts as labelled where all the others are."""
        names = self.class_names()[1:] if found["label"] is not None else ()
        kept = found.get("labelled_classes", names)
        flags = [name in kept for name in names] or [False] * (len(self.class_names()) - 1)
        return np.array([all(flags), *flags])


def _importable(builder_class: type) -> str:
    """The module where a worker finds the class: ``tfds build`` in ``datasets`` gives it a name of its own."""
    module = f"{__package__}.{builder_class.__module__}"
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        found = None
    return module if found else builder_class.__module__


def _restored(module: str, name: str, arguments: dict, found: dict) -> VolumeBuilder:
    builder_class, config = getattr(importlib.import_module(module), name), arguments["config"]
    # TFDS knows its configurations by identity, which a copy does not have
    config = builder_class.builder_configs.get(getattr(config, "name", config), config)
    builder = builder_class(**{**arguments, "config": config})
    vars(builder).update(found, _found=found)
    return builder
