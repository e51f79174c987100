"""Which networks of a stage are kept, by hand."""

import math

import pytest

from deepatlas_tf.runs.selection import best_before, epochs_without_gain, tasks_without_gain

BOTH = ("val_segmentation_dice", "val_registration_dice")


def rows(segmentation, registration=()):
    found = [{"epoch": epoch, BOTH[0]: value} for epoch, value in enumerate(segmentation)]
    for row, value in zip(found, registration, strict=False):
        row[BOTH[1]] = value
    return found


def test_the_start_is_a_candidate():
    assert best_before(BOTH[0], {BOTH[0]: 0.5}, rows([0.4, 0.45])) == 0.5
    assert best_before(BOTH[0], {}, rows([0.4, 0.45])) == 0.45
    assert best_before(BOTH[0], {}, []) == -math.inf


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ({BOTH[0]: 0.6, BOTH[1]: 0.6}, ["segmentation", "registration"]),
        ({BOTH[0]: 0.5, BOTH[1]: 0.71}, ["registration"]),  # an epoch that is as good is kept
        ({}, []),
    ],
)
def test_tasks_without_gain(start, expected):
    registration = [0.7, 0.3] if len(expected) == 1 else [0.2, 0.3]
    assert tasks_without_gain(start, rows([0.5, 0.4], registration)) == expected


@pytest.mark.parametrize(
    ("start", "segmentation", "registration", "expected"),
    [
        ({}, [0.5, 0.6, 0.4], (), 1),
        ({BOTH[0]: 0.9}, [0.5, 0.6, 0.4], (), 3),
        ({}, [0.5, 0.6, 0.4], (0.1, 0.2, 0.3), 0),  # one task is enough
        ({}, [0.5, 0.5, 0.5], (), 0),  # the last of equals is kept
        ({}, [], (), 0),
    ],
)
def test_epochs_without_gain(start, segmentation, registration, expected):
    assert epochs_without_gain(start, rows(segmentation, registration)) == expected


def test_without_validation_subjects_nothing_ends():
    assert epochs_without_gain({}, [{"epoch": 0, "step": 4}, {"epoch": 1, "step": 8}]) == 0
