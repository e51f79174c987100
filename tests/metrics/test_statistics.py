import itertools
import math

import numpy as np
import pytest
from scipy.stats import rankdata

from deepatlas_tf.metrics.statistics import false_discovery_control, mann_whitney, paired_wilcoxon

NAN = float("nan")


def test_wilcoxon_is_the_share_of_sign_flips_as_extreme():
    first, second = np.array([0.9, 0.8, 0.85, 0.7, 0.77, 0.5]), np.array([0.8, 0.75, 0.7, 0.71, 0.5, 0.47])
    ranks = rankdata(abs(first - second))
    positive = ranks[first > second].sum()
    sums = np.array([np.dot(flips, ranks) for flips in itertools.product((0, 1), repeat=6)])
    assert paired_wilcoxon(first, second, "greater") == pytest.approx(np.mean(sums >= positive))
    assert paired_wilcoxon(first, second) == pytest.approx(2 * np.mean(sums >= positive))


def test_wilcoxon_leaves_pairs_with_nan_out():
    first, second = [0.9, 0.8, NAN, 0.85, 0.3], [0.8, 0.75, 0.1, 0.7, NAN]
    assert paired_wilcoxon(first, second) == paired_wilcoxon([0.9, 0.8, 0.85], [0.8, 0.75, 0.7]) == 0.25


def test_wilcoxon_of_nothing():
    assert paired_wilcoxon([0.5, 0.6], [0.5, 0.6]) == 1
    assert math.isnan(paired_wilcoxon([NAN, 1], [1, NAN]))


def test_mann_whitney_is_the_share_of_regroupings_as_extreme():
    first, second = [5.1, 6.2, 7.3], [1.1, 2.2, 3.3, 5.5]
    u = sum(a > b for a in first for b in second)
    together = first + second
    groups = [set(group) for group in itertools.combinations(together, 3)]
    us = np.array([sum(a > b for a in group for b in set(together) - group) for group in groups])
    assert mann_whitney([*first, NAN], second, "greater") == pytest.approx(np.mean(us >= u))
    assert math.isnan(mann_whitney([NAN], second))


def test_false_discovery_control_by_hand():
    p = np.array([[0.01, 0.04, NAN], [0.03, 0.5, 0.02]])
    # sorted .01 .02 .03 .04 .5, times 5 / rank, then the running minimum from the right
    np.testing.assert_allclose(false_discovery_control(p), [[0.05, 0.05, NAN], [0.05, 0.5, 0.05]])
    assert np.isnan(p[0, 2]) and p[0, 0] == 0.01
