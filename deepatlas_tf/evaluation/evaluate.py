"""Measuring every trained stage of a run on one split: segmentation, and registration between subjects."""

import collections
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from deepatlas_tf.evaluation.summary import PER_CLASS, summarise_rows
from deepatlas_tf.messages import progress
from deepatlas_tf.metrics.deformation import regularity
from deepatlas_tf.metrics.overlap import dice
from deepatlas_tf.metrics.surface import surface_metrics
from deepatlas_tf.runs.files import read_settings, write_json, write_rows
from deepatlas_tf.runs.folder import net_path
from deepatlas_tf.training.instance import InstanceOptimisation, refiner
from deepatlas_tf.training.predict import registrar, segmenter, warp_label
from deepatlas_tf.training.stages import load_net, trained_nets
from deepatlas_tf.training.unlabelled import registered_subjects, say_unlabelled
from deepatlas_tf.types import DataError, SettingError


@dataclasses.dataclass
class Evaluation:
    """Rows of the two CSV files, their summary, and the functions that were measured, for drawing.

    segmenters: method -> function ``image (*S, 1) -> label map``. registrars: method -> function ``moving, fixed ->
    u``. domains: stage -> the domains of its (moving, fixed) side, None for all.
    """

    segmenters: dict[str, Any]
    registrars: dict[str, Any]
    domains: dict[str, tuple[str | None, str | None]]
    segmentation_rows: list[dict] = dataclasses.field(default_factory=list)
    registration_rows: list[dict] = dataclasses.field(default_factory=list)
    summary: dict = dataclasses.field(default_factory=dict)


def evaluate(
    workdir: Path, dataset, split: str = "test", pairs_per_subject: int = 1, instance_steps: int = 0
) -> Evaluation:
    """Measure the finished stages of a run; writes ``evaluation/{segmentation,registration}.csv`` and ``summary.json``.

    Everything is measured on the network's grid, in its millimetres. ``identity`` is no registration at all. Where the
    data have several domains, a segmentation of one domain is measured in each of them, one that was adapted in its
    own, and a registration between those it is for: the domains are then added to the name of the method. What needs a
    label map is left out where there is none: a registration of such subjects has one row with an empty class, of
    which only the measures of the field are numbers.

    Args:
        workdir: of the run.
        dataset: a :class:`~deepatlas_tf.datasets.load.DataSet`.
        split: name of a split; its labelled subjects count, for the measures of a field all where none is labelled.
        pairs_per_subject: each subject is the fixed one of so many pairs.
        instance_steps: if not 0, ``<stage>_instance`` is measured too, the registration of each stage refined for each
            pair by so many steps on the images, see :mod:`deepatlas_tf.training.instance`.

    Raises:
        DataError: if no stage of the run is finished, or no subject of the split has a label and only these count.
        SettingError: if there is no registration to be refined.
    """
    evaluation = Evaluation(*load_stages(workdir, instance_steps))
    if not dataset.labelled[split] and len(evaluation.registrars) == 1:
        raise DataError(f"no subject of the {split} split of {dataset.name} has a label map to compare with")
    say_unlabelled(dataset, split, [domain for between in evaluation.domains.values() for domain in between])
    tasks = _registration_tasks(evaluation, dataset, split, pairs_per_subject)
    subjects = set(dataset.labelled[split]).union(*(pairs.moving | pairs.fixed for pairs, _ in tasks))
    samples = (s for s in dataset.samples(split).as_numpy_iterator() if s["subject"].decode() in subjects)
    for sample in progress(samples, total=len(subjects), desc=f"evaluating ({split})", unit="subject"):
        evaluation.segmentation_rows += _segmentation_rows(sample, evaluation, dataset)
        for pairs, registrars in tasks:
            for moving, fixed in pairs.add(sample):
                evaluation.registration_rows += _registration_rows(moving, fixed, registrars, dataset)
    for pairs, registrars in tasks:
        for moving, fixed in pairs.rest():
            evaluation.registration_rows += _registration_rows(moving, fixed, registrars, dataset)
    evaluation.summary = summarise_rows(
        evaluation.segmentation_rows, evaluation.registration_rows, dataset.class_names[1:]
    )
    folder = workdir / "evaluation"
    write_rows(folder / "segmentation.csv", evaluation.segmentation_rows)
    write_rows(folder / "registration.csv", evaluation.registration_rows)
    write_json(folder / "summary.json", evaluation.summary)
    return evaluation


