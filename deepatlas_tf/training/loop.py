"""Training a run: its stages one after the other, each trained, validated, checkpointed and resumed in the same way."""

import contextlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from deepatlas_tf.datasets.load import DataSet
from deepatlas_tf.keras_stack import keras, tf
from deepatlas_tf.messages import say
from deepatlas_tf.methods.base import Method
from deepatlas_tf.runs.folder import RunFolder, StageFolder
from deepatlas_tf.runs.lock import locked
from deepatlas_tf.runs.selection import SELECTED_BY, best_before, tasks_without_gain
from deepatlas_tf.streams.pairs import WorkerShard
from deepatlas_tf.streams.subjects import in_domain, read_samples, registration_pairs
from deepatlas_tf.training.build_method import build_method, check_data
from deepatlas_tf.training.build_stream import build_stream, stage_seed, used_labels
from deepatlas_tf.training.callbacks import EarlyStop, EpochEnd
from deepatlas_tf.training.experiment import Experiment, Stage
from deepatlas_tf.training.full_resolution import check_full_resolution, prepare_full_resolution
from deepatlas_tf.training.panels import Panels
from deepatlas_tf.training.pseudo import write_pseudo_masks
from deepatlas_tf.training.same_run import write_data, write_settings
from deepatlas_tf.training.saving import save_nets
from deepatlas_tf.training.strategy import check_batch, chief_first, distribute, is_chief, value_of_chief
from deepatlas_tf.training.unlabelled import first_labelled, say_not_measured, without_labels, without_pairs
from deepatlas_tf.training.validation import Validation
from deepatlas_tf.training.watch import EpochLine, Watch, batch_subjects
from deepatlas_tf.types import DataError


def train_experiment(
    experiment: Experiment,
    dataset: DataSet,
    workdir: Path,
    strategy: tf.distribute.Strategy | None = None,
    fine: DataSet | None = None,
) -> None:
    """Train every stage that is not finished in ``workdir``, and continue one that was interrupted.

    Stages that need label maps are left out where none is used, and those that need pairs where there is one training
    subject.

    Args:
        experiment: the settings.
        dataset: the scans.
        workdir: folder of the run, the same one for all workers; see the README for what is written there.
        strategy: what :func:`deepatlas_tf.training.strategy.get_strategy` gave; None is one device.
        fine: the scans at their own resolution, for the stages that see patches of them.

    Raises:
        DataError: if ``workdir`` holds a run with other settings or on other data, another process trains in it, or it
            cannot be written; if the data cannot be drawn from as a stage asks; if no stage is left; if a stage of
            patches has no ``fine`` scans.
        SettingError: if a stage cannot be trained on images of several channels or with label maps that ignore voxels,
            or has weights for another number of channels.
    """
    strategy = strategy or tf.distribute.get_strategy()
    chief = is_chief(strategy)
    if not used_labels(dataset, experiment):
        experiment, left_out = without_labels(experiment)
        if left_out:
            _say(chief, f"no label map is used: left out {', '.join(left_out)}")
    if len(dataset.subjects["train"]) == 1:
        experiment, left_out = without_pairs(experiment)
        if left_out:
            _say(chief, f"one training subject, which makes no pair: left out {', '.join(left_out)}")
    for stage in experiment.stages:
        check_batch(stage.name, stage.batch_size, strategy)
        check_full_resolution(stage, experiment, dataset, fine)
        check_data(stage, dataset)
    experiment.networks.check()
    with locked(RunFolder(workdir).lock_file) if chief else contextlib.nullcontext():
        _train_stages(experiment, dataset, workdir, strategy, fine)


def _train_stages(
    experiment: Experiment,
    dataset: DataSet,
    workdir: Path,
    strategy: tf.distribute.Strategy,
    fine: DataSet | None,
) -> None:
    chief = is_chief(strategy)
    with chief_first(strategy):
        write_settings(experiment, workdir)
        if chief:
            write_data(dataset, used_labels(dataset, experiment), RunFolder(workdir))
    domains = [domain for stage in experiment.stages for domain in stage.domains]
    if chief:
        say_not_measured(dataset, domains, in_fold=bool(experiment.data.folds))
    measured = first_labelled(dataset, "validation", domains, experiment.evaluation.validation_subjects)
    samples = read_samples(dataset.samples("validation"), measured)
    for stage in experiment.stages:
        if value_of_chief(strategy, RunFolder(workdir).stage(stage.name).is_finished):
            _say(chief, f"[{stage.name}] already trained")
            continue
        _say(chief, f"[{stage.name}] {stage.method}, {stage.steps} steps")
        seen, seen_samples = dataset, samples
        if stage.patches is not None and fine is not None:
            with chief_first(strategy):
                if chief:
                    prepare_full_resolution(stage, experiment, dataset, fine, samples, workdir)
            seen, seen_samples = fine, read_samples(fine.samples("validation"), measured)
        elif stage.pseudo_from and chief:
            write_pseudo_masks(stage, experiment, dataset, samples, workdir)
        keras.backend.clear_session()
        keras.utils.set_random_seed(stage_seed(stage, experiment))
        train_stage(stage, experiment, seen, seen_samples, workdir, strategy)


