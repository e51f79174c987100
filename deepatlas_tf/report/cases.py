"""The best, the median and the worst case of an evaluation, and the networks applied to them once more."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from deepatlas_tf.datasets.load import DataSet
from deepatlas_tf.evaluation.compare import means_of_rows
from deepatlas_tf.evaluation.summary import method_order
from deepatlas_tf.runs.predict import IDENTITY, load_predictors
from deepatlas_tf.runs.summary import RunSummary
from deepatlas_tf.streams.subjects import read_samples

SPLITS = ("test", "validation", "train")


@dataclasses.dataclass(frozen=True)
class Case:
    """rank: best, median, worst. subjects: (subject,) or (moving, fixed).

    methods: that were measured on it; the one by which it was chosen is the last.
    """

    rank: str
    subjects: tuple[str, ...]
    score: float
    methods: tuple[str, ...]


def chosen_cases(rows: Sequence[dict], stages: Sequence[str]) -> tuple[str | None, list[Case]]:
    """The method that is shown, of the last of the ``stages``, and its cases by the mean Dice over the classes.

    Of an even number the median is the lower middle; of two cases there is no median. ``(None, [])`` where nothing was
    measured besides the identity.
    """
    means = means_of_rows(rows)
    order = {stage: position for position, stage in enumerate(stages)}
    shown = max((method for method in means if _stage(method) in order), key=lambda m: order[_stage(m)], default=None)
    if shown is None:
        return None, []
    ascending = sorted(means[shown].items(), key=lambda item: (item[1], item[0]))
    places = {"best": len(ascending) - 1, "median": (len(ascending) - 1) // 2, "worst": 0}
    cases, taken = [], set()
    for rank in ("best", "worst", "median"):
        if places[rank] in taken or not ascending:
            continue
        taken.add(places[rank])
        subjects, score = ascending[places[rank]]
        others = [method for method in method_order(means) if method != shown and subjects in means[method]]
        methods = (*others, shown)
        cases.append(Case(rank, subjects, score, methods))
    return shown, sorted(cases, key=lambda case: list(places).index(case.rank))


def evaluated_split(run: RunSummary, dataset: DataSet) -> str | None:
    """The split that the rows of the evaluation are of; None where they are of none."""
    subjects = run.evaluated_subjects()
    return next((split for split in SPLITS if subjects and subjects <= set(dataset.subjects[split])), None)


class Applied:
    """The networks of a run, and the samples of the chosen cases.

    Args:
        run: of the run.
        dataset: a :class:`~deepatlas_tf.datasets.load.DataSet`.
        split: of the cases.
        cases: whose subjects are read.
    """

    def __init__(self, run: RunSummary, dataset: DataSet, split: str, cases: Sequence[Case]):
        self.dataset, self.predictors = dataset, load_predictors(run.path)
        subjects = dict.fromkeys(subject for case in cases for subject in case.subjects)
        self.samples = read_samples(dataset.samples(split), list(subjects))

    def label_maps(self, case: Case) -> dict[str, np.ndarray]:
        """Predicted label map ``(*S,)`` by method; without methods whose network is no longer there."""
        image, found = self.samples[case.subjects[0]]["image"], self.predictors.labellers
        return {name: found[stage](image) for name in case.methods if (stage := _stage(name)) in found}

    def fields(self, case: Case) -> dict[str, np.ndarray]:
        """Displacement field ``(*S, D)`` in voxels by method, without the identity."""
        moving, fixed = (self.samples[subject]["image"] for subject in case.subjects)
        found = {name: function for name, function in self.predictors.registrars.items() if name != IDENTITY}
        return {name: found[stage](moving, fixed) for name in case.methods if (stage := _stage(name)) in found}


def volumes(label: np.ndarray, n_classes: int, spacing: Sequence[float]) -> np.ndarray:
    """Volume of each foreground class in ml; of a 2D label map its area in cm2."""
    size = float(np.prod(spacing)) / (1000 if len(spacing) == 3 else 100)
    return np.bincount(label.ravel(), minlength=n_classes)[1:n_classes] * size


def _stage(method: str) -> str:
    return method.partition(" (")[0]  # where there are domains, they follow in brackets
