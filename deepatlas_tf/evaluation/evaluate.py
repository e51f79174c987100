"""Measuring every trained stage of a run on one split: segmentation, and registration between subjects."""

import collections
import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from deepatlas_tf.datasets.load import DataSet
from deepatlas_tf.datasets.splits import has_cases
from deepatlas_tf.evaluation.plain_grid import plain_field, plain_label
from deepatlas_tf.evaluation.scans_that_vote import chosen_atlases, chosen_templates
from deepatlas_tf.evaluation.summary import PER_CLASS, summarise_rows
from deepatlas_tf.messages import progress, say
from deepatlas_tf.metrics.deformation import regularity
from deepatlas_tf.metrics.overlap import dice
from deepatlas_tf.metrics.surface import surface_metrics
from deepatlas_tf.runs.atlases import voting
from deepatlas_tf.runs.data_record import check_not_trained_on, check_same_grid
from deepatlas_tf.runs.files import write_json, write_rows
from deepatlas_tf.runs.flips import check_flips, flipped
from deepatlas_tf.runs.folder import TASKS, RunFolder
from deepatlas_tf.runs.predict import IDENTITY, ONE_PASS, AtTestTime, Predictors, Registrar, load_predictors, warp_label
from deepatlas_tf.training.unlabelled import folds_hint, registered_subjects, say_unlabelled
from deepatlas_tf.types import DataError

ALIGNMENT = "alignment"  # the method of the rows of an alignment to a reference alone


@dataclasses.dataclass
class Evaluation:
    """What an evaluation found: the rows of the two CSV files, their summary, and the networks that were measured."""

    predictors: Predictors
    segmentation_rows: list[dict] = dataclasses.field(default_factory=list)
    registration_rows: list[dict] = dataclasses.field(default_factory=list)
    summary: dict = dataclasses.field(default_factory=dict)


def evaluate(
    workdir: Path,
    dataset: DataSet,
    split: str = "test",
    pairs_per_subject: int = 1,
    at: AtTestTime = ONE_PASS,
) -> Evaluation:
    """Measure the finished stages of a run; writes ``evaluation/{segmentation,registration}.csv`` and ``summary.json``.

    Everything is measured on the network's grid, in its millimetres; where scans are aligned to a reference, on the
    grid that each would have without. ``identity`` is no registration at all, ``alignment`` the one to the reference.
    Where the data have several domains, a segmentation of one is measured in each of them, one that was adapted in its
    own, and a registration between those it is for: the method's name tells them. What needs a label map is left out
    where there is none: such a registration has one row with an empty class, and numbers for the field only.

    Args:
        workdir: the folder of the run.
        dataset: the scans.
        split: whose subjects are measured, those with a label map. The measures that need none, of a displacement
            field, are taken of all subjects where none has a label map.
        pairs_per_subject: each subject is the fixed one of so many pairs.
        at: what is measured besides the networks: ``<stage>_instance`` and ``<stage>_anatomy``, registrations refined
            for each pair; ``<stage>_atlases``, segmentations with label maps of training, whose registrations are
            refined on the images where others are; ``<stage>_templates``, with these and scans of training without a
            label map; ``<stage>_anatomy_atlases`` and ``<stage>_anatomy_templates``, registrations refined by them;
            ``<stage>_flips``.

    Raises:
        DataError: if no stage of the run is finished, or there is nothing in the split to be measured; if the run has
            other classes or another grid, or was trained on subjects of the split.
        SettingError: if there is no registration to be refined; fewer atlases or templates, none to register them,
            several domains; flips of what is not its own mirror image.
    """
    folder = RunFolder(workdir)
    _check_data(folder, dataset, split)
    predictors = _predictors(folder, dataset, at)
    evaluation = Evaluation(predictors)
    if not has_cases(dataset.subjects, dataset.labelled, split, registers=len(predictors.registrars) > 1):
        in_fold = bool(folder.settings()["data"].get("folds"))
        hint = folds_hint(dataset, in_fold) if split == "test" else ""
        raise DataError(f"no subject of the {split} split of {dataset.name} has a label map to compare with{hint}")
    say_unlabelled(dataset, split, [domain for between in predictors.domains.values() for domain in between])
    _add_rows(evaluation, dataset, split, pairs_per_subject)
    _summarise(evaluation, dataset, folder)
    return evaluation