def train_stage(
    stage: Stage,
    experiment: Experiment,
    dataset: DataSet,
    validation_samples: Mapping[str, Mapping[str, np.ndarray]],
    workdir: Path,
    strategy: tf.distribute.Strategy,
) -> None:
    """Train one stage, from its last checkpoint on, and write the networks that were best on the validation subjects.

    All workers take part; the chief alone writes. ``validation_samples`` are labelled samples by subject, NumPy arrays.
    Of a stage of patches, they and ``dataset`` are at the scans' own resolution.
    Raises DataError where something cannot be written, DivergedError where a term of the loss is no longer finite.
    """
    folder, chief = RunFolder(workdir).stage(stage.name), is_chief(strategy)
    with strategy.scope():
        method = build_method(stage, experiment.networks, dataset, workdir)
    manager, first_epoch = _resume(method, folder, strategy)

    def stream(shard, epoch=first_epoch):
        return build_stream(stage, method, experiment, dataset, workdir, epoch, shard)

    # all workers watch, so that all stop; a batch is drawn once more to say who was in it
    watch = Watch(folder, lambda epoch, step: batch_subjects(stream(WorkerShard(), epoch), step), chief)
    callbacks = [watch]
    if chief:
        validation, panels = _measured(stage, dataset, validation_samples, method)
        writer = tf.summary.create_file_writer(str(RunFolder(workdir).tensorboard / stage.name))
        end = EpochEnd(folder, validation, manager, writer, panels, selects(stage, experiment), stage.start_from)
        callbacks += [end, EpochLine(stage.name)]
    trained = first_epoch >= stage.epochs  # then only the nets are not written
    if stage.patience:
        early_stop = EarlyStop(folder, stage.patience, partial(value_of_chief, strategy))
        callbacks.append(early_stop)
        trained = trained or early_stop.is_due()
    if not trained:
        if first_epoch:
            _say(chief, f"[{stage.name}] goes on from epoch {first_epoch} of {stage.epochs}")
        method.fit(
            distribute(strategy, stream),
            steps_per_epoch=stage.steps_per_epoch,
            epochs=stage.epochs,
            initial_epoch=first_epoch,
            callbacks=callbacks,
            verbose=0,  # the callbacks show more
        )
    if chief:
        save_nets(method.nets, folder)
        _say_what_was_not_gained(folder)


def _resume(
    method: Method, folder: StageFolder, strategy: tf.distribute.Strategy
) -> tuple[tf.train.CheckpointManager, int]:
    """Restore the newest checkpoint of a stage, if there is one.

    Gives what saves the next checkpoints, and the number of the epoch to go on with. Raises DataError where the workers
    do not see the same checkpoints.
    """
    checkpoint = tf.train.Checkpoint(
        nets=method.nets, optimizers=method.optimizers_by_net, random=tf.random.get_global_generator()
    )
    manager = tf.train.CheckpointManager(checkpoint, str(folder.checkpoints), max_to_keep=2, checkpoint_name="epoch")
    checkpoint.save_counter  # noqa: B018  made now, by all workers; made when the chief saves, it would wait for them
    first_epoch = 0
    if manager.latest_checkpoint is not None:
        checkpoint.restore(manager.latest_checkpoint).assert_existing_objects_matched()
        first_epoch = int(manager.latest_checkpoint.rsplit("-", 1)[1]) + 1
    if first_epoch != value_of_chief(strategy, first_epoch):
        raise DataError(
            f"{folder.path} has other checkpoints here than on the first worker: WORKDIR has to be one folder"
        )
    return manager, first_epoch


def _say_what_was_not_gained(folder: StageFolder) -> None:
    start, rows = folder.start(), folder.metrics()
    for task in tasks_without_gain(start, rows):
        key = SELECTED_BY[task]
        say(
            f"[{folder.name}] {task}: Dice of the validation subjects was {start[key]:.3f} at the start and at most "
            f"{best_before(key, {}, rows):.3f} after an epoch: the network that it started from is kept"
        )


def _measured(
    stage: Stage, dataset: DataSet, validation_samples: Mapping[str, Mapping[str, np.ndarray]], method: Method
) -> tuple[Validation, Panels]:
    """Make what measures the networks of a stage after each epoch, and what draws them."""
    updated = {name: method.nets[name] for turn in set(method.turns) for name in method.nets_of(turn)}
    moving, fixed = (in_domain(tuple(validation_samples), dataset.domains, domain) for domain in stage.domains)
    # Both tasks are measured on the fixed side, which may have no label map
    validation = Validation(validation_samples, len(dataset.class_names), updated if fixed else {}, (moving, fixed))
    pairs = registration_pairs(moving, 1, fixed)
    panels = Panels([validation_samples[subject] for subject in (pairs[0] if pairs else ())], method.nets)
    return validation, panels


def selects(stage: Stage, experiment: Experiment) -> bool:
    """Whether the networks of the best epoch are kept, and not those of the last.

    They are, unless the stage is for a domain whose labels are not to be used, so that nothing tells the best epoch.
    """
    domains = experiment.data.domains
    return not domains or set(stage.domains) == {domains[0]}


def _say(chief: bool, text: str) -> None:
    if chief:
        say(text)
