"""The time of the updates: each kind is counted as often as the stages make it."""

import dataclasses

import pytest

from deepatlas_tf.run import make_experiment
from deepatlas_tf.training import estimate


def test_each_turn_counts_as_often_as_it_is_made(monkeypatch):
    costs = {"segmentation": 2.0, "registration": 3.0}
    monkeypatch.setattr(estimate, "_seconds_of_turn", lambda stage, turn, *others: costs[turn])
    experiment = make_experiment("phantom_knee")
    expected = 0.0
    for stage in experiment.stages:
        cycle = sum(stage.turns.values())
        expected += sum(stage.steps * n / cycle * costs[turn] for turn, n in stage.turns.items())
    assert estimate.seconds_of_updates(experiment, (8, 8), 3) == pytest.approx(expected)


@pytest.mark.long
def test_updates_of_samples_and_of_pairs_are_made_and_timed():
    made = make_experiment("phantom_knee", tiny=True, settings=["networks.registration=voxelmorph"])
    assert [stage.sources for stage in made.stages[:2]] == [(), ()]
    found = estimate.seconds_of_updates(dataclasses.replace(made, stages=made.stages[:2]), (16, 16), 3, n_channels=2)
    assert 0 < found < float("inf")
