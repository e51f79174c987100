"""What the data sets share: the TFDS records of a scan on the network's grid, and how scans become such records."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from deepatlas_tf.data import checks, nifti
from deepatlas_tf.data.frames import Frame
from deepatlas_tf.data.intensity import rescale
from deepatlas_tf.keras_stack import tf, tfds
from deepatlas_tf.types import DataError, MissingDataError

SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(eq=False)
class VolumeConfig(tfds.core.BuilderConfig):
    """shape (*S): the network's grid. spacing (*S): its voxel size in mm. n_subjects: only for synthetic data."""

    shape: tuple[int, ...] = ()
    spacing: tuple[float, ...] = ()
    n_subjects: int | None = None


class Scan(NamedTuple):
    """Files of one subject; ``label`` is None where there is no label map."""

    subject: str
    image: Path
    label: Path | None


def volume_config(shape: Sequence[int], spacing: Sequence[float], n_subjects: int | None = None) -> VolumeConfig:
    """A configuration named after its values: ``48x64x48_3.3mm``, ``32x32_3x2.5mm_60subjects``.

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
    return VolumeConfig(name=name, shape=shape, spacing=spacing, n_subjects=n_subjects)


def split_subjects(subjects: Sequence[str], n_test: int, n_validation: int, full: int) -> dict[str, list[str]]:
    """Sort, permute with RandomState(0); first the test, then the validation, the rest the training subjects.

    Fewer than ``full`` subjects are split in the proportions ``n_test : n_validation : full``, at least one in each;
    0 stays 0.
    Raises DataError for fewer than 4 subjects.
    """
    if len(subjects) < 4:
        raise DataError(
            f"only {len(subjects)} subject(s) with a label map ({', '.join(subjects)}): at least 4 are needed, "
            "two to train, one to validate and one to test"
        )
    if len(subjects) < full:
        n_test, n_validation = (max(1, len(subjects) * n // full) if n else 0 for n in (n_test, n_validation))
    order = np.random.RandomState(0).permutation(sorted(subjects)).tolist()
    return {
        "train": order[n_test + n_validation :],
        "validation": order[n_test : n_test + n_validation],
        "test": order[:n_test],
    }


class VolumeBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Base of all builders. A subclass sets the constants and writes ``find_subjects`` and ``read``.

    Records come in the order of the split's subjects. CLASS_NAMES: index 0 is ``background``.
    """

    VERSION = tfds.core.Version("1.0.0")
    CLASS_NAMES: tuple[str, ...]
    SYNTHETIC = False

    def find_subjects(self, manual_dir: Path | None) -> tuple[Mapping[str, Sequence[str]], set[str]]:
        """Subject ids of each split in order, and which of all subjects have a label map."""
        raise NotImplementedError

    def read(self, subject: str) -> dict:
        """image (*S) float32 in [0, 1], label (*S) uint8 or None, affine; source_affine, source_shape, source_file.

        The source entries may be left out where the scan's own grid is the network's.
        """
        raise NotImplementedError

    @classmethod
    def config_for(cls, shape=None, spacing=None, n_subjects=None) -> VolumeConfig:
        """The configuration with these values; None takes the value of the default configuration."""
        default = cls.BUILDER_CONFIGS[0]
        if n_subjects is not None and not cls.SYNTHETIC:
            raise DataError(f"{cls.name} is not synthetic: n_subjects cannot be chosen")
        config = volume_config(
            default.shape if shape is None else shape,
            default.spacing if spacing is None else spacing,
            default.n_subjects if n_subjects is None else n_subjects,
        )
        if len(config.shape) != 3 and not cls.SYNTHETIC:
            raise DataError(f"{cls.name} holds volumes: shape {config.shape} must have three axes")
        return next((known for known in cls.BUILDER_CONFIGS if known.name == config.name), config)

    def _info(self) -> tfds.core.DatasetInfo:
        shape, n = self.builder_config.shape, len(self.builder_config.shape)
        tensor, raw = tfds.features.Tensor, tfds.features.Encoding.BYTES
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tensor(shape=(*shape, 1), dtype=tf.float32, encoding=raw),
                    "label": tensor(shape=shape, dtype=tf.uint8, encoding=raw),
                    "has_label": tf.bool,
                    "subject": tfds.features.Text(),
                    "affine": tensor(shape=(n + 1, n + 1), dtype=tf.float64),
                    "source_affine": tensor(shape=(n + 1, n + 1), dtype=tf.float64),
                    "source_shape": tensor(shape=(n,), dtype=tf.int64),
                    "source_file": tfds.features.Text(),
                }
            ),
            metadata=tfds.core.MetadataDict(
                class_names=list(self.CLASS_NAMES),
                spacing=list(self.builder_config.spacing),
                synthetic=self.SYNTHETIC,
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager) -> dict:
        splits, labelled = self.find_subjects(self._manual_dir(dl_manager))
        self.info.metadata["subjects"] = {split: list(splits[split]) for split in SPLITS}
        self.info.metadata["labelled"] = {split: [s for s in splits[split] if s in labelled] for split in SPLITS}
        self._bar = tqdm(total=sum(map(len, splits.values())), desc=f"preparing {self.name}", unit="scan", disable=None)
        return {split: self._generate_examples(splits[split]) for split in SPLITS}

    def _manual_dir(self, dl_manager) -> Path | None:
        if self.MANUAL_DOWNLOAD_INSTRUCTIONS is None:
            return None
        try:
            return Path(dl_manager.manual_dir)
        except AssertionError:  # TFDS: the folder is absent or empty
            raise MissingDataError(self.MANUAL_DOWNLOAD_INSTRUCTIONS) from None

    def _generate_examples(self, subjects: Sequence[str]) -> Iterator[tuple[int, dict]]:
        # TFDS sorts by key through files on disk, each for a range of 128-bit keys. Small keys would share one file,
        # which it reads whole: spread out, the memory used does not grow with the number of subjects.
        step = 2**128 // max(1, len(subjects))
        for index, subject in enumerate(subjects):
            try:
                record = self._record(subject)
            except DataError:
                self._bar.close()  # the message gets a line of its own
                raise
            yield index * step, record
            self._bar.update()
            if self._bar.n == self._bar.total:
                self._bar.close()

    def _record(self, subject: str) -> dict:
        found, shape = self.read(subject), self.builder_config.shape
        label = found["label"]
        return {
            "image": found["image"][..., None].astype(np.float32),
            "label": np.zeros(shape, np.uint8) if label is None else label.astype(np.uint8),
            "has_label": label is not None,
            "subject": subject,
            "affine": found["affine"],
            "source_affine": found.get("source_affine", found["affine"]),
            "source_shape": np.array(found.get("source_shape", shape), np.int64),
            "source_file": found.get("source_file", ""),
        }


