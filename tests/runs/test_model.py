"""Which network of a run is taken, and which folder is a model. No network is loaded."""

import json
from types import SimpleNamespace

import pytest

from deepatlas_tf.apply.segment import segmentation_stage
from deepatlas_tf.runs.ensemble import Ensemble
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


def test_a_stage_of_full_resolution_has_its_own_grid(run, tmp_path):
    """It is taken only where it is named; the others keep the grid of the run."""
    text = (tmp_path / "experiment.json").read_text()
    fine = {"name": "fine", "method": "segmentation", "turns": {"segmentation": 1}, "weights": {}, "steps": 9}
    content = json.loads(text)
    content["experiment"]["stages"].append({**fine, "epochs": 3, "patches": {"shape": None}})
    (tmp_path / "experiment.json").write_text(json.dumps(content))
    (tmp_path / "fine").mkdir()
    grid = {"shape": [4, 6], "spacing": [0.5, 0.4]}  # as earlier versions wrote it
    (tmp_path / "fine" / "grid.json").write_text(json.dumps(grid))
    run = TrainedModel(tmp_path)
    assert run.full_resolution() is None and segmentation_stage(run, None) is None  # it is not finished
    (tmp_path / "fine" / "nets").mkdir()
    (tmp_path / "fine" / "nets" / "segmentation.keras").touch()
    assert run.full_resolution() == segmentation_stage(run, None) == "fine"
    assert segmentation_stage(run, "s0") == "s0" and segmentation_stage(run, None, with_atlases=True) is None
    with pytest.raises(SettingError, match="where no atlas is registered"):
        segmentation_stage(run, "fine", with_atlases=True)
    assert run.stage_of("segmentation") == "s0" and run.stage_of("segmentation", "fine") == "fine"
    assert run.grid_of("fine")[:3] == (("background",), (4, 6), (0.5, 0.4)) and run.grid_of("s0") == run.grid
    both = Ensemble(tmp_path, [run, run])
    assert both.full_resolution() == "fine" and both.grid_of("fine") == run.grid_of("fine")
    (tmp_path / "fine" / "grid.json").write_text(json.dumps({**grid, "without_specks": [1, 2, 4]}))
    assert run.grid_of("fine").without_specks == (1, 2, 4) and run.grid_of("s0").without_specks == ()
    one = SimpleNamespace(**vars(run), grid_of=lambda stage: run.grid_of(stage)._replace(without_specks=(2, 3, 4)))
    assert Ensemble(tmp_path, [run, one]).grid_of("fine").without_specks == (2, 4)
    other = SimpleNamespace(**vars(run), full_resolution=lambda: None, grid_of=lambda stage: run.grid)
    both = Ensemble(tmp_path, [run, other])
    assert both.full_resolution() is None
    with pytest.raises(DataError, match="stage fine of the folds has different grids"):
        both.grid_of("fine")
    (tmp_path / "fine" / "grid.json").write_text(json.dumps({"shape": [4, 6], "spacing": [0.5]}))
    with pytest.raises(DataError, match="different numbers of axes"):
        run.grid_of("fine")


def test_versions_are_numbers(tmp_path):
    assert newest_version(tmp_path) is None and newest_version(tmp_path / "nowhere") is None
    for name in ("2", "10", "11", "latest"):
        (tmp_path / name).mkdir()
        if name != "11":  # a copy that was broken off
            (tmp_path / name / "saved_model.pb").touch()
    assert newest_version(tmp_path) == tmp_path / "10"
    with pytest.raises(DataError, match="export it with deepatlas export"):
        open_model(tmp_path)
