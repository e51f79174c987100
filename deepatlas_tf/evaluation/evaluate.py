"""Measuring every trained stage of a run on one split: segmentation, and registration between subjects."""

import collections
import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from deepatlas_tf.evaluation.report import summarise_rows, write_rows
from deepatlas_tf.metrics.deformation import folds_percent, sdlogj
from deepatlas_tf.metrics.overlap import dice
from deepatlas_tf.metrics.surface import surface_metrics
from deepatlas_tf.training.files import read_json, write_json
from deepatlas_tf.training.predict import registrar, segmenter, warp_label
from deepatlas_tf.training.stages import load_net, net_path
from deepatlas_tf.types import DataError


@dataclasses.dataclass
class Evaluation:
    """Rows of the two CSV files, their summary, and the functions that were measured, for drawing.

    segmenters: method -> function ``image (*S, 1) -> label map``. registrars: method -> function ``moving, fixed ->
    u``.
    """

    segmenters: dict[str, Any]
    registrars: dict[str, Any]
    segmentation_rows: list[dict] = dataclasses.field(default_factory=list)
    registration_rows: list[dict] = dataclasses.field(default_factory=list)
    summary: dict = dataclasses.field(default_factory=dict)


def evaluate(workdir: Path, dataset, split: str = "test", pairs_per_subject: int = 1) -> Evaluation:
    """Measure the finished stages of a run; writes ``evaluation/{segmentation,registration}.csv`` and ``summary.json``.

    Everything is measured on the network's grid, in its millimetres. ``identity`` is no registration at all.

    Args:
        workdir: of the run.
        dataset: a :class:`~deepatlas_tf.data.sources.DataSet`.
        split: name of a split; its labelled subjects count.
        pairs_per_subject: each subject is the fixed one of so many pairs.

    Raises:
        DataError: if no stage of the run is finished, or no subject of the split has a label.
    """
    evaluation = Evaluation(*_load_stages(workdir))
    labelled = set(dataset.labelled[split])
    if not labelled:
        raise DataError(f"no subject of the {split} split of {dataset.name} has a label map to compare with")
    samples = (s for s in dataset.samples(split).as_numpy_iterator() if s["subject"].decode() in labelled)
    samples = tqdm(samples, total=len(labelled), desc=f"evaluating ({split})", unit="subject", disable=None)
    for subject, pairs in _pairs_as_they_come(samples, min(pairs_per_subject, len(labelled) - 1)):
        evaluation.segmentation_rows += _segmentation_rows(subject, evaluation.segmenters, dataset)
        for moving, fixed in pairs:
            evaluation.registration_rows += _registration_rows(moving, fixed, evaluation.registrars, dataset)
    evaluation.summary = summarise_rows(
        evaluation.segmentation_rows, evaluation.registration_rows, dataset.class_names[1:]
    )
    folder = workdir / "evaluation"
    write_rows(folder / "segmentation.csv", evaluation.segmentation_rows)
    write_rows(folder / "registration.csv", evaluation.registration_rows)
    write_json(folder / "summary.json", evaluation.summary)
    return evaluation


def _load_stages(workdir: Path):
    """The functions to be measured: of each finished stage, the nets that it trained."""
    segmenters, registrars = {}, {"identity": _no_displacement}
    for stage in read_json(workdir / "experiment.json")["experiment"]["stages"]:
        trained = [name for name, turns in stage["turns"].items() if turns]
        for name, functions, wrap in (("segmentation", segmenters, segmenter), ("registration", registrars, registrar)):
            path = net_path(workdir, stage["name"], name)
            if name in trained and path.exists():
                functions[stage["name"]] = wrap(load_net(path))
    if not segmenters and len(registrars) == 1:
        raise DataError(f"{workdir}: no stage of this run is finished; run the training command again to resume it")
    return segmenters, registrars


def _no_displacement(moving, fixed):
    return np.zeros((*fixed.shape[:-1], fixed.ndim - 1), np.float32)


def _pairs_as_they_come(samples: Iterable[dict], n: int) -> Iterator[tuple[dict | None, list[tuple[dict, dict]]]]:
    """Each sample with the pairs that it completes: it is fixed, the ``n`` samples before it (cyclically) are moving.

    At most ``2 n + 1`` samples are held in memory.
    """
    recent, first = collections.deque(maxlen=n), []
    for sample in samples:
        if len(first) < n:
            first.append(sample)
        yield sample, [(moving, sample) for moving in recent]
        recent.append(sample)
    late = [(moving, fixed) for j, fixed in enumerate(first) for moving in list(recent)[j:]]
    yield None, late


def _segmentation_rows(sample, segmenters, dataset):
    if sample is None:
        return []
    rows = []
    for method, segment in segmenters.items():
        start = {"method": method, "subject": sample["subject"].decode()}
        rows += _class_rows(start, segment(sample["image"]), sample["label"], dataset)
    return rows


def _registration_rows(moving, fixed, registrars, dataset):
    rows = []
    for method, register in registrars.items():
        u = register(moving["image"], fixed["image"])
        start = {"method": method, "moving": moving["subject"].decode(), "fixed": fixed["subject"].decode()}
        regularity = {"folds_percent": folds_percent(u), "sdlogj": sdlogj(u)}
        found = _class_rows(start, warp_label(moving["label"], u), fixed["label"], dataset)
        rows += [{**row, **regularity} for row in found]
    return rows


def _class_rows(start, prediction, reference, dataset):
    """One row for each foreground class."""
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
        }
        for index, name in enumerate(dataset.class_names[1:])
    ]
