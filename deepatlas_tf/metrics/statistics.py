"""Statistical tests of whether two methods differ, by SciPy. Missing values (NaN) are left out."""

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats


def paired_wilcoxon(first: ArrayLike, second: ArrayLike, alternative: str = "two-sided") -> float:
    """p-value of Wilcoxon's signed-rank test for paired values, such as the Dice of the same subjects by two methods.

    Pairs with a NaN are left out. The p-value is 1 where no pair differs, and NaN where there is no pair.

    Args:
        first: ``(n,)`` values.
        second: ``(n,)`` values in the same order.
        alternative: ``"two-sided"``, ``"greater"`` (first is greater) or ``"less"``.
    """
    difference = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    difference = difference[~np.isnan(difference)]
    if not difference.size:
        return float("nan")
    if not difference.any():
        return 1.0
    return float(stats.wilcoxon(difference, alternative=alternative).pvalue)


def mann_whitney(first: ArrayLike, second: ArrayLike, alternative: str = "two-sided") -> float:
    """p-value of the Mann-Whitney U test for two independent samples ``(n,)`` and ``(m,)``.

    NaN are left out. The p-value is NaN where nothing is left of one of the samples.

    Args:
        first: ``(n,)`` values.
        second: ``(m,)`` values.
        alternative: ``"two-sided"``, ``"greater"`` (first is greater) or ``"less"``.
    """
    first, second = (x[~np.isnan(x)] for x in (np.asarray(first, np.float64), np.asarray(second, np.float64)))
    if not first.size or not second.size:
        return float("nan")
    return float(stats.mannwhitneyu(first, second, alternative=alternative).pvalue)


def false_discovery_control(p_values: ArrayLike) -> np.ndarray:
    """p-values adjusted for their number (Benjamini and Hochberg, 1995), in the shape that they came in.

    A NaN stays NaN and does not count as a test.

    Args:
        p_values: of any shape.
    """
    p_values = np.array(p_values, np.float64)
    there = ~np.isnan(p_values)
    p_values[there] = stats.false_discovery_control(p_values[there])
    return p_values
