"""What the commands do: put an experiment together, train it, measure it, draw it."""

import dataclasses
import functools
from pathlib import Path

from deepatlas_tf.datasets.load import load_dataset
from deepatlas_tf.evaluation.draw import draw
from deepatlas_tf.evaluation.evaluate import evaluate
from deepatlas_tf.evaluation.summary import comparison_table
from deepatlas_tf.experiments import get_experiment
from deepatlas_tf.messages import say
from deepatlas_tf.methods import method_names
from deepatlas_tf.recipes import get_recipe, recipe_names
from deepatlas_tf.runs.files import read_settings
from deepatlas_tf.training.experiment import Data, Experiment, set_value
from deepatlas_tf.training.loop import train_experiment
from deepatlas_tf.training.stages import used_labels
from deepatlas_tf.training.strategy import chief_first, get_strategy, is_chief, lost_workers
from deepatlas_tf.types import SettingError


def run(args) -> None:
    """``deepatlas train``: everything from the scans to the pictures. Takes the parsed options of the command."""
    strategy = get_strategy(args.strategy)
    with lost_workers():
        _run(args, strategy)


def _run(args, strategy) -> None:
    experiment = experiment_of(args)
    own = args.manual_dir or args.data_dir if experiment.data.dataset == "nifti" else None
    workdir = args.workdir or Path("runs") / (own.stem if own else experiment.data.dataset.replace("/", "_"))
    with chief_first(strategy):  # which prepares the data set, if that is to be done
        dataset = load(experiment.data, args, workdir)
    if is_chief(strategy):
        _announce(dataset, experiment, workdir)
    train_experiment(experiment, dataset, workdir, strategy)
    with chief_first(strategy):
        if is_chief(strategy):
            _report(dataset, workdir, experiment.evaluation.pairs_per_subject, "test")


def _announce(dataset, experiment: Experiment, workdir: Path) -> None:
    labels = len(used_labels(dataset, experiment))
    n_subjects = len(dataset.subjects["train"])
    say(f"{_title(dataset)}: {n_subjects} training subjects, {labels} with a label map; {workdir}")


def evaluate_again(args) -> None:
    """``deepatlas evaluate``: measure and draw the finished stages of a run."""
    settings = read_settings(args.workdir)
    dataset = dataset_of(settings, args, args.workdir)
    _report(dataset, args.workdir, settings["evaluation"]["pairs_per_subject"], args.split, args.instance_steps)


def dataset_of(settings: dict, args, workdir: Path):
    """The data set of a run's settings, which is prepared where it is not; args: with ``data_dir, manual_dir``."""
    values = settings["data"].items()
    data = Data(**{name: tuple(value) if isinstance(value, list) else value for name, value in values})
    return load(data, args, workdir)


def experiment_of(args) -> Experiment:
    """The experiment of the data set, with the command's options applied.

    A method that the data set's experiment has no stage of has a recipe, which makes its stages from those, or is a
    part of one; a recipe may also have a name of its own.
    """
    names = sorted({*method_names(), *recipe_names()})
    if args.method not in names:
        raise SettingError(f"there is no method {args.method!r}; there are {', '.join(names)}")
    experiment = get_experiment(args.dataset, tiny=args.tiny)
    if args.seed is not None:
        experiment = dataclasses.replace(experiment, seed=args.seed)
    of_data = [] if args.labels is None else [f"data.labels={args.labels}"]
    of_data += [assignment for assignment in args.set if assignment.startswith("data.")]
    experiment = _with_settings(experiment, of_data)  # a recipe may depend on them
    known = args.method in {stage.method for stage in experiment.stages}
    recipe = None if known else recipe_of(args.method)
    if recipe:
        experiment = get_recipe(recipe)(experiment, args.tiny)
    if recipe != args.method:
        experiment = experiment.only_method(args.method)
    experiment = experiment.scaled(args.steps_scale)
    others = [assignment for assignment in args.set if assignment not in of_data]
    return _with_settings(experiment, [*of_data, *others])  # over what a recipe chose


def recipe_of(method: str) -> str | None:
    """The recipe of this name, or the first one with a stage of the method; None where there is none."""
    if method in recipe_names():
        return method
    example = get_experiment("phantom_knee/t1_t2")  # with two domains, which some recipes ask for
    made = {name: get_recipe(name)(example).stages for name in recipe_names()}
    return next((name for name, stages in made.items() if method in {stage.method for stage in stages}), None)


def _with_settings(experiment: Experiment, assignments) -> Experiment:
    return functools.reduce(set_value, assignments, experiment)


def load(data: Data, args, workdir: Path):
    """The data set of these settings; args: with ``data_dir, manual_dir``."""
    return load_dataset(
        data.dataset,
        data_dir=args.data_dir,
        manual_dir=args.manual_dir,
        shape=data.shape,
        spacing=data.spacing,
        n_subjects=data.n_subjects,
        workdir=workdir,
    )


def _report(dataset, workdir, pairs_per_subject, split, instance_steps=0) -> None:
    evaluation = evaluate(workdir, dataset, split, pairs_per_subject, instance_steps)
    pictures = draw(workdir, evaluation, dataset, split)
    labelled = len(dataset.labelled[split])
    subjects = f"{labelled} subjects" if labelled else f"{len(dataset.subjects[split])} subjects without a label map"
    print(f"\n{_title(dataset)}, {split} split ({subjects})\n")
    print(comparison_table(evaluation.summary))
    say("\nPictures:")
    for picture in pictures:
        say(f"  {picture}")


def _title(dataset) -> str:
    return f"{dataset.name} (synthetic)" if dataset.synthetic else dataset.name
