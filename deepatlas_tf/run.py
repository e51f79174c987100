"""What the commands do: put an experiment together, train it, measure it, draw it."""

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from deepatlas_tf.datasets.full_resolution import load_full_resolution
from deepatlas_tf.datasets.load import DataSet, load_dataset
from deepatlas_tf.datasets.splits import has_cases
from deepatlas_tf.evaluation.draw import draw_training
from deepatlas_tf.evaluation.evaluate import Evaluation
from deepatlas_tf.evaluation.show import measure_and_draw, measure_on_own_grids, say_pictures, title
from deepatlas_tf.experiments import get_experiment
from deepatlas_tf.messages import say
from deepatlas_tf.methods import method_names
from deepatlas_tf.pretrained import model_folder
from deepatlas_tf.recipes import get_recipe, recipe_names, stages_of
from deepatlas_tf.runs.folder import TASKS, RunFolder
from deepatlas_tf.runs.model import TrainedModel
from deepatlas_tf.runs.predict import ONE_PASS, AtTestTime, trained_nets
from deepatlas_tf.training.build_stream import used_labels
from deepatlas_tf.training.config import read_experiment
from deepatlas_tf.training.experiment import Data, Experiment
from deepatlas_tf.training.full_resolution import NAME as FULL_RESOLUTION
from deepatlas_tf.training.full_resolution import with_full_resolution
from deepatlas_tf.training.loop import train_experiment
from deepatlas_tf.training.same_run import check_classes, check_settings
from deepatlas_tf.training.settings import set_value
from deepatlas_tf.training.strategy import chief_first, get_strategy, is_chief, lost_workers
from deepatlas_tf.types import DataError, SettingError


def train(
    experiment: Experiment,
    workdir: Path | None = None,
    *,
    data_dir: Path | None = None,
    manual_dir: Path | None = None,
    strategy: str = "none",
) -> Path:
    """Train an experiment, measure it on the test split and draw it; the same call goes on with an interrupted run.

    Where the test split holds nothing that can be measured, as with few label maps, only the curves are drawn.

    Args:
        experiment: the settings, such as those of :func:`make_experiment`.
        workdir: folder of the run; None is ``runs/DATASET``.
        data_dir: where prepared data sets are kept, None for TFDS's own folder; of ``nifti`` the scans.
        manual_dir: where the scans are that are not prepared yet; None is ``<data_dir>/downloads/manual``.
        strategy: a name of :data:`~deepatlas_tf.training.strategy.STRATEGIES`.

    Returns:
        The folder of the run.

    Raises:
        DataError: what :func:`~deepatlas_tf.datasets.load.load_dataset` and
            :func:`~deepatlas_tf.training.loop.train_experiment` raise.
    """
    workdir = workdir or default_workdir(experiment.data.dataset, data_dir, manual_dir)
    distribution = get_strategy(strategy)
    check_settings(experiment, workdir, ("data",))  # before anything is prepared
    with lost_workers():
        with chief_first(distribution):  # which prepares the data set, if that is to be done
            dataset = load_data(experiment.data, workdir, data_dir, manual_dir)
        if used_labels(dataset, experiment):
            check_classes(experiment.networks, dataset)
        if is_chief(distribution):
            _announce(dataset, experiment, workdir)
        with chief_first(distribution):
            of_patches = [stage.patches for stage in experiment.stages if stage.patches is not None]
            spacing, places = of_patches[-1].spacing if of_patches else None, (data_dir, manual_dir)
            fine = load_fine(dataset, workdir, spacing, *places) if of_patches else None
        train_experiment(experiment, dataset, workdir, distribution, fine)
        with chief_first(distribution):
            if is_chief(distribution):
                _finish(dataset, workdir, experiment.evaluation.pairs_per_subject)
                if fine is not None:
                    measure_on_own_grids(dataset, fine, workdir, "test")
    return workdir


def default_workdir(dataset: str, data_dir: Path | None, manual_dir: Path | None) -> Path:
    """Where a run goes that is given no folder: ``runs/DATASET``, of your own scans ``runs/NAME`` of their file."""
    own_scans = manual_dir or data_dir if dataset == "nifti" else None
    return Path("runs") / (own_scans.stem if own_scans else dataset.replace("/", "_"))


