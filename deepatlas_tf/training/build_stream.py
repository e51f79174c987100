"""Building the stream of batches of a stage from its settings."""

from pathlib import Path

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
from deepatlas_tf.streams.pseudo_masks import with_soft_labels
from deepatlas_tf.streams.subjects import in_domain
from deepatlas_tf.training.experiment import Experiment, Stage


def stage_seed(stage: Stage, experiment: Experiment) -> int:
    """Seed of the stage's first weights and of its stream."""
    return experiment.seed * 1000 + experiment.stages.index(stage)


def build_stream(
    stage: Stage, method, experiment: Experiment, dataset, workdir: Path, first_epoch: int, shard: WorkerShard
):
    """Endless batches for a stage, from its ``first_epoch`` on, with the stage's pseudo masks if it has any.

    Of each batch only the ``shard``, cut up for its replicas.
    """
    labelled = used_labels(dataset, experiment)
    samples = hide_labels(dataset.samples("train"), labelled)
    if stage.pseudo_from:
        samples = with_soft_labels(samples, pseudo_folder(workdir, stage), len(dataset.class_names), stage.pseudo_gate)
    settings = StreamSettings(
        batch_size=stage.batch_size,
        steps_per_epoch=stage.steps_per_epoch,
        seed=stage_seed(stage, experiment),
        memory_gib=experiment.data.memory_gib,
        augmentation=stage.augmentation,
        shard=shard,
    )
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


def pseudo_folder(workdir: Path, stage: Stage) -> Path:
    """Where the pseudo masks are that a stage learns from."""
    return workdir / stage.name / "pseudo"


def used_labels(dataset, experiment: Experiment) -> tuple[str, ...]:
    """The training subjects whose label map is used."""
    data = experiment.data
    labelled = in_domain(dataset.labelled["train"], dataset.domains, data.domains[0] if data.domains else None)
    return labelled_subjects(labelled, data.labels, experiment.seed)
