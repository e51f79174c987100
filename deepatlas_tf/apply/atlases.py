"""Atlases from files: scans with label maps, on the grid of a network."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from deepatlas_tf.apply.files import check_scan, stem
from deepatlas_tf.apply.foreground import Region
from deepatlas_tf.apply.given_scans import channel_files, find_scans
from deepatlas_tf.apply.grids import anatomy, check_window, cropped, mirrored, network_transform
from deepatlas_tf.datasets.scan_builder import merge
from deepatlas_tf.runs.atlases import Atlas, with_templates
from deepatlas_tf.runs.ensemble import Ensemble
from deepatlas_tf.runs.flips import check_flips, with_flips
from deepatlas_tf.runs.model import ExportedModel, Grid, TrainedModel
from deepatlas_tf.runs.predict import Segmenter, check_refinement
from deepatlas_tf.scans import checks, nifti
from deepatlas_tf.scans.channels import read_channels, to_network
from deepatlas_tf.scans.grid import GridTransform
from deepatlas_tf.scans.nifti import Nifti
from deepatlas_tf.types import DataError, SettingError


class Voters(NamedTuple):
    """Atlases, and the images ``(*S, K)`` of templates, all on the grid of a network."""

    atlases: Sequence[Atlas] = ()
    templates: Sequence[np.ndarray] = ()

    def __bool__(self) -> bool:
        return bool(self.atlases or self.templates)


class VoterFiles(NamedTuple):
    """atlases: the files of each scan, one for each channel, and its label map. templates: the files of each scan."""

    atlases: Sequence[tuple[tuple[Path, ...], Path]]
    templates: Sequence[tuple[Path, ...]]

    @property
    def paths(self) -> list[Path]:
        """All files."""
        labelled = [path for images, label in self.atlases for path in (*images, label)]
        return [*labelled, *(path for images in self.templates for path in images)]


class Functions(NamedTuple):
    """The methods of a :class:`~deepatlas_tf.runs.model.TrainedModel` of these names, or what has them ready."""

    segmenter: Callable
    registrar: Callable
    registration_beside: Callable
    segmentation_beside: Callable

    @classmethod
    def of_model(cls, model: TrainedModel | ExportedModel | Ensemble) -> "Functions":
        """Those of a model."""
        return cls(*(getattr(model, name) for name in cls._fields))

    def with_flips(self, grid: Grid, about: Mapping) -> "Functions":
        """These functions of a model, with a segmenter that takes the mean over a scan and its mirror image.

        Raises SettingError where a mirror image is none of what the model knows.
        """
        check_flips(len(grid.shape), bool(about.get("left_mirrored")))
        plain = self.segmenter
        return self._replace(segmenter=lambda stage: with_flips(plain(stage), grid.class_names))

    def voting(self, stage: str | None, voters: Voters, instance_steps: int) -> Segmenter:
        """The segmentation network of a stage, with the votes of atlases and templates, if there are any."""
        segment = self.segmenter(stage)
        if not voters:
            return segment
        register = self.registrar(self.registration_beside(stage), instance_steps)
        return with_templates(segment, register, *voters)

    def guiding(
        self, stage: str | None, voters: Voters, instance_steps: int, grid: Grid, scans: str
    ) -> Segmenter | None:
        """What refines a registration of ``stage``: the votes; None, the predictions alone, where nothing votes.

        It raises DataError where ``scans``, which are registered, are larger than the training grid.
        """
        if not voters:
            return None
        vote = self.voting(self.segmentation_beside(stage), voters, instance_steps)

        def of_window(image: np.ndarray) -> np.ndarray:
            try:
                check_window(image.shape[:-1], grid)
            except DataError as error:
                raise DataError(f"{scans}: {error}") from None
            return vote(image)

        return of_window


def check_refined(voters: Collection, instance_steps: int) -> None:
    """SettingError where there are steps, but no atlas or template whose registration they would refine."""
    if instance_steps and not voters:
        raise SettingError(
            "--instance-steps refines the registrations of atlases: add --atlas IMAGE LABEL or --template SCAN"
        )


def check_guided(voters: Collection, instance_steps: int, anatomy: bool) -> None:
    """SettingError where a registration has atlases or templates, but no anatomy to vote for, or no step for that."""
    check_refinement(instance_steps, anatomy)
    if voters and not anatomy:
        raise SettingError(
            "--atlas and --template vote for the anatomies that are aligned: add --anatomy --instance-steps 100"
        )


def find_voters(atlases: Sequence[tuple[Path, Path]], templates: Sequence[Path], channels: Sequence[str]) -> VoterFiles:
    """The files of atlases, (image, label map), and of templates, which are files, folders of them or CSVs.

    Raises DataError for a file that is not there or not one of NIfTI, or other channels than the model takes.
    """
    labelled = [(channel_files(image, channels), check_scan(label)) for image, label in atlases]
    return VoterFiles(labelled, [scan.paths for scan in find_scans(templates, channels)])


def read_voters(files: VoterFiles, grid: Grid, mirror: bool = False) -> Voters:
    """Atlases and templates from their files, see :func:`read_atlas` and :func:`read_template`."""
    return Voters(
        [read_atlas(images, label, grid, stem(images[0]), mirror) for images, label in files.atlases],
        [read_template(images, grid, stem(images[0]), mirror) for images in files.templates],
    )


def read_atlas(images: Sequence[Path], label: Path, grid: Grid, subject: str, mirror: bool = False) -> Atlas:
    """An atlas from its files, brought to the network's grid as a scan to be segmented and its label map of training.

    Args:
        images: the scan, a file for each channel.
        label: its label map on the same grid, in which all classes are labelled, with the model's ``written_numbers``,
            or the numbers of the label files of training that were merged, and the number of ignored voxels.
        grid: of the model.
        subject: who it is, for messages.
        mirror: it is of a left side, and the model knows right ones.

    Raises:
        DataError: a file cannot be read, the label map is on another grid or has other numbers, or the scan cannot be
            aligned or is larger than the training grid.
    """
    n_axes = len(grid.shape)
    scan = read_channels(images, grid.channel_names, subject, n_axes)
    labels = nifti.read_label(label, subject, n_axes)
    checks.check_same_grid(subject, (images[0], scan), (label, labels))
    classes = _class_map(subject, label, labels.volume, grid)
    n_classes = len(grid.class_names)
    image, transform, region = _on_grid(images[0], scan, grid, mirror)
    return Atlas(
        image,
        transform.label_to_network(classes[region], n_classes + (grid.ignore_number is not None)).astype(np.int32),
        np.ones(n_classes, np.float32),
    )


def _class_map(subject: str, path: Path, label: np.ndarray, grid: Grid) -> np.ndarray:
    """The class of each voxel (*S) uint8 by the numbers of a label map; ignored ones have one more than the last."""
    ignored = [] if grid.ignore_number is None else [(grid.ignore_number,)]
    written = [(number,) for number in grid.written_numbers]
    known = [[*numbers, *ignored] for numbers in (written, grid.merged_numbers) if numbers]
    found = set(np.unique(label).tolist())
    fitting = [numbers for numbers in known if found <= set().union(*numbers)]
    if not fitting:
        checks.check_values(subject, path, label, set().union(*known[-1]), "numbers that the model does not know")
    first, *others = (merge(label, numbers[1:]) for numbers in fitting)
    if any((other != first).any() for other in others):
        kinds = "both those of the label files of training and those that segment writes, which are other classes"
        raise DataError(
            f"subject {subject}: the numbers in label map {path} are {kinds}; give a label file of training"
        )
    return first


def read_template(images: Sequence[Path], grid: Grid, subject: str, mirror: bool = False) -> np.ndarray:
    """A scan without a label map on the network's grid, as one that is to be segmented: ``(*S, K)`` float32.

    Args:
        images, grid, subject, mirror: of :func:`read_atlas`.

    Raises:
        DataError: a file cannot be read, or the scan cannot be aligned or is larger than the training grid.
    """
    return _on_grid(images[0], read_channels(images, grid.channel_names, subject, len(grid.shape)), grid, mirror)[0]


def _on_grid(path: Path, scan: Nifti, grid: Grid, mirror: bool) -> tuple[np.ndarray, GridTransform, Region]:
    """The anatomy of a scan on the network's grid, how it got there, and where it lies in the scan."""
    shown = mirrored(scan) if mirror else scan
    region = anatomy(shown, grid)
    part = cropped(shown, region)
    try:
        transform = network_transform(part, grid)
        check_window(transform.shape, grid)
    except DataError as error:
        raise DataError(f"{path}, which is to vote: {error}") from None
    return to_network(part, transform), transform, region