def _predictors(folder: RunFolder, dataset: DataSet, at: AtTestTime) -> Predictors:
    """The functions of the finished stages, and of what is done at test time."""
    if at.flips:
        check_flips(len(dataset.shape), bool(folder.model().get("left_mirrored")))  # written before any stage
    atlases, templates = chosen_atlases(folder, dataset, at.atlases), chosen_templates(folder, dataset, at.templates)
    predictors = load_predictors(folder.path, at.instance_steps, at.anatomy)
    for images in ([[]] if atlases else []) + ([templates] if templates else []):
        predictors = voting(folder.path, predictors, atlases, images, refined=bool(at.instance_steps))
    return flipped(predictors, dataset.class_names) if at.flips else predictors


def _add_rows(evaluation: Evaluation, dataset: DataSet, split: str, pairs_per_subject: int) -> None:
    """Measure every subject and pair of the split; each sample is read once."""
    predictors = evaluation.predictors
    tasks = _registration_tasks(predictors, dataset, split, pairs_per_subject)
    subjects = set(dataset.labelled[split]).union(*(pairs.moving | pairs.fixed for pairs, _ in tasks))
    samples = (s for s in dataset.measured(split) if s["subject"].decode() in subjects)
    for sample in progress(samples, total=len(subjects), desc=f"evaluating ({split})", unit="subject"):
        evaluation.segmentation_rows += _segmentation_rows(sample, predictors, dataset)
        for pairs, registrars in tasks:
            for moving, fixed in pairs.add(sample):
                evaluation.registration_rows += _registration_rows(moving, fixed, registrars, dataset)
    for pairs, registrars in tasks:
        for moving, fixed in pairs.rest():
            evaluation.registration_rows += _registration_rows(moving, fixed, registrars, dataset)


def _summarise(evaluation: Evaluation, dataset: DataSet, folder: RunFolder) -> None:
    """Add the summary of the rows, and write all."""
    rows = evaluation.segmentation_rows, evaluation.registration_rows
    evaluation.summary = summarise_rows(*rows, dataset.class_names[1:])
    for task, found in zip(TASKS, rows, strict=True):
        write_rows(folder.table_file(task), found)
    write_json(folder.summary_file, evaluation.summary)


def _check_data(folder: RunFolder, dataset: DataSet, split: str) -> None:
    """Raise DataError where the networks are for another grid, or were trained on subjects of the split."""
    if folder.model_file.exists():
        check_same_grid(folder.model(), dataset, str(folder.path))
    recorded = folder.data()
    if recorded:
        check_not_trained_on(recorded, dataset.subjects[split], split, str(folder.path))


def _registration_tasks(
    predictors: Predictors, dataset: DataSet, split: str, pairs_per_subject: int
) -> list[tuple["_Pairs", dict[str, Registrar]]]:
    """What has to be registered: for each combination of domains the pairs, and the functions that register them.

    The functions are given by the name that the method has in the rows.
    """
    tasks = []
    found = [predictors.domains[name] for name in predictors.registrars if name in predictors.domains]
    for between in dict.fromkeys(found) or [(None, None)]:
        moving, fixed = (registered_subjects(dataset, split, domain) for domain in between)
        if not moving or not fixed:
            continue
        note = "" if between == (None, None) else f" ({between[0]} to {between[1]})"
        registrars = {
            f"{name}{note}": register
            for name, register in predictors.registrars.items()
            if predictors.domains.get(name, between) == between  # the identity is for all
        }
        pairs = _Pairs(moving, fixed, pairs_per_subject)
        if pairs.n_before:
            tasks.append((pairs, registrars))
        elif len(registrars) > 1:
            say(f"one {split} subject{note} alone: registration is not measured, which takes a pair")
    return tasks


class _Pairs:
    """Makes pairs while the samples are read one by one, so that few of them are in memory at a time.

    Each fixed subject is paired with the ``n`` moving subjects that came before it; those that came first wait for the
    last ones. At most ``2 n + 1`` samples are held, besides fixed ones that come before there were ``n`` moving ones.
    """

    def __init__(self, moving: Collection[str], fixed: Collection[str], n: int):
        self.moving, self.fixed = set(moving), set(fixed)
        others = len(moving) - (self.moving == self.fixed)
        self.n_before = min(n, others)
        self.recent, self.first = collections.deque(maxlen=self.n_before), []

    def add(self, sample: Mapping) -> list[tuple[Mapping, Mapping]]:
        """Take the next sample; gives the pairs (moving, fixed) that are complete now."""
        subject, pairs = sample["subject"].decode(), []
        if subject in self.fixed:
            pairs = [(moving, sample) for moving in self.recent]
            if len(self.recent) < self.n_before:
                self.first.append((len(self.recent), sample))
        if subject in self.moving:
            self.recent.append(sample)
        return pairs

    def rest(self) -> list[tuple[Mapping, Mapping]]:
        """After the last sample: the remaining pairs, of the first fixed subjects with the last moving ones."""
        return [(moving, fixed) for n_had, fixed in self.first for moving in list(self.recent)[n_had:]]


