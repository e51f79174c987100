"""Tests of whether two methods differ, with SciPy; values that are not there (NaN) are left out."""

import numpy as np
from scipy import stats


def paired_wilcoxon(first, second, alternative: str = "two-sided") -> float:
    """p-value of Wilcoxon's signed-rank test for paired values, such as the Dice of the same subjects by two methods.

    Pairs with a NaN are left out. 1 where no pair differs; NaN without any pair.

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


def mann_whitney(first, second, alternative: str = "two-sided") -> float:
    """p-value of the Mann-Whitney U test for two independent samples ``(n,)`` and ``(m,)``.

    NaN are left out; NaN if nothing is left of either.

    Args:
        first: ``(n,)`` values.
        second: ``(m,)`` values.
        alternative: ``"two-sided"``, ``"greater"`` (first is greater) or ``"less"``.
    """
    first, second = (x[~np.isnan(x)] for x in (np.asarray(first, np.float64), np.asarray(second, np.float64)))
    if not first.size or not second.size:
        return float("nan")
    return float(stats.mannwhitneyu(first, second, alternative=alternative).pvalue)


def false_discovery_control(p_values) -> np.ndarray:
    """p-values adjusted for their number (Benjamini and Hochberg, 1995), in the same shape.

    A NaN stays NaN and does not count as a test.

    Args:
        p_values: of any shape.
    """
    p_values = np.array(p_values, np.float64)
    there = ~np.isnan(p_values)
    p_values[there] = stats.false_discovery_control(p_values[there])
    return p_values
