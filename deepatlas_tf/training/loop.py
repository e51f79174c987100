"""The one loop: a run is a tuple of stages, each trained, validated, checkpointed and resumed in the same way."""

import shutil
import subprocess
from pathlib import Path

from deepatlas_tf.keras_stack import keras, tf, versions
from deepatlas_tf.messages import say
from deepatlas_tf.runs.files import read_json, through_json, write_json
from deepatlas_tf.runs.folder import RunFolder, StageFolder
from deepatlas_tf.streams.pairs import WorkerShard
from deepatlas_tf.streams.subjects import in_domain, read_samples, registration_pairs
from deepatlas_tf.training.callbacks import EpochEnd
from deepatlas_tf.training.experiment import Experiment, Stage, settings_dict
from deepatlas_tf.training.panels import Panels
from deepatlas_tf.training.pseudo import write_pseudo_masks
from deepatlas_tf.training.stages import build_method, build_stream, check_net_files, stage_seed, used_labels
from deepatlas_tf.training.strategy import check_batch, chief_first, distribute, is_chief, value_of_chief
from deepatlas_tf.training.unlabelled import first_labelled, say_unlabelled, without_labels
from deepatlas_tf.training.validation import Validation
from deepatlas_tf.training.watch import EpochLine, Watch, batch_subjects
from deepatlas_tf.types import DataError


def train_experiment(experiment: Experiment, dataset, workdir: Path, strategy=None) -> None:
    """Train every stage that is not finished in ``workdir``, and continue one that was interrupted.

    Args:
        experiment: the settings.
        dataset: a :class:`~deepatlas_tf.datasets.load.DataSet`.
        workdir: see the README for what is written there; one folder for all workers.
        strategy: a ``tf.distribute.Strategy`` of :mod:`deepatlas_tf.training.strategy`; None is one device.

    Raises:
        DataError: if ``workdir`` holds a run with other settings, the data cannot be drawn from as the stages ask, or
            no label map is used and every stage needs some. Where only some stages do, they are left out.
    """
    strategy = strategy or tf.distribute.get_strategy()
    chief = is_chief(strategy)
    if not used_labels(dataset, experiment):
        experiment, left_out = without_labels(experiment)
        if left_out:
            _say(chief, f"no label map is used: left out {', '.join(left_out)}")
    for stage in experiment.stages:
        check_batch(stage.name, stage.batch_size, strategy)
    check_net_files(experiment.networks)
    with chief_first(strategy):
        write_settings(experiment, workdir)
    domains = [domain for stage in experiment.stages for domain in stage.domains]
    if chief:
        write_json(RunFolder(workdir).model_file, grid_of_networks(dataset))
        say_unlabelled(dataset, "validation", domains)
    measured = first_labelled(dataset, "validation", domains, experiment.evaluation.validation_subjects)
    samples = read_samples(dataset.samples("validation"), measured)
    for stage in experiment.stages:
        if value_of_chief(strategy, RunFolder(workdir).stage(stage.name).is_finished):
            _say(chief, f"[{stage.name}] already trained")
            continue
        _say(chief, f"[{stage.name}] {stage.method}, {stage.steps} steps")
        if stage.pseudo_from and chief:
            write_pseudo_masks(stage, experiment, dataset, samples, workdir)
        keras.backend.clear_session()
        keras.utils.set_random_seed(stage_seed(stage, experiment))
        train_stage(stage, experiment, dataset, samples, workdir, strategy)


