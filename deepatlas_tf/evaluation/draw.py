"""The pictures of a run: which ones there are, and from which subjects, rows and fields."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from deepatlas_tf.evaluation import figures, panels
from deepatlas_tf.evaluation.pseudo_figure import pseudo_quality
from deepatlas_tf.evaluation.report import method_order
from deepatlas_tf.metrics.overlap import dice
from deepatlas_tf.training.files import read_json, read_json_lines, read_rows
from deepatlas_tf.training.predict import of_domain, read_samples, registration_pairs, warp_image, warp_label

SUBJECTS = 3


def draw(workdir: Path, evaluation, dataset, split: str = "test") -> list[Path]:
    """Draw ``workdir/figures/*.png``; pictures of tasks that were not trained are left out.

    Args:
        workdir: of the run.
        evaluation: an :class:`~deepatlas_tf.evaluation.evaluate.Evaluation`.
        dataset: a :class:`~deepatlas_tf.data.sources.DataSet`.
        split: its first labelled subjects are shown.

    Returns:
        The files, in the order in which they are best looked at.
    """
    folder = workdir / "figures"
    samples = read_samples(dataset.samples(split), dataset.labelled[split][:SUBJECTS])
    name = f"{dataset.name}, synthetic" if dataset.synthetic else dataset.name
    paths = _draw_curves(folder, workdir, name) + _draw_pseudo(folder, workdir, name)
    paths += _draw_segmentation(folder, evaluation, dataset, samples, f"{name}, {split} split")
    paths += _draw_registration(folder, evaluation, dataset, samples, f"{name}, {split} split")
    return paths


def _draw_curves(folder, workdir, name):
    stages = [stage["name"] for stage in read_json(workdir / "experiment.json")["experiment"]["stages"]]
    rows = {stage: read_json_lines(workdir / stage / "metrics.jsonl") for stage in stages}
    rows = {stage: found for stage, found in rows.items() if found}
    if not rows:
        return []
    path = folder / "training_curves.png"
    figures.training_curves(path, rows, f"Training ({name})")
    return [path]


def _draw_pseudo(folder, workdir, name):
    stages = [stage["name"] for stage in read_json(workdir / "experiment.json")["experiment"]["stages"]]
    files = {stage: workdir / stage / "pseudo" / "quality.csv" for stage in stages}
    rounds = {stage: read_rows(path) for stage, path in files.items() if path.exists()}
    if not rounds:
        return []
    path = folder / "pseudo_quality.png"
    pseudo_quality(path, rounds, f"Pseudo masks ({name})")
    return [path]


def _draw_segmentation(folder, evaluation, dataset, samples, name):
    if not evaluation.segmenters:
        return []
    classes = dataset.class_names[1:]
    boxes, panel = folder / "dice_segmentation.png", folder / "segmentation.png"
    figures.dice_boxplots(boxes, evaluation.segmentation_rows, classes, f"Segmentation Dice by subject ({name})")
    subjects = []
    for subject, sample in samples.items():
        found = {m: evaluation.segmenters[m](sample["image"]) for m in method_order(evaluation.segmenters)}
        notes = {
            method: f"Dice {mean_dice(label, sample, len(dataset.class_names)):.3f}" for method, label in found.items()
        }
        subjects.append(panels.Segmented(subject, sample["image"], sample["label"], found, notes))
    panels.segmentation_panel(panel, subjects, classes, dataset.spacing, f"Segmentation ({name})")
    return [boxes, panel]


def _draw_registration(folder, evaluation, dataset, samples, name):
    methods = [method for method in method_order(evaluation.registrars) if method != "identity"]
    if not methods:
        return []
    between = evaluation.domains[methods[-1]]  # what is shown beside the last method is for the same pairs
    methods = [method for method in methods if evaluation.domains[method] == between]
    moving, fixed = (of_domain(samples, dataset.domains, domain) for domain in between)
    pairs = registration_pairs(moving, 1, fixed)
    if not pairs:
        return []
    paths = [folder / f"{file}.png" for file in ("dice_registration", "registration", "warped_grid", "jacobian")]
    classes, spacing = dataset.class_names[1:], dataset.spacing
    figures.dice_boxplots(paths[0], evaluation.registration_rows, classes, f"Registration Dice by pair ({name})")
    register = evaluation.registrars[methods[-1]]
    shown = [_registered(register, samples, *pair, n_classes=len(dataset.class_names)) for pair in pairs]
    title = f"Registration by {figures.spoken(methods[-1])} ({name})"
    panels.registration_panel(paths[1], shown, classes, spacing, title)
    moving, fixed = (samples[subject] for subject in pairs[0])
    fields = {method: evaluation.registrars[method](moving["image"], fixed["image"]) for method in methods}
    shown = f"{pairs[0][0]} onto {pairs[0][1]} ({name})"
    panels.warped_grid(paths[2], moving["image"], fixed["label"], fields, spacing, f"Warped grid, {shown}")
    panels.jacobian_map(paths[3], fixed["label"], fields, spacing, f"Jacobian determinant, {shown}")
    return paths


def _registered(register, samples, moving_id, fixed_id, n_classes):
    moving, fixed = samples[moving_id], samples[fixed_id]
    u = register(moving["image"], fixed["image"])
    return registered_pair(f"{moving_id}\nonto {fixed_id}", moving, fixed, u, n_classes)[0]


def registered_pair(name: str, moving: Mapping, fixed: Mapping, u: np.ndarray, n_classes: int):
    """A pair as :func:`~deepatlas_tf.evaluation.panels.registration_panel` shows it, and its mean Dice afterwards.

    Args:
        name: that stands beside it.
        moving, fixed: samples.
        u: displacement field ``(*S, D)`` in voxels.
        n_classes: background included; those that are not labelled in both do not count.
    """
    weight = np.minimum(moving["label_weight"], fixed["label_weight"])
    warped_label = warp_label(moving["label"], u)
    before, after = (mean_dice(label, fixed, n_classes, weight) for label in (moving["label"], warped_label))
    shown = panels.Registered(
        name=name,
        moving=moving["image"],
        fixed=fixed["image"],
        warped=warp_image(moving["image"], u),
        moving_label=moving["label"],
        fixed_label=fixed["label"],
        warped_label=warped_label,
        note=f"Dice {before:.3f} to {after:.3f}",
    )
    return shown, after


def mean_dice(prediction: np.ndarray, sample: Mapping, n_classes: int, weight: np.ndarray | None = None) -> float:
    """Mean over the classes that are labelled and present; weight (C,): of the labels, the sample's own if None."""
    labelled = (sample["label_weight"] if weight is None else weight)[1:] > 0
    scores = np.where(labelled, dice(prediction, sample["label"], n_classes), np.nan)
    return float("nan") if np.isnan(scores).all() else float(np.nanmean(scores))
