"""How the builders that read scans from files share their work: images and label maps become records on one grid."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from deepatlas_tf.datasets.alignment import NONE, aligned_transform, choose_reference, parse, placed
from deepatlas_tf.datasets.source import Source, source_of
from deepatlas_tf.datasets.splits import split_subjects
from deepatlas_tf.datasets.volume_builder import VolumeBuilder
from deepatlas_tf.keras_stack import tf, tfds
from deepatlas_tf.scans import checks, nifti
from deepatlas_tf.scans.channels import read_channels, to_network
from deepatlas_tf.scans.grid import GridTransform
from deepatlas_tf.scans.intensity import rescale
from deepatlas_tf.types import DataError, MissingDataError


class Scan(NamedTuple):
    """Files of one subject; ``label`` is None where there is no label map, ``others`` are its further channels."""

    subject: str
    image: Path
    label: Path | None
    others: tuple[Path, ...] = ()

    @property
    def files(self) -> list[Path]:
        """All files that are there."""
        return [path for path in (self.image, self.label, *self.others) if path is not None]


class ScanBuilder(VolumeBuilder, skip_registration=True):  # type: ignore[call-arg] # TFDS brings no types
    """Base of the builders that read NIfTI files. A subclass writes ``find_scans``.

    LABELS: class name -> the numbers of the label files that are merged into the class, in the order of the classes.
    SPLIT: numbers of test and validation subjects, and the number of subjects from which on they hold.
    """

    LABELS: Mapping[str, Sequence[int]]
    SPLIT: tuple[int, int, int]

    def class_names(self):
        return ("background", *self.label_numbers())

    def class_numbers(self):
        groups = self.label_numbers().values()
        return (0, *(group[0] for group in groups)) if all(len(group) == 1 for group in groups) else None

    def find_scans(self, manual_dir: Path) -> list[Scan]:
        """All scans; raises MissingDataError where the folder is not the data set's."""
        raise NotImplementedError

    def label_numbers(self) -> Mapping[str, Sequence[int]]:
        """``LABELS`` of this configuration."""
        return self.LABELS

    def declared_numbers(self) -> set[int]:
        """The numbers that may occur in a label file; those in no class become background."""
        return {0, *(number for numbers in self.label_numbers().values() for number in numbers)}

    def ignore_number(self) -> int | None:
        """The number in a label file of voxels that count nothing, which is no class; None where there is none."""
        return None

    def undeclared(self) -> str:
        """What a message calls numbers in a label map that are not declared."""
        return "numbers the data set does not declare"

    def load(self, scan: Scan) -> tuple[nifti.Nifti, nifti.Nifti | None]:
        """The scan's image, with all of its channels, and label map, on one grid."""
        n_axes, names = len(self.builder_config.shape), self.builder_config.channel_names
        image = read_channels((scan.image, *scan.others), names, scan.subject, n_axes)
        if scan.label is None:
            return image, None
        label = nifti.read_label(scan.label, scan.subject, n_axes)
        checks.check_same_grid(scan.subject, (scan.image, image), (scan.label, label))
        return image, label

    def split(self, labelled: Sequence[str]) -> dict[str, list[str]]:
        """Splits of the labelled subjects; the others are added to the training subjects."""
        return split_subjects(labelled, *self.SPLIT)

    def source(self, manual_dir: Path | None) -> Source:
        """The files of the scans in ``manual_dir``, with their states."""
        if manual_dir is None:
            return {}
        return source_of(file for scan in self.find_scans(manual_dir) for file in scan.files)

    def _further_labels(self) -> dict:
        """With ``own_labels`` also ``own_label`` (source_shape), the classes on the scan's own grid."""
        found = super()._further_labels()
        if self.builder_config.own_labels:
            shape = (None,) * len(self.builder_config.shape)
            found["own_label"] = tfds.features.Tensor(shape=shape, dtype=tf.uint8, encoding=tfds.features.Encoding.ZLIB)
        return found

    def find_subjects(self, manual_dir):
        scans = self.find_scans(manual_dir)
        if not scans:
            raise MissingDataError(self.MANUAL_DOWNLOAD_INSTRUCTIONS)
        self._scans = {scan.subject: scan for scan in scans}
        labelled = [scan.subject for scan in scans if scan.label is not None]
        splits = self.split(labelled)
        unlabelled = sorted(set(self._scans) - set(labelled))
        splits = {**splits, "train": [*splits["train"], *unlabelled]}
        self.set_reference(splits["train"])
        self.keep_numbers()
        return splits, set(labelled)

    def set_reference(self, subjects: Sequence[str]) -> None:
        """Choose the reference among the training subjects, where the scans are to be aligned."""
        kind, named = parse(self.builder_config.alignment)
        if kind != NONE:
            self._reference = choose_reference(subjects, lambda subject: self.load(self._scans[subject])[0], named)
            self.info.metadata["reference"] = self._reference

    def keep_numbers(self) -> None:
        """Keep the numbers of each class in the label files, the background's first, where a class has several."""
        if self.class_numbers() is None:
            classes = [set(numbers) for numbers in self.label_numbers().values()]
            others = self.declared_numbers() - set().union(*classes) - {self.ignore_number()}
            self.info.metadata["merged_numbers"] = [sorted(numbers) for numbers in (others, *classes)]

    def read(self, subject):
        scan = self._scans[subject]
        image, label_map = self.load(scan)
        plain, numbers = self._plain_transform(image), self.label_numbers()
        transform, merged = self._transform(subject, image, plain), None
        ignore = self.ignore_number()
        groups = [*numbers.values(), *([] if ignore is None else [(ignore,)])]  # ignored voxels: one more than the last
        if label_map is not None and scan.label is not None:
            checks.check_values(subject, scan.label, label_map.volume, self.declared_numbers(), self.undeclared())
            checks.check_not_ignored(subject, scan.label, label_map.volume, ignore)
            merged = merge(label_map.volume, groups)

        def on_grid(grid: GridTransform) -> np.ndarray | None:
            return None if merged is None else grid.label_to_network(merged, 1 + len(groups))

        found = {
            "image": to_network(image, transform),
            "label": on_grid(transform),
            "affine": transform.affine,
            "source_affine": image.affine,
            "source_shape": image.volume.shape,
            "source_file": scan.image.name,
        }
        if self.builder_config.own_labels:
            found["own_label"] = np.zeros(image.volume.shape, np.uint8) if merged is None else merged
        if transform is not plain:
            label = on_grid(plain)
            found["plain_label"] = np.zeros(plain.shape, np.uint8) if label is None else label
            found["plain_affine"] = plain.affine
        return found

    def _plain_transform(self, image: nifti.Nifti) -> GridTransform:
        return GridTransform(image.affine, image.volume.shape, self.builder_config.shape, self.builder_config.spacing)

    def _transform(self, subject: str, image: nifti.Nifti, plain: GridTransform) -> GridTransform:
        """The way of a scan to the network's grid, which is that of the reference where scans are aligned."""
        kind, _ = parse(self.builder_config.alignment)
        if kind == NONE:
            return plain
        if subject == self._reference:
            return placed(image, plain.shape, plain.affine)
        try:
            return aligned_transform(image, self._reference_image, kind)
        except DataError as error:
            raise DataError(
                f"subject {subject}: {error}, name another reference (data.alignment={kind}:SUBJECT), "
                "or set data.alignment=none"
            ) from None

    @functools.cached_property
    def _reference_image(self) -> nifti.Nifti:
        """The reference's image on its network grid, as a trained model keeps it for other scans."""
        image = self.load(self._scans[self._reference])[0]
        plain = self._plain_transform(image)
        return nifti.Nifti(plain.image_to_network(rescale(image.volume)), plain.affine)


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