def train_stage(stage: Stage, experiment: Experiment, dataset, validation_samples, workdir: Path, strategy) -> None:
    """Train one stage from its last checkpoint; the chief leaves the nets that were best on the validation subjects."""
    folder = RunFolder(workdir).stage(stage.name)
    with strategy.scope():
        method = build_method(stage, experiment.networks, dataset, workdir)
    checkpoint = tf.train.Checkpoint(
        nets=method.nets, optimizers=method.optimizers_by_net, random=tf.random.get_global_generator()
    )
    manager = tf.train.CheckpointManager(checkpoint, str(folder.checkpoints), max_to_keep=2, checkpoint_name="epoch")
    checkpoint.save_counter  # noqa: B018  made now, by all workers; made when the chief saves, it would wait for them
    first_epoch = _restore(checkpoint, manager)
    if first_epoch != value_of_chief(strategy, first_epoch):
        raise DataError(
            f"{folder.path} has other checkpoints here than on the first worker: WORKDIR has to be one folder"
        )
    chief = is_chief(strategy)

    def stream(shard, epoch=first_epoch):
        return build_stream(stage, method, experiment, dataset, workdir, epoch, shard)

    # all workers watch, so that all stop; a batch is drawn once more to say who was in it
    watch = Watch(folder, lambda epoch, step: batch_subjects(stream(WorkerShard(), epoch), step), chief)
    callbacks = [watch]
    if chief:
        validation, panels = _measured(stage, dataset, validation_samples, method)
        writer = tf.summary.create_file_writer(str(RunFolder(workdir).tensorboard))
        selected = selects(stage, experiment)
        callbacks += [EpochEnd(folder, validation, manager, writer, panels, selected), EpochLine(stage.name)]
    method.fit(
        distribute(strategy, stream),
        steps_per_epoch=stage.steps_per_epoch,
        epochs=stage.epochs,
        initial_epoch=first_epoch,
        callbacks=callbacks,
        verbose=0,  # the callbacks show more
    )
    if chief:
        _save_nets(method.nets, folder)


def _measured(stage, dataset, validation_samples, method):
    """What is measured, and what is drawn, at the end of an epoch."""
    updated = {name: method.nets[name] for turn in set(method.turns) for name in method.nets_of(turn)}
    sides = tuple(in_domain(validation_samples, dataset.domains, domain) for domain in stage.domains)
    # Both tasks are measured on the fixed side, which may have no label map
    validation = Validation(validation_samples, len(dataset.class_names), updated if sides[1] else {}, sides)
    shown = (registration_pairs(sides[0], 1, sides[1]) or [()])[0]
    panels = Panels([validation_samples[subject] for subject in shown], method.nets)
    return validation, panels


def selects(stage: Stage, experiment: Experiment) -> bool:
    """Whether the best epoch is kept, not the last: not where only labels that are not to be used could tell."""
    domains = experiment.data.domains
    return not domains or set(stage.domains) == {domains[0]}


def _say(chief, text):
    if chief:
        say(text)


def _save_nets(nets, folder: StageFolder) -> None:
    """Write the best weights of each net as ``nets/<name>.keras``; the folder appears when all are written."""
    folder.unfinished_nets.mkdir(exist_ok=True)
    for name, net in nets.items():
        best = folder.best_weights(name)
        if best.exists():
            net.load_weights(str(best))
        net.save(folder.unfinished_nets / folder.net(name).name, save_format="keras")
    folder.unfinished_nets.rename(folder.nets)


def grid_of_networks(dataset) -> dict:
    """What is needed to apply the networks to other scans: their classes, and the grid that they were trained on."""
    return {
        "dataset": dataset.name,
        "synthetic": dataset.synthetic,
        "class_names": list(dataset.class_names),
        "shape": list(dataset.shape),
        "spacing": list(dataset.spacing),
        "left_mirrored": "mirrored" in dataset.builder.info.features.keys(),
    }


def write_settings(experiment: Experiment, workdir: Path) -> None:
    """Write ``experiment.json``, or check that the one which is there has the same settings."""
    path = RunFolder(workdir).settings_file
    settings = through_json(settings_dict(experiment))
    if path.exists():
        found = read_json(path)["experiment"]
        different = [key for key in settings if settings[key] != found.get(key)]
        if different:
            raise DataError(
                f"{path} is of a run with other settings ({', '.join(different)}): choose another --workdir, "
                "or delete it"
            )
        return
    write_json(path, {"experiment": settings, "versions": versions(), "git_commit": _git_commit()})


def _restore(checkpoint, manager) -> int:
    """Restore the newest checkpoint, if there is one; the epoch to go on with."""
    if manager.latest_checkpoint is None:
        return 0
    checkpoint.restore(manager.latest_checkpoint).assert_existing_objects_matched()
    return int(manager.latest_checkpoint.rsplit("-", 1)[1]) + 1


def _git_commit() -> str | None:
    git = shutil.which("git")
    if git is None:
        return None
    where = Path(__file__).parent
    found = subprocess.run([git, "-C", str(where), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or None
