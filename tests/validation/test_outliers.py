"""The robust rule itself, and which names are a left and a right one."""

import numpy as np
import pytest

from deepatlas_tf.validation.class_rules import side_pairs
from deepatlas_tf.validation.outliers import out_of_line, some


def test_the_rule_is_the_median_and_its_absolute_deviation_of_the_logarithms():
    values = np.exp(np.array([0.0, 0.1, -0.1, 0.2, -0.2, 0.05, -0.05, 2.0]))
    logs = np.log(values)
    middle = np.median(logs)
    deviation = np.median(np.abs(logs - middle))
    expected = np.abs(logs - middle) > max(5 * 1.4826 * deviation, np.log(2))
    np.testing.assert_array_equal(out_of_line(values, 2), expected)
    assert expected.tolist() == [False] * 7 + [True]


@pytest.mark.parametrize(
    ("values", "factor", "n"),
    [
        ([1.0] * 9 + [1.01], 1.02, 0),  # within the least factor
        ([1.0] * 9 + [1.03], 1.02, 1),  # no deviation at all: the factor decides
        ([1.0] * 6 + [1.5] * 4, 1.02, 0),  # a set of two kinds
        ([1.0, 1.0, 1.0, 9.0], 1.02, 0),  # too few
    ],
)
def test_where_the_rule_holds(values, factor, n):
    assert out_of_line(values, factor).sum() == n


def test_healthy_variation_is_rarely_out_of_line():
    """Log-normal volumes with the spread of brain structures: fewer than one of a thousand."""
    rng = np.random.default_rng(0)
    found = [out_of_line(np.exp(rng.normal(0, 0.2, 20)), 2).sum() for _ in range(500)]
    assert sum(found) < 10


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (["Left-Putamen", "Right-Putamen", "Brain-Stem"], [("Left-Putamen", "Right-Putamen")]),
        (["lh_v1", "rh_v1"], [("lh_v1", "rh_v1")]),
        (["kidney_l", "kidney_r", "liver"], [("kidney_l", "kidney_r")]),
        (["medial", "lateral", "left_only"], []),
    ],
)
def test_pairs_differ_in_one_word(names, pairs):
    assert side_pairs(names) == pairs


def test_some():
    assert some(["a", "b", "c"]) == "a, b, c"
    assert some(["a", "b", "c", "d", "e"]) == "a, b, c and 2 others"