def _segmentation_rows(sample: Mapping, predictors: Predictors, dataset: DataSet) -> list[dict]:
    subject, rows = sample["subject"].decode(), []
    if not sample["label_weight"].any():
        return rows
    note = f" ({dataset.domains[subject]})" if len(set(dataset.domains.values())) > 1 else ""
    for method, segment in predictors.labellers.items():
        source, target = predictors.domains[method]
        if source != target != dataset.domains[subject]:
            continue  # adapted to another domain
        start = {"method": f"{method}{note}", "subject": subject}
        prediction = segment(sample["image"])
        if "plain_label" in sample:
            prediction = plain_label(prediction, sample["plain_to_network"], len(dataset.class_names))
        rows += class_rows(start, prediction, _reference(sample), sample["label_weight"], dataset)
    return rows


def _reference(sample: Mapping) -> np.ndarray:
    """The label map ``(*S,)`` that predictions are compared with, on the grid that is measured on."""
    return sample.get("plain_label", sample["label"])


def _fields(moving: Mapping, fixed: Mapping, registrars: Mapping[str, Registrar]) -> dict[str, np.ndarray]:
    """The displacement field ``(*S, D)`` of each method for a pair, on the grid that is measured on.

    Where scans are aligned to a reference, ``alignment``, which is the alignment alone, is one of the methods.
    """
    fields = {method: register(moving["image"], fixed["image"]) for method, register in registrars.items()}
    if "plain_label" not in fixed:
        return fields
    matrices = moving["plain_to_network"], fixed["plain_to_network"]
    identity = next(method for method in fields if method.startswith(IDENTITY))
    aligned = {method: plain_field(u, *matrices) for method, u in fields.items()}
    alone = aligned.pop(identity)
    return {identity: fields[identity], identity.replace(IDENTITY, ALIGNMENT, 1): alone, **aligned}


def _registration_rows(
    moving: Mapping, fixed: Mapping, registrars: Mapping[str, Registrar], dataset: DataSet
) -> list[dict]:
    fields = _fields(moving, fixed, registrars)
    return [row for method, u in fields.items() for row in field_rows(method, moving, fixed, u, dataset)]


def field_rows(method: str, moving: Mapping, fixed: Mapping, u: np.ndarray, dataset: DataSet) -> list[dict]:
    """Measure one displacement field between two scans: its rows of ``registration.csv``, one for each class.

    Args:
        method: the name in the rows.
        moving, fixed: samples with ``label (*S,)``, ``label_weight (C,)`` and ``subject``, and ``plain_label`` where
            the scans are aligned to a reference.
        u: ``(*S, D)`` in voxels of the grid that is measured on.
        dataset: its classes and voxel size are used.
    """
    start = {"method": method, "moving": moving["subject"].decode(), "fixed": fixed["subject"].decode()}
    of_field, labelled = regularity(u), np.minimum(moving["label_weight"], fixed["label_weight"])
    if labelled[1:].any():
        found = class_rows(start, warp_label(_reference(moving), u), _reference(fixed), labelled, dataset)
    else:
        found = [{**start, "class": "", **dict.fromkeys(PER_CLASS, np.nan)}]
    for row in found:
        row |= {**of_field, "hausdorff_mm": row.pop("hausdorff_mm")}  # a later column: others keep their places
    return found


def class_rows(
    start: Mapping[str, str], prediction: np.ndarray, reference: np.ndarray, labelled: np.ndarray, dataset: DataSet
) -> list[dict]:
    """Measure a predicted label map ``(*S,)``: a row for each foreground class whose ``labelled`` (C,) is above 0."""
    n_classes = len(dataset.class_names)
    scores = dice(prediction, reference, n_classes)
    distances = surface_metrics(prediction, reference, n_classes, dataset.spacing)
    return [
        {
            **start,
            "class": name,
            "dice": float(scores[index]),
            "hd95_mm": float(distances["hd95_mm"][index]),
            "assd_mm": float(distances["assd_mm"][index]),
            "hausdorff_mm": float(distances["hausdorff_mm"][index]),
        }
        for index, name in enumerate(dataset.class_names[1:])
        if labelled[index + 1]
    ]
