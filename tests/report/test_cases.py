"""Which cases a report shows, and their volumes."""

import numpy as np
import pytest

from deepatlas_tf.evaluation.draw import mean_dice
from deepatlas_tf.report.cases import chosen_cases, volumes

STAGES = ("segmentation_baseline", "a_to_b", "deepatlas")


def rows(scores, method="deepatlas"):
    """Two classes a subject, which lie 0.1 below and above its score."""
    return [
        {"method": method, "subject": subject, "class": name, "dice": score + change}
        for subject, score in scores.items()
        for name, change in (("a", -0.1), ("b", 0.1))
    ]


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ({"s": 0.5}, {"best": "s"}),
        ({"s": 0.5, "t": 0.4}, {"best": "s", "worst": "t"}),
        ({"s": 0.5, "t": 0.4, "u": 0.9}, {"best": "u", "median": "s", "worst": "t"}),
        ({"s": 0.5, "t": 0.4, "u": 0.9, "v": 0.7}, {"best": "u", "median": "s", "worst": "t"}),
        ({"s": float("nan"), "t": 0.4}, {"best": "t"}),
        ({"s": float("nan")}, {}),
    ],
)
def test_ranks(scores, expected):
    _, cases = chosen_cases(rows(scores), STAGES)
    assert {case.rank: case.subjects[0] for case in cases} == expected
    for case in cases:
        assert case.score == pytest.approx(scores[case.subjects[0]])


def test_the_last_method_is_shown_and_the_others_of_the_case_are_known():
    found = rows({"s": 0.2, "t": 0.9}, "deepatlas") + rows({"s": 0.9}, "segmentation_baseline")
    method, cases = chosen_cases(found, STAGES)
    assert method == "deepatlas" and [case.subjects for case in cases] == [("t",), ("s",)]
    assert [case.methods for case in cases] == [("deepatlas",), ("segmentation_baseline", "deepatlas")]


def test_with_domains_the_last_stage_counts_not_the_last_rows():
    """In the rows each combination of domains has its identity, and a stage that is trained early may come last."""
    found = rows({"s": 0.2}, "a_to_b (t1 to t2)") + rows({"t": 0.9}, "identity (t1 to t1)")
    found += rows({"t": 0.9}, "segmentation_baseline (t1 to t1)")
    method, (case,) = chosen_cases(found, STAGES)
    assert method == "a_to_b (t1 to t2)" and case.subjects == ("s",)


def test_the_identity_alone_shows_nothing():
    pairs = [{"method": "identity", "moving": "s", "fixed": "t", "class": "a", "dice": 0.5}]
    assert chosen_cases(pairs, STAGES) == (None, [])
    assert chosen_cases([], STAGES) == (None, [])


def test_volumes_are_millilitres_or_square_centimetres():
    label = np.zeros((10, 10, 10), np.int32)
    label[:5, :2] = 1
    label[9, 9, 9] = 3
    np.testing.assert_allclose(volumes(label, 4, (2.0, 1.0, 5.0)), [1.0, 0.0, 0.01])
    np.testing.assert_allclose(volumes(label[..., 0], 4, (2.0, 1.0)), [0.2, 0.0, 0.0])


def test_the_mean_dice_leaves_out_classes_that_are_not_labelled():
    label = np.array([[0, 1, 1, 2]])
    sample = {"label": label, "label_weight": np.array([0, 1, 0], np.float32)}
    assert mean_dice(np.array([[0, 1, 0, 0]]), sample, 3) == pytest.approx(2 / 3)
    assert np.isnan(mean_dice(label, sample, 3, np.zeros(3)))
