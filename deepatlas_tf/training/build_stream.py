"""Building the stream of batches of a stage from its settings."""

import dataclasses
from pathlib import Path

from deepatlas_tf.datasets.load import DataSet
from deepatlas_tf.keras_stack import tf
from deepatlas_tf.methods.base import Method
from deepatlas_tf.runs.folder import RunFolder
from deepatlas_tf.streams.pairs import (
    StreamSettings,
    WorkerShard,
    domain_pair_stream,
    hide_labels,
    labelled_subjects,
    only_subjects,
    pair_stream,
    sample_stream,
)
from deepatlas_tf.streams.pseudo_masks import with_soft_labels, with_teacher_labels
from deepatlas_tf.streams.subjects import in_domain
from deepatlas_tf.training.build_method import image_shape
from deepatlas_tf.training.experiment import Experiment, Stage


def stage_seed(stage: Stage, experiment: Experiment) -> int:
    """The seed from which a stage draws the first weights of its networks, and the samples or pairs of its batches."""
    return experiment.seed * 1000 + experiment.stages.index(stage)


def build_stream(
    stage: Stage,
    method: Method,
    experiment: Experiment,
    dataset: DataSet,
    workdir: Path,
    first_epoch: int,
    shard: WorkerShard,
) -> tf.data.Dataset:
    """Make the endless stream of batches that a stage is trained on.

    Args:
        stage: its settings say who is drawn how often, how scans are augmented, and whether pseudo masks are used.
        method: says whether a batch holds single samples or pairs.
        experiment: says which labels may be used.
        dataset: the scans; of a stage of patches at their own resolution.
        workdir: folder of the run, which holds the pseudo masks.
        first_epoch: the epoch to begin with, above 0 for a stage that goes on after an interruption.
        shard: the part of each batch that this worker gets, cut into a batch for each of its devices.
    """
    labelled = used_labels(dataset, experiment)
    samples = hide_labels(dataset.samples("train"), labelled)
    if stage.patches is None and stage.pseudo_from:
        samples = with_soft_labels(samples, pseudo_folder(workdir, stage), len(dataset.class_names), stage.pseudo_gate)
    settings = StreamSettings(
        batch_size=stage.batch_size,
        steps_per_epoch=stage.steps_per_epoch,
        seed=stage_seed(stage, experiment),
        memory_gib=experiment.data.memory_gib,
        augmentation=stage.augmentation,
        shard=shard,
        ignores=dataset.ignore_number is not None,
    )
    if stage.patches is not None:
        shape = image_shape(stage, dataset, workdir)
        settings = dataclasses.replace(settings, patches=dataclasses.replace(stage.patches, shape=shape))
        return _patch_stream(samples, stage, dataset, labelled, settings, workdir, first_epoch)
    moving, fixed = (in_domain(dataset.subjects["train"], dataset.domains, domain) for domain in stage.domains)
    if method.stream == "pairs" and stage.domains[0] != stage.domains[1]:
        return domain_pair_stream(samples, (moving, fixed), labelled, stage.labelled_fraction, settings, first_epoch)
    subjects = moving  # one domain, or all
    if len(subjects) < len(dataset.subjects["train"]):
        samples = only_subjects(samples, subjects)
        labelled = tuple(subject for subject in labelled if subject in subjects)
    if method.stream == "samples":
        return sample_stream(samples, subjects, labelled, stage.labelled_fraction[0], settings, first_epoch)
    return pair_stream(samples, subjects, labelled, stage.labelled_fraction, settings, first_epoch)


def _patch_stream(
    samples: tf.data.Dataset,
    stage: Stage,
    dataset: DataSet,
    labelled: tuple[str, ...],
    settings: StreamSettings,
    workdir: Path,
    first_epoch: int,
) -> tf.data.Dataset:
    """Patches of the labelled subjects and, where earlier networks teach, of the others with their label maps."""
    subjects = dataset.subjects["train"]
    if stage.pseudo_from:
        folder = RunFolder(workdir).stage(stage.name).teacher_labels
        samples = with_teacher_labels(samples, folder, len(dataset.class_names), labelled)
    else:
        samples, subjects = only_subjects(samples, labelled), labelled
    return sample_stream(samples, subjects, labelled, stage.labelled_fraction[0], settings, first_epoch)


def pseudo_folder(workdir: Path, stage: Stage) -> Path:
    """The folder of the pseudo masks that a stage learns from, within the folder of the run."""
    return workdir / stage.name / "pseudo"


def used_labels(dataset: DataSet, experiment: Experiment) -> tuple[str, ...]:
    """The training subjects whose label map is used: ``data.labels`` of those who have one, or all of them."""
    data = experiment.data
    labelled = in_domain(dataset.labelled["train"], dataset.domains, data.domains[0] if data.domains else None)
    return labelled_subjects(labelled, data.labels, experiment.seed)