class ScanBuilder(VolumeBuilder, skip_registration=True):
    """Base of the builders that read NIfTI files. A subclass writes ``find_scans``.

    LABELS: class name -> the numbers of the label files that are merged into the class, in the order of the classes.
    SPLIT: numbers of test and validation subjects, and the number of subjects from which on they hold.
    """

    LABELS: Mapping[str, Sequence[int]]
    SPLIT: tuple[int, int, int]

    def find_scans(self, manual_dir: Path) -> list[Scan]:
        """All scans; raises MissingDataError where the folder is not the data set's."""
        raise NotImplementedError

    def declared_numbers(self) -> set[int]:
        """The numbers that may occur in a label file; those in no class become background."""
        return {0, *(number for numbers in self.LABELS.values() for number in numbers)}

    def split(self, labelled: Sequence[str]) -> dict[str, list[str]]:
        """Splits of the labelled subjects; the others are added to the training subjects."""
        return split_subjects(labelled, *self.SPLIT)

    def find_subjects(self, manual_dir):
        scans = self.find_scans(manual_dir)
        if not scans:
            raise MissingDataError(self.MANUAL_DOWNLOAD_INSTRUCTIONS)
        self._scans = {scan.subject: scan for scan in scans}
        labelled = [scan.subject for scan in scans if scan.label is not None]
        splits = self.split(labelled)
        unlabelled = sorted(set(self._scans) - set(labelled))
        return {**splits, "train": [*splits["train"], *unlabelled]}, set(labelled)

    def read(self, subject):
        scan = self._scans[subject]
        image = nifti.read_image(scan.image, subject)
        frame = Frame(image.affine, image.volume.shape, self.builder_config.shape, self.builder_config.spacing)
        label = None
        if scan.label is not None:
            source = nifti.read_label(scan.label, subject)
            checks.check_same_grid(subject, (scan.image, image), (scan.label, source))
            checks.check_values(subject, scan.label, source.volume, self.declared_numbers())
            label = frame.label_to_network(merge(source.volume, self.LABELS.values()), 1 + len(self.LABELS))
        return {
            "image": frame.image_to_network(rescale(image.volume)),
            "label": label,
            "affine": frame.affine,
            "source_affine": image.affine,
            "source_shape": image.volume.shape,
            "source_file": scan.image.name,
        }


def merge(label: np.ndarray, values: Iterable[Sequence[int]]) -> np.ndarray:
    """Class index (*S) uint8: 1 + k where ``label`` (*S) is one of ``values[k]``, else 0."""
    merged = np.zeros(label.shape, np.uint8)
    for index, numbers in enumerate(values, start=1):
        merged[np.isin(label, list(numbers))] = index
    return merged


def find_folder(manual_dir: Path, name: str, marker: str, instructions: str) -> Path:
    """``manual_dir`` or its subfolder ``name``, whichever contains ``marker``, or MissingDataError(instructions)."""
    for folder in (manual_dir, manual_dir / name):
        if (folder / marker).exists():
            return folder
    raise MissingDataError(instructions)


def scans_in(images: Path, labels: Path, image_end: str = "", label_end: str = "") -> list[Scan]:
    """Scans ``SUBJECT<image_end>.nii[.gz]`` with their label maps ``SUBJECT<label_end>.nii[.gz]``, sorted.

    Raises DataError for a label map without an image, and for two files of one subject.
    """
    image_files, label_files = _by_subject(images, image_end), _by_subject(labels, label_end)
    orphans = sorted(set(label_files) - set(image_files))
    if orphans:
        subject = orphans[0]
        raise DataError(f"subject {subject}: label map {label_files[subject]} has no image; add it or remove the map")
    return [Scan(subject, path, label_files.get(subject)) for subject, path in image_files.items()]


def _by_subject(folder: Path, end: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.glob("*.nii*")):
        stem = path.name.removesuffix(".gz").removesuffix(".nii")
        if path.name.startswith(".") or not stem.endswith(end):  # macOS leaves files ._NAME beside the real ones
            continue
        subject = stem.removesuffix(end)
        checks.check_new(subject, path, found)
        found[subject] = path
    return found
