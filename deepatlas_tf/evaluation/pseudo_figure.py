"""The picture of how sure the pseudo masks are, and whether that says how good they are."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from deepatlas_tf.evaluation.figures import figure_file, spoken


def pseudo_quality(path: Path, rounds: Mapping[str, list[dict]], title: str) -> None:
    """Confidence and Dice over the rounds, and against each other in the last one.

    Args:
        path: of the PNG.
        rounds: rows of ``pseudo/quality.csv`` by stage, in order.
        title: of the figure.
    """
    with figure_file(path, 8.5, 3.8) as figure:
        figure.suptitle(title)
        over_rounds, last = figure.subplots(1, 2)
        _over_rounds(over_rounds, rounds)
        _against_each_other(last, list(rounds.values())[-1])


def _over_rounds(axis, rounds):
    lines = (
        ("confidence, training", "train", "confidence", "#0072B2"),
        ("confidence, validation", "validation", "confidence", "#56B4E9"),
        ("Dice, validation", "validation", "dice", "#D55E00"),
    )
    numbers = np.arange(1, len(rounds) + 1)
    for name, split, measure, colour in lines:
        means = [_mean([row[measure] for row in rows if row["split"] == split]) for rows in rounds.values()]
        axis.plot(numbers, means, color=colour, marker=".", label=name)
    axis.set_xticks(numbers)
    axis.set_xlabel("round")
    axis.set_ylabel("mean over subjects and classes")
    axis.legend(fontsize=8)


def _against_each_other(axis, rows):
    measured = [row for row in rows if np.isfinite(row["dice"]) and np.isfinite(row["confidence"])]
    for name in dict.fromkeys(row["class"] for row in measured):
        own = [row for row in measured if row["class"] == name]
        axis.plot([r["confidence"] for r in own], [r["dice"] for r in own], "o", markersize=4, label=spoken(name))
    axis.set_xlabel("mean confidence of the class")
    axis.set_ylabel("Dice of the pseudo mask")
    axis.set_title("validation subjects, last round")
    if 0 < len(measured) and len(dict.fromkeys(row["class"] for row in measured)) <= 10:
        axis.legend(fontsize=8)


def _mean(values):
    values = np.array(values, float)
    return float(np.nanmean(values)) if np.isfinite(values).any() else np.nan
