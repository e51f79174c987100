"""Measuring a run, drawing it, and printing the tables."""

from collections.abc import Iterable
from pathlib import Path

from deepatlas_tf.datasets.load import DataSet
from deepatlas_tf.evaluation.draw import draw
from deepatlas_tf.evaluation.evaluate import Evaluation, evaluate
from deepatlas_tf.evaluation.own_grid import evaluate_on_own_grids
from deepatlas_tf.evaluation.summary import comparison_table, remarks
from deepatlas_tf.messages import say
from deepatlas_tf.runs.predict import ONE_PASS, AtTestTime


def measure_and_draw(
    dataset: DataSet,
    workdir: Path,
    split: str,
    pairs_per_subject: int,
    at: AtTestTime = ONE_PASS,
) -> Evaluation:
    """Measure and draw a run, and print the table and where the pictures are."""
    evaluation = evaluate(workdir, dataset, split, pairs_per_subject, at)
    pictures = draw(workdir, evaluation, dataset, split)
    labelled = len(dataset.labelled[split])
    subjects = f"{labelled} subjects" if labelled else f"{len(dataset.subjects[split])} subjects without a label map"
    print(f"\n{title(dataset)}, {split} split ({subjects})\n")
    print(comparison_table(evaluation.summary))
    for remark in remarks(evaluation.summary):
        print(f"\nnote: {remark}")
    say_pictures(pictures)
    return evaluation


def measure_on_own_grids(dataset: DataSet, fine: DataSet, workdir: Path, split: str) -> None:
    """Measure the stages that segment on the scans' own grids, and print the table."""
    summary = evaluate_on_own_grids(workdir, dataset, fine, split)
    if summary:
        print(f"\n{title(dataset)}, {split} split, on the scans' own grids\n")
        print(comparison_table(summary, tasks=("segmentation",)))


def say_pictures(pictures: Iterable[Path]) -> None:
    """Say where the pictures are."""
    say("\nPictures:")
    for picture in pictures:
        say(f"  {picture}")


def title(dataset: DataSet) -> str:
    """The name of a data set, with a word on one that is synthetic."""
    return f"{dataset.name} (synthetic)" if dataset.synthetic else dataset.name
