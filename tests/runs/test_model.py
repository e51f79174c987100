"""Which network of a run is taken, and which folder is a model. No network is loaded."""

import json

import pytest

from deepatlas_tf.runs.model import TrainedModel, newest_version, open_model
from deepatlas_tf.types import DataError, SettingError


@pytest.fixture
def run(tmp_path):
    """Three stages: the last is not finished, the second left its segmentation network as it was."""
    turns = ({"segmentation": 1}, {"registration": 2, "segmentation": 0}, {"registration": 2, "segmentation": 1})
    stages = [
        {"name": f"s{i}", "method": "deepatlas", "turns": t, "weights": {}, "steps": 9, "epochs": 3}
        for i, t in enumerate(turns)
    ]
    (tmp_path / "experiment.json").write_text(json.dumps({"experiment": {"data": {"dataset": "d"}, "stages": stages}}))
    (tmp_path / "model.json").write_text(
        json.dumps({"class_names": ["background"], "shape": [8, 8], "spacing": [1, 1]})
    )
    for stage, names in (("s0", ["segmentation"]), ("s1", ["segmentation", "registration"])):
        (tmp_path / stage / "nets").mkdir(parents=True)
        for name in names:
            (tmp_path / stage / "nets" / f"{name}.keras").touch()
    return TrainedModel(tmp_path)


def test_the_last_stage_that_trained_a_network_is_taken(run):
    assert run.stage_of("segmentation") == "s0" and run.stage_of("registration") == "s1"
    assert run.stage_of("segmentation", "s1") == "s1"
    with pytest.raises(SettingError, match="'s2' with a registration network; there are: s1$"):
        run.stage_of("registration", "s2")
    with pytest.raises(SettingError, match="there are: none$"):
        run.stage_of("translation", "s2")


def test_versions_are_numbers(tmp_path):
    assert newest_version(tmp_path) is None and newest_version(tmp_path / "nowhere") is None
    for name in ("2", "10", "11", "latest"):
        (tmp_path / name).mkdir()
        if name != "11":  # a copy that was broken off
            (tmp_path / name / "saved_model.pb").touch()
    assert newest_version(tmp_path) == tmp_path / "10"
    with pytest.raises(DataError, match="export it with deepatlas export"):
        open_model(tmp_path)
