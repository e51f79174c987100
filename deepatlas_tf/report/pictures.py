"""The pictures of a report, as PNG bytes; drawn by the functions that draw ``WORKDIR/figures``."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deepatlas_tf.datasets.load import DataSet
from deepatlas_tf.evaluation import figures, panels
from deepatlas_tf.evaluation.draw import drawn_label, mean_dice, registered_pair
from deepatlas_tf.evaluation.figures import spoken
from deepatlas_tf.evaluation.pseudo_figure import compared_with_labels, pseudo_quality
from deepatlas_tf.report.cases import Applied, Case
from deepatlas_tf.report.document import Picture
from deepatlas_tf.runs.summary import RunSummary

PSEUDO_MASKS = "pseudo_masks.png"  # of figures, drawn by deepatlas_tf.evaluation.pseudo_figure


def curves(run: RunSummary) -> list[Picture]:
    """The training curves of all stages that have any."""
    rows = {stage.name: stage.rows for stage in run.stages if stage.rows}
    if not rows:
        return []
    text = "Each term of the loss, and what validation measured, by step of the stage."
    return [_picture(text, figures.training_curves, rows, f"Training ({run.dataset})")]


def pseudo_masks(run: RunSummary) -> list[Picture]:
    """How sure the pseudo masks of the run are, where it has any, and those that are drawn in ``figures``."""
    rounds = {stage.name: stage.pseudo_rows for stage in run.stages if stage.pseudo_rows}
    found = []
    if rounds and compared_with_labels(list(rounds.values())[-1]):
        text = "Pseudo masks: confidence and Dice over the rounds, and against each other in the last one."
        found.append(_picture(text, pseudo_quality, rounds, f"Pseudo masks ({run.dataset})"))
    drawn = run.folder.figures / PSEUDO_MASKS
    if drawn.exists():
        text = "Pseudo masks of training subjects: the image, outlines of the most probable classes, how sure they are."
        found.append(Picture(drawn.read_bytes(), text))
    return found


def boxes(run: RunSummary, task: str) -> Picture:
    """Dice of each case by class and method."""
    cases = "subject" if task == "segmentation" else "pair"
    title = f"{task.capitalize()} Dice by {cases} ({run.dataset})"
    text = f"{title}. Boxes: quartiles and median; whiskers: the whole range; diamond: mean."
    return _picture(text, figures.dice_boxplots, run.rows[task], run.class_names, title)


def segmented(case: Case, labels: Mapping[str, np.ndarray], applied: Applied, name: str) -> Picture:
    """The image, the manual label map and that of each method."""
    sample, dataset = applied.samples[case.subjects[0]], applied.dataset
    n_classes = len(dataset.class_names)
    notes = {method: f"Dice {mean_dice(label, sample, n_classes):.3f}" for method, label in labels.items()}
    shown = panels.Segmented(case.subjects[0], sample["image"], drawn_label(sample), labels, notes)
    title = f"{case.rank.capitalize()} segmentation ({name})"
    text = f"{case.rank.capitalize()} segmentation: {case.subjects[0]}, Dice {case.score:.3f}."
    return _picture(text, panels.segmentation_panel, [shown], dataset.class_names[1:], dataset.spacing, title)


def predicted(
    subject: str, image: np.ndarray, labels: Mapping[str, np.ndarray], dataset: DataSet, name: str
) -> Picture:
    """The image ``(*S, K)``, and the label map ``(*S,)`` of each method, of a scan that is not measured."""
    shown, text = panels.Segmented(subject, image, None, labels), f"Segmentation of {subject}, not measured."
    title = f"Segmentation ({name})"
    return _picture(text, panels.segmentation_panel, [shown], dataset.class_names[1:], dataset.spacing, title)


def registered(case: Case, fields: Mapping[str, np.ndarray], applied: Applied, name: str) -> list[Picture]:
    """Moving, fixed, warped and difference by the last method; the warped grids and Jacobian maps of all."""
    moving, fixed = (applied.samples[subject] for subject in case.subjects)
    dataset, spacing, pair = applied.dataset, applied.dataset.spacing, " onto ".join(case.subjects)
    method, u = list(fields.items())[-1]
    rank = f"{case.rank.capitalize()} registration"
    shown, after = _registered(case, u, applied)
    return [
        _picture(
            f"{rank}: {pair}, Dice {after:.3f}, by {spoken(method)}. Contours: label maps.",
            *(panels.registration_panel, [shown], dataset.class_names[1:], spacing),
            f"{rank} by {spoken(method)} ({name})",
        ),
        _picture(
            f"{rank}: where the lines of the fixed grid lie in the moving image, by each method.",
            *(panels.warped_grid, moving["image"], drawn_label(fixed), fields, spacing),
            f"{rank}, warped grid\n({name})",  # in two lines: one method alone makes a narrow picture
        ),
        _picture(
            f"{rank}: Jacobian determinant by each method; green grows, violet shrinks, red folds.",
            *(panels.jacobian_map, drawn_label(fixed), fields, spacing),
            f"{rank}, Jacobian determinant\n({name})",
        ),
    ]


def _registered(case: Case, u: np.ndarray, applied: Applied) -> tuple[panels.Registered, float]:
    """A pair for the panel, and its mean Dice after registration."""
    moving, fixed = (applied.samples[subject] for subject in case.subjects)
    return registered_pair("\nonto ".join(case.subjects), moving, fixed, u, len(applied.dataset.class_names))


def _picture(text: str, draw: Callable, *arguments: Any) -> Picture:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        draw(path, *arguments)
        return Picture(path.read_bytes(), text)
