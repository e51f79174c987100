"""Drawing the pictures of a run: this module chooses the subjects and the numbers, others draw them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from deepatlas_tf.datasets.load import DataSet
from deepatlas_tf.evaluation import figures, panels
from deepatlas_tf.evaluation.evaluate import Evaluation
from deepatlas_tf.evaluation.pseudo_figure import draw_pseudo
from deepatlas_tf.evaluation.summary import method_order
from deepatlas_tf.metrics.overlap import dice
from deepatlas_tf.runs.folder import RunFolder
from deepatlas_tf.runs.predict import IDENTITY, Predictors, Registrar, warp_image, warp_label
from deepatlas_tf.streams.subjects import read_samples, registration_pairs
from deepatlas_tf.training.unlabelled import first_labelled, registered_subjects

SUBJECTS = 3
REGISTRATION = ("dice_registration", "registration", "warped_grid", "jacobian")


def draw(workdir: Path, evaluation: Evaluation, dataset: DataSet, split: str = "test") -> list[Path]:
    """Draw all pictures of an evaluated run as ``workdir/figures/*.png``, without those of tasks that were not trained.

    Args:
        workdir: the folder of the run.
        evaluation: what was measured, with the networks.
        dataset: the scans.
        split: its first subjects with a label map are shown, of each domain; for registration its first subjects where
            none has a label map.

    Returns:
        The files, in the order in which they are best looked at.
    """
    folder = RunFolder(workdir).figures
    predictors = evaluation.predictors
    segmented = first_labelled(dataset, split, [predictors.domains[m][1] for m in predictors.labellers], SUBJECTS)
    methods, registered = _registrations(predictors, dataset, split)
    samples = read_samples(dataset.samples(split), {*segmented, *(subject for pair in registered for subject in pair)})
    pairs = [(samples[moving], samples[fixed]) for moving, fixed in registered]
    name = f"{dataset.name}, synthetic" if dataset.synthetic else dataset.name
    paths = draw_training(workdir, dataset)
    name = f"{name}, {split} split"
    paths += _draw_segmentation(folder, evaluation, dataset, {s: samples[s] for s in segmented}, name)
    if pairs:
        paths += _draw_registration(folder, evaluation, dataset, methods, pairs, name)
    return paths


def draw_training(workdir: Path, dataset: DataSet) -> list[Path]:
    """Draw the pictures that need no evaluation: the training curves and those of the pseudo masks."""
    run = RunFolder(workdir)
    name = f"{dataset.name}, synthetic" if dataset.synthetic else dataset.name
    return _draw_curves(run, name) + draw_pseudo(run, dataset, name)


def _registrations(predictors: Predictors, dataset: DataSet, split: str) -> tuple[list[str], list[tuple[str, str]]]:
    """Choose the registrations that are drawn: methods for the same domains, and the first pairs of these domains.

    The domains are those of the last method for which there are pairs; it comes last in the list.
    """
    methods = [method for method in method_order(predictors.registrars) if method != IDENTITY]
    for last in reversed(methods):
        between = predictors.domains[last]
        moving, fixed = (registered_subjects(dataset, split, domain)[:SUBJECTS] for domain in between)
        pairs = registration_pairs(moving, 1, fixed)
        if pairs:
            return [method for method in methods if predictors.domains[method] == between], pairs
    return [], []


def _draw_curves(run: RunFolder, name: str) -> list[Path]:
    rows = {}
    for stage in run.stages():
        epochs, start = stage.metrics(), stage.start()
        if epochs:
            rows[stage.name] = [*epochs, *([{"step": 0, **start}] if start else [])]
    if not rows:
        return []
    path = run.figures / "training_curves.png"
    figures.training_curves(path, rows, f"Training ({name})")
    return [path]


def _draw_segmentation(
    folder: Path, evaluation: Evaluation, dataset: DataSet, samples: Mapping[str, Mapping], name: str
) -> list[Path]:
    if not samples:
        return []
    classes = dataset.class_names[1:]
    boxes, panel = folder / "dice_segmentation.png", folder / "segmentation.png"
    figures.dice_boxplots(boxes, evaluation.segmentation_rows, classes, f"Segmentation Dice by subject ({name})")
    subjects, labellers = [], evaluation.predictors.labellers
    for subject, sample in samples.items():
        found = {method: labellers[method](sample["image"]) for method in method_order(labellers)}
        notes = {
            method: f"Dice {mean_dice(label, sample, len(dataset.class_names)):.3f}" for method, label in found.items()
        }
        subjects.append(panels.Segmented(subject, sample["image"], drawn_label(sample), found, notes))
    panels.segmentation_panel(panel, subjects, classes, dataset.spacing, f"Segmentation ({name})")
    return [boxes, panel]


def _draw_registration(
    folder: Path,
    evaluation: Evaluation,
    dataset: DataSet,
    methods: Sequence[str],
    pairs: Sequence[tuple[Mapping, Mapping]],
    name: str,
) -> list[Path]:
    """Draw the pictures of the registration methods; ``pairs`` are samples (moving, fixed)."""
    boxes, *paths = (folder / f"{file}.png" for file in REGISTRATION)
    classes, spacing = dataset.class_names[1:], dataset.spacing
    if any(not np.isnan(row["dice"]) for row in evaluation.registration_rows):
        figures.dice_boxplots(boxes, evaluation.registration_rows, classes, f"Registration Dice by pair ({name})")
        paths = [boxes, *paths]
    registrars = evaluation.predictors.registrars
    register = registrars[methods[-1]]
    shown = [_registered(register, moving, fixed, len(dataset.class_names)) for moving, fixed in pairs]
    title = f"Registration by {figures.spoken(methods[-1])} ({name})"
    panels.registration_panel(paths[-3], shown, classes, spacing, title)
    moving, fixed = pairs[0]
    fields = {method: registrars[method](moving["image"], fixed["image"]) for method in methods}
    which = f"{moving['subject'].decode()} onto {fixed['subject'].decode()} ({name})"
    label = drawn_label(fixed)
    panels.warped_grid(paths[-2], moving["image"], label, fields, spacing, f"Warped grid, {which}")
    panels.jacobian_map(paths[-1], label, fields, spacing, f"Jacobian determinant, {which}")
    return paths


def _registered(register: Registrar, moving: Mapping, fixed: Mapping, n_classes: int) -> panels.Registered:
    name = f"{moving['subject'].decode()}\nonto {fixed['subject'].decode()}"
    return registered_pair(name, moving, fixed, register(moving["image"], fixed["image"]), n_classes)[0]


def registered_pair(
    name: str, moving: Mapping, fixed: Mapping, u: np.ndarray, n_classes: int
) -> tuple[panels.Registered, float]:
    """Warp a pair for :func:`~deepatlas_tf.evaluation.panels.registration_panel`, and measure it.

    Args:
        name: text beside the pair.
        moving, fixed: samples, NumPy arrays without a batch axis.
        u: displacement field ``(*S, D)`` in voxels.
        n_classes: background included.

    Returns:
        The pair, and its mean Dice after registration over the classes that are labelled in both.
    """
    weight = np.minimum(moving["label_weight"], fixed["label_weight"])
    warped_label = warp_label(moving["label"], u)
    before, after = (mean_dice(label, fixed, n_classes, weight) for label in (moving["label"], warped_label))
    shown = panels.Registered(
        name=name,
        moving=moving["image"],
        fixed=fixed["image"],
        warped=warp_image(moving["image"], u),
        moving_label=drawn_label(moving),
        fixed_label=drawn_label(fixed),
        warped_label=np.where(warped_label < n_classes, warped_label, 0),
        note="no label in common" if np.isnan(after) else f"Dice {before:.3f} to {after:.3f}",
    )
    return shown, after


def drawn_label(sample: Mapping) -> np.ndarray:
    """The label map ``(*S,)`` of a sample as it is drawn: ignored voxels are background."""
    return np.where(sample["label"] < sample["label_weight"].size, sample["label"], 0)


def mean_dice(prediction: np.ndarray, sample: Mapping, n_classes: int, weight: np.ndarray | None = None) -> float:
    """The mean Dice of a predicted label map ``(*S,)`` over the foreground classes that are labelled and present.

    ``weight`` (C,) says which classes are labelled; None takes the ``label_weight`` of the sample. NaN where none is.
    """
    labelled = (sample["label_weight"] if weight is None else weight)[1:] > 0
    scores = np.where(labelled, dice(prediction, sample["label"], n_classes), np.nan)
    return float("nan") if np.isnan(scores).all() else float(np.nanmean(scores))