def _finish(dataset: DataSet, workdir: Path, pairs_per_subject: int) -> None:
    """Measure and draw a run on the test split; where that has nothing to measure, draw the training alone."""
    registers = any("registration" in trained_nets(stage) for stage in RunFolder(workdir).settings()["stages"])
    if has_cases(dataset.subjects, dataset.labelled, "test", registers):
        measure_and_draw(dataset, workdir, "test", pairs_per_subject)
        return
    say("\nno test subject has a label map: nothing is measured")
    say_pictures(draw_training(workdir, dataset))


def _announce(dataset: DataSet, experiment: Experiment, workdir: Path) -> None:
    n_subjects, n_labels = len(dataset.subjects["train"]), len(used_labels(dataset, experiment))
    say(f"{title(dataset)}: {n_subjects} training subjects, {n_labels} with a label map; {workdir}")
    shape, spacing = (" x ".join(f"{n:g}" for n in values) for values in (dataset.shape, dataset.spacing))
    say(f"{shape} voxels of {spacing} mm, classes: {len(dataset.class_names) - 1}")


def evaluate(
    workdir: Path,
    split: str = "test",
    at: AtTestTime = ONE_PASS,
    *,
    data_dir: Path | None = None,
    manual_dir: Path | None = None,
) -> Evaluation:
    """Measure and draw the finished stages of a run.

    Args:
        workdir: folder of the run.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        at: what is measured besides the networks, such as registrations refined for each pair.
        data_dir, manual_dir: as for :func:`train`.
    """
    dataset, settings = dataset_of_run(workdir, data_dir, manual_dir), RunFolder(workdir).settings()
    pairs_per_subject = settings["evaluation"]["pairs_per_subject"]
    found = measure_and_draw(dataset, workdir, split, pairs_per_subject, at)
    of_patches = [stage["patches"] for stage in settings["stages"] if stage.get("patches")]
    if of_patches:
        fine = load_fine(dataset, workdir, of_patches[-1].get("spacing"), data_dir, manual_dir)
        measure_on_own_grids(dataset, fine, workdir, split)
    return found


def load_fine(
    dataset: DataSet,
    workdir: Path,
    spacing: Sequence[float] | None = None,
    data_dir: Path | None = None,
    manual_dir: Path | None = None,
) -> DataSet:
    """The scans of a run at their own resolution, or at ``spacing`` (mm); other arguments as for :func:`train`."""
    place = RunFolder(workdir).stage(FULL_RESOLUTION).path
    return load_full_resolution(dataset, place, spacing, data_dir=data_dir, manual_dir=manual_dir)


def dataset_of_run(workdir: Path, data_dir: Path | None = None, manual_dir: Path | None = None) -> DataSet:
    """The data set that a run was trained on, prepared first where it is not; arguments as for :func:`train`."""
    settings = RunFolder(workdir).settings()["data"]
    values: dict[str, Any] = {n: tuple(value) if isinstance(value, list) else value for n, value in settings.items()}
    data = Data(**values)
    return load_data(data, workdir, data_dir, manual_dir)


def load_data(
    data: Data, workdir: Path | None = None, data_dir: Path | None = None, manual_dir: Path | None = None
) -> DataSet:
    """The data set of these settings, prepared first where it is not; arguments as for :func:`train`."""
    return load_dataset(
        data.dataset,
        data_dir=data_dir,
        manual_dir=manual_dir,
        shape=data.shape,
        spacing=data.spacing,
        max_voxels=data.max_voxels,
        n_subjects=data.n_subjects,
        alignment=data.alignment,
        fold=data.fold,
        folds=data.folds,
        workdir=workdir,
    )


def experiment_from(
    config: Path | None = None, init_from: Path | None = None, settings: Iterable[str] = (), **options: Any
) -> Experiment:
    """The experiment of a file, or that of a data set.

    Args:
        config: what a run wrote, see :func:`~deepatlas_tf.training.config.read_experiment`; None for a data set's.
        init_from: folder of a run, or the name of networks that come with the package, with whose networks and on
            whose grid the training begins.
        settings: assignments ``path=value``; they come last.
        options: those of :func:`make_experiment`, of which ``dataset`` and ``method`` do not go with ``config``.

    Raises:
        SettingError: if there is no such method or setting.
        DataError: if the file or the run cannot be used.
    """
    settings = (*(starting_from(init_from) if init_from else ()), *settings)
    if config is None:
        return make_experiment(settings=settings, **options)
    twice = [name for name in ("dataset", "method") if name in options]
    if twice:
        raise SettingError(f"--config says which {twice[0]} it is of: leave out --{twice[0]}")
    return _configured(config, settings, **options)