def load_stages(workdir: Path, instance_steps: int = 0):
    """The functions to be measured: of each finished stage, the nets that it trained; and its domains."""
    segmenters, registrars, domains = {}, {"identity": _no_displacement}, {}
    for stage in read_settings(workdir)["stages"]:
        trained = trained_nets(stage)
        for name, functions, wrap in (("segmentation", segmenters, segmenter), ("registration", registrars, registrar)):
            path = net_path(workdir, stage["name"], name)
            if name in trained and path.exists():
                functions[stage["name"]] = wrap(load_net(path))
        domains[stage["name"]] = tuple(stage.get("domains", (None, None)))
        if instance_steps and stage["name"] in registrars and _compares_images(stage):
            name, net = f"{stage['name']}_instance", load_net(net_path(workdir, stage["name"], "registration"))
            registrars[name] = refiner(net, InstanceOptimisation.of_settings(stage, steps=instance_steps))
            domains[name] = domains[stage["name"]]
    if not segmenters and len(registrars) == 1:
        raise DataError(f"{workdir}: no stage of this run is finished; run the training command again to resume it")
    if instance_steps and not any(name.endswith("_instance") for name in registrars):
        raise SettingError(f"--instance-steps: no finished stage of {workdir} has learned to register images")
    return segmenters, registrars, domains


def _compares_images(stage) -> bool:
    """Whether a stage has a similarity of images to go on with; one that registers label maps has none."""
    return bool(stage["weights"].get("registration", {}).get("similarity"))


def _registration_tasks(evaluation, dataset, split, pairs_per_subject):
    """For each combination of domains, its pairs and the registrars to be measured on them by the name in the rows."""
    tasks = []
    found = [evaluation.domains[name] for name in evaluation.registrars if name in evaluation.domains]
    for between in dict.fromkeys(found) or [(None, None)]:
        moving, fixed = (registered_subjects(dataset, split, domain) for domain in between)
        if not moving or not fixed:
            continue
        note = "" if between == (None, None) else f" ({between[0]} to {between[1]})"
        registrars = {
            f"{name}{note}": register
            for name, register in evaluation.registrars.items()
            if evaluation.domains.get(name, between) == between  # the identity is for all
        }
        tasks.append((_Pairs(moving, fixed, pairs_per_subject), registrars))
    return tasks


def _no_displacement(moving, fixed):
    return np.zeros((*fixed.shape[:-1], fixed.ndim - 1), np.float32)


class _Pairs:
    """Pairs as the samples come: each one that is fixed with the ``n`` moving ones before it, cyclically.

    At most ``2 n + 1`` samples are held in memory, and fixed ones that come before any ``n`` moving ones.
    """

    def __init__(self, moving, fixed, n: int):
        self.moving, self.fixed = set(moving), set(fixed)
        others = len(moving) - (self.moving == self.fixed)
        self.recent, self.first = collections.deque(maxlen=min(n, others)), []

    def add(self, sample) -> list[tuple[dict, dict]]:
        """The pairs that a sample completes."""
        subject, pairs = sample["subject"].decode(), []
        if subject in self.fixed:
            pairs = [(moving, sample) for moving in self.recent]
            if len(self.recent) < self.recent.maxlen:
                self.first.append((len(self.recent), sample))
        if subject in self.moving:
            self.recent.append(sample)
        return pairs

    def rest(self) -> list[tuple[dict, dict]]:
        """The pairs of the first fixed ones with the last moving ones."""
        return [(moving, fixed) for n_had, fixed in self.first for moving in list(self.recent)[n_had:]]


def _segmentation_rows(sample, evaluation, dataset):
    subject, rows = sample["subject"].decode(), []
    if not sample["label_weight"].any():
        return rows
    note = f" ({dataset.domains[subject]})" if len(set(dataset.domains.values())) > 1 else ""
    for method, segment in evaluation.segmenters.items():
        source, target = evaluation.domains[method]
        if source != target != dataset.domains[subject]:
            continue  # adapted to another domain
        start = {"method": f"{method}{note}", "subject": subject}
        rows += _class_rows(start, segment(sample["image"]), sample["label"], sample["label_weight"], dataset)
    return rows


def _registration_rows(moving, fixed, registrars, dataset):
    rows, labelled = [], np.minimum(moving["label_weight"], fixed["label_weight"])
    for method, register in registrars.items():
        u = register(moving["image"], fixed["image"])
        start = {"method": method, "moving": moving["subject"].decode(), "fixed": fixed["subject"].decode()}
        of_field = regularity(u)
        if labelled[1:].any():
            found = _class_rows(start, warp_label(moving["label"], u), fixed["label"], labelled, dataset)
        else:
            found = [{**start, "class": "", **dict.fromkeys(PER_CLASS, np.nan)}]
        for row in found:
            last = {"hausdorff_mm": row.pop("hausdorff_mm")}  # a later column: those before it keep their places
            rows.append({**row, **of_field, **last})
    return rows


def _class_rows(start, prediction, reference, labelled, dataset):
    """One row for each foreground class that is labelled; labelled (C,)."""
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
