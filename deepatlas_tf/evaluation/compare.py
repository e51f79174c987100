"""Comparing the methods of one or several runs by statistical tests, as Xu & Niethammer (MICCAI 2019) do.

Each case, a subject or a pair, counts with its mean over the classes. Two methods that were measured on the same cases
are compared by Wilcoxon's signed-rank test, others by the Mann-Whitney test; within a task and measure the p-values are
adjusted for their number (Benjamini & Hochberg, 1995).
"""

import collections
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from deepatlas_tf.metrics.statistics import false_discovery_control, mann_whitney, paired_wilcoxon
from deepatlas_tf.runs.folder import RunFolder
from deepatlas_tf.types import DataError

Case = tuple[str, ...]


def summaries(runs: Sequence[Path]) -> dict:
    """Join the ``summary.json`` of several runs in one; then a method is called ``run: method``.

    Raises:
        DataError: if a run was not evaluated, or two have the same name.
    """
    found = {run: _evaluated(run).summary() for run in _distinct(runs)}
    return {_label(run, method, runs): values for run, summary in found.items() for method, values in summary.items()}


def case_means(runs: Sequence[Path], task: str, measure: str = "dice") -> dict[str, dict[Case, float]]:
    """The mean over the classes for each case, by method.

    A case is ``(subject,)`` of a segmentation and ``(moving, fixed)`` of a registration. A case in which no class could
    be measured is left out.

    Args:
        runs: folders of evaluated runs.
        task: ``"segmentation"`` or ``"registration"``.
        measure: a column of the CSV file of the task.

    Raises:
        DataError: if a run was not evaluated, or by an earlier version that did not know the measure.
    """
    found = {}
    for run in _distinct(runs):
        rows = _evaluated(run).table(task)
        if rows and measure not in rows[0]:
            raise DataError(
                f"{run}: evaluation/{task}.csv has no {measure}; measure it again: deepatlas evaluate {run}"
            )
        means = means_of_rows(rows, measure)
        found |= {_label(run, method, runs): cases for method, cases in means.items()}
    return found


def means_of_rows(rows: Sequence[dict], measure: str = "dice") -> dict[str, dict[Case, float]]:
    """What :func:`case_means` gives, from the rows of one CSV file."""
    values = collections.defaultdict(lambda: collections.defaultdict(list))
    for row in rows:
        case = tuple(row[name] for name in ("subject", "moving", "fixed") if name in row)
        values[row["method"]][case].append(row[measure])
    return {
        method: {case: float(np.nanmean(x)) for case, x in cases.items() if not np.isnan(x).all()}
        for method, cases in values.items()
    }


def compare_methods(means: Mapping[str, Mapping[Case, float]]) -> list[dict]:
    """Compare each two methods by a statistical test.

    Args:
        means: what :func:`case_means` gave.

    Returns:
        A row for each two methods: ``first``, ``second``, ``test`` (its name), ``n`` (cases), ``difference`` (the mean
        of the first minus that of the second), ``p``, and ``q``, which is ``p`` adjusted for the number of rows.
    """
    rows = [_compare(first, second, means) for first, second in itertools.combinations(means, 2)]
    adjusted = false_discovery_control([row["p"] for row in rows]) if rows else []
    return [{**row, "q": float(q)} for row, q in zip(rows, adjusted, strict=True)]


def _compare(first: str, second: str, means: Mapping[str, Mapping[Case, float]]) -> dict:
    a, b = means[first], means[second]
    cases = sorted(set(a) & set(b))
    paired = len(cases) == len(a) == len(b)
    x, y = ([values[case] for case in (cases if paired else values)] for values in (a, b))
    return {
        "first": first,
        "second": second,
        "test": "Wilcoxon" if paired else "Mann-Whitney",
        "n": len(x) if paired else min(len(x), len(y)),
        "difference": float(np.mean(x) - np.mean(y)) if x and y else float("nan"),
        "p": paired_wilcoxon(x, y) if paired else mann_whitney(x, y),
    }


def _distinct(runs: Sequence[Path]) -> Sequence[Path]:
    names = collections.Counter(run.resolve().name for run in runs)
    name, count = names.most_common(1)[0]
    if count > 1:
        raise DataError(f"two of the runs are called {name}: rename one, or give it once")
    return runs


def _label(run: Path, method: str, runs: Sequence[Path]) -> str:
    return method if len(runs) == 1 else f"{run.resolve().name}: {method}"


def _evaluated(run: Path) -> RunFolder:
    folder = RunFolder(run)
    if not folder.summary_file.is_file():
        raise DataError(f"{run} has no evaluation/summary.json: deepatlas evaluate {run}")
    return folder
