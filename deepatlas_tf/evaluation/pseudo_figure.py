"""Drawing pseudo masks: how confident they are, where, and whether confident masks are good ones."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from deepatlas_tf.datasets.load import DataSet
from deepatlas_tf.evaluation.figures import figure_file, spoken
from deepatlas_tf.evaluation.panels import PANEL_INCHES, with_position
from deepatlas_tf.evaluation.plane import Plane
from deepatlas_tf.evaluation.slices import class_colour, show_contours, show_image
from deepatlas_tf.runs.folder import RunFolder
from deepatlas_tf.streams.pseudo_masks import STEPS, mask_path, read_mask
from deepatlas_tf.streams.subjects import read_samples

SUBJECTS = 3


class Masked(NamedTuple):
    """A subject for the panel: image ``(*S, K)``, and its mask, class probabilities ``(*S, C)`` in 255 steps."""

    name: str
    image: np.ndarray
    mask: np.ndarray


def draw_pseudo(run: RunFolder, dataset: DataSet, name: str) -> list[Path]:
    """Draw the quality of the pseudo masks, ``pseudo_quality.png``, and masks of the last round, ``pseudo_masks.png``.

    Args:
        run: the folder of the run, in whose ``figures`` they are drawn.
        dataset: the scans; the first training subjects with a mask are shown.
        name: what the data are called in the titles.

    Returns:
        The files; none where no stage of the run made pseudo masks, and no quality where none of the last round was
        compared with a label map.
    """
    rounds = {stage.name: rows for stage in run.stages() if (rows := stage.pseudo_quality())}
    if not rounds:
        return []
    last, paths = list(rounds)[-1], []
    if compared_with_labels(rounds[last]):
        paths.append(run.figures / "pseudo_quality.png")
        pseudo_quality(paths[-1], rounds, f"Pseudo masks ({name})")
    subjects = _masked_subjects(run.stage(last).pseudo_masks, dataset)
    if subjects:
        paths.append(run.figures / "pseudo_masks.png")
        title = f"Pseudo masks before {spoken(last)} ({name}, training split)"
        pseudo_masks(paths[-1], subjects, dataset.class_names[1:], dataset.spacing, title)
    return paths


def _masked_subjects(folder: Path, dataset: DataSet) -> list[Masked]:
    subjects = dataset.subjects["train"]
    shown = [subject for subject in subjects if mask_path(folder, subject).exists()][:SUBJECTS]
    if not shown:  # every training subject has its whole label
        return []
    first = dataset.samples("train").take(subjects.index(shown[-1]) + 1)
    samples = read_samples(first, shown)
    return [Masked(subject, samples[subject]["image"], read_mask(folder, subject)) for subject in shown]


def pseudo_masks(
    path: Path, subjects: Sequence[Masked], class_names: Sequence[str], spacing: Sequence[float], title: str
) -> None:
    """Draw a row for each subject: the image, the outlines of the most probable classes, and their probability.

    Args:
        path: where the PNG is written.
        subjects: all on one grid; the plane is chosen by the first mask.
        class_names: names of the foreground classes.
        spacing: voxel size of the grid in mm, for each axis.
        title: text above the figure.
    """
    labels = [subject.mask.argmax(axis=-1) for subject in subjects]
    plane = Plane.showing_most(labels[0], spacing)
    sides = plane.size_mm(labels[0].shape)
    width, height = (PANEL_INCHES * side / max(sides) for side in sides)
    with figure_file(path, max(5.5, 1.2 + 3 * (width + 0.1)), 1.1 + len(subjects) * (height + 0.3)) as figure:
        axes = figure.subplots(len(subjects), 3, squeeze=False)
        for row, subject, label in zip(axes, subjects, labels, strict=True):
            for axis, heading in zip(row, (subject.name, "pseudo mask", "confidence"), strict=True):
                axis.set_axis_off()
                axis.set_title(heading)
            for axis in row[:2]:
                show_image(axis, plane, subject.image)
            show_contours(row[1], plane, label)
            confidence = subject.mask.max(axis=-1, keepdims=True) / STEPS
            picture = show_image(row[2], plane, confidence, "viridis")
            show_contours(row[2], plane, label, "black")
        bar = figure.colorbar(picture, ax=list(axes[:, 2]), shrink=0.8)
        bar.set_label("probability of the most probable class")
        handles = [Patch(color=class_colour(i), label=spoken(name)) for i, name in enumerate(class_names, 1)]
        figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 4), fontsize=8)
        wrapped = textwrap.fill(title, int(11 * figure.get_figwidth()))
        figure.suptitle(with_position(wrapped, plane, labels[0].shape))


def pseudo_quality(path: Path, rounds: Mapping[str, list[dict]], title: str) -> None:
    """Draw confidence and Dice of the masks over the rounds, where there are several, and against each other.

    The second picture is of the last round.

    Args:
        path: where the PNG is written.
        rounds: the rows of ``pseudo/quality.csv`` of each stage that made masks, in order.
        title: text above the figure.
    """
    n_panels = min(2, len(rounds))
    with figure_file(path, 4.25 * n_panels, 3.8) as figure:
        figure.suptitle(title)
        *over_rounds, last = figure.subplots(1, n_panels, squeeze=False)[0]
        for axis in over_rounds:
            _over_rounds(axis, rounds)
        _against_each_other(last, list(rounds.values())[-1])
        last.set_title("validation subjects, last round" if over_rounds else "validation subjects")


def _over_rounds(axis: Axes, rounds: Mapping[str, list[dict]]) -> None:
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


def _against_each_other(axis: Axes, rows: list[dict]) -> None:
    measured = compared_with_labels(rows)
    for name in dict.fromkeys(row["class"] for row in measured):
        own = [row for row in measured if row["class"] == name]
        axis.plot([r["confidence"] for r in own], [r["dice"] for r in own], "o", markersize=4, label=spoken(name))
    axis.set_xlabel("mean confidence of the class")
    axis.set_ylabel("Dice of the pseudo mask")
    if 0 < len(measured) and len(dict.fromkeys(row["class"] for row in measured)) <= 10:
        axis.legend(fontsize=8)


def compared_with_labels(rows: Sequence[dict]) -> list[dict]:
    """The rows of ``quality.csv`` of masks that were compared with a label map."""
    return [row for row in rows if np.isfinite(row["dice"]) and np.isfinite(row["confidence"])]


def _mean(values: Sequence[float]) -> float:
    array = np.array(values, float)
    return float(np.nanmean(array)) if np.isfinite(array).any() else np.nan