def _configured(
    config: Path,
    settings: Iterable[str],
    labels: int | None = None,
    seed: int | None = None,
    steps_scale: float = 1.0,
    tiny: bool = False,
) -> Experiment:
    """The experiment of a file with these options, which mean what they do for :func:`make_experiment`."""
    settings = tuple(settings)
    of_data = [assignment for assignment in settings if assignment.startswith("data.")]
    experiment = _with_settings(read_experiment(config), of_data)
    experiment = _with_fine_stage(experiment, experiment)
    experiment = (experiment.tiny() if tiny else experiment).scaled(steps_scale)
    asked = [f"{name}={value}" for name, value in (("seed", seed), ("data.labels", labels)) if value is not None]
    return _with_settings(experiment, [*asked, *settings])


def starting_from(workdir: Path) -> tuple[str, ...]:
    """Assignments by which a training begins with the last networks of a run, on the grid that they know.

    Raises:
        DataError: if ``workdir`` is not the folder of a run, or no network of it is finished.
    """
    model = TrainedModel(model_folder(workdir))
    stages = {task: model.stage_of(task) for task in TASKS}
    nets = [f"networks.{task}={model.folder.stage(name).net(task)}" for task, name in stages.items() if name]
    if not nets:
        raise DataError(f"--init-from {workdir}: no stage of this run is finished, so that there is no network")
    return (f"data.shape={model.grid.shape}", f"data.spacing={model.grid.spacing}", *nets)


def make_experiment(
    dataset: str = "phantom_knee",
    method: str = "deepatlas",
    *,
    labels: int | None = None,
    seed: int | None = None,
    steps_scale: float = 1.0,
    settings: Iterable[str] = (),
    tiny: bool = False,
) -> Experiment:
    """The experiment of a data set, changed as the options of ``deepatlas train`` say.

    A method that the data set's experiment has no stage of has a recipe, which makes its stages from those, or is a
    part of one; a recipe may also have a name of its own.

    Args:
        dataset: name, or name/variant, of a data set.
        method: name of a method or of a recipe.
        labels: how many training subjects keep their label map; None for as many as the experiment says.
        seed: of the choice of labels, first weights and pairs; None for the experiment's.
        steps_scale: so many times the steps of every stage.
        settings: assignments ``path=value``, see :func:`~deepatlas_tf.training.settings.set_value`; they come last.
        tiny: a very short training with narrow networks.

    Raises:
        SettingError: if there is no such method or setting.
    """
    names = sorted({*method_names(), *recipe_names()})
    if method not in names:
        raise SettingError(f"there is no method {method!r}; there are {', '.join(names)}")
    experiment, settings = get_experiment(dataset, tiny=tiny), tuple(settings)
    if seed is not None:
        experiment = dataclasses.replace(experiment, seed=seed)
    of_data = [] if labels is None else [f"data.labels={labels}"]
    of_data += [assignment for assignment in settings if assignment.startswith("data.")]
    experiment = _with_settings(experiment, of_data)  # a recipe may depend on them
    templates, recipe = experiment, recipe_of(method, experiment)
    if recipe:
        experiment = get_recipe(recipe)(experiment, tiny)
    if recipe != method:
        experiment = experiment.only_method(method)
    experiment = _with_fine_stage(experiment, templates).scaled(steps_scale)
    others = [assignment for assignment in settings if assignment not in of_data]
    return _with_settings(experiment, [*of_data, *others])  # over what a recipe chose


def recipe_of(method: str, experiment: Experiment) -> str | None:
    """The recipe of this name; or the first one with a stage of the method, if the experiment has none; else None."""
    if method in recipe_names():
        return method
    if method in {stage.method for stage in experiment.stages}:
        return None
    example = get_experiment("phantom_knee/t1_t2")  # with two domains, which some recipes ask for
    made = {name: get_recipe(name)(example).stages for name in recipe_names()}
    return next((name for name, stages in made.items() if method in {stage.method for stage in stages}), None)


def _with_fine_stage(experiment: Experiment, templates: Experiment) -> Experiment:
    """The experiment with a stage of full resolution where the data ask for one that is not there.

    It is made from the stage of ``segmentation`` in ``templates``.
    """
    if not experiment.data.full_resolution or any(stage.patches is not None for stage in experiment.stages):
        return experiment
    return with_full_resolution(experiment, stages_of(templates, "segmentation")[0])


def _with_settings(experiment: Experiment, assignments: Iterable[str]) -> Experiment:
    return functools.reduce(set_value, assignments, experiment)
