"""Experiments from files: what a run wrote is the same experiment again, and wrong files are named."""

import dataclasses
import json

import pytest

from deepatlas_tf.models.networks import Networks, networks_dict
from deepatlas_tf.run import experiment_from, make_experiment, starting_from
from deepatlas_tf.runs.files import through_json
from deepatlas_tf.training.config import read_experiment
from deepatlas_tf.training.experiment import Data, Stage
from deepatlas_tf.training.settings import settings_dict
from deepatlas_tf.types import DataError, SettingError

METHODS = ["deepatlas", "semi_deepatlas", "seg_guided", "mean_teacher", "uniseg_reg"]


@pytest.fixture
def write(tmp_path):
    def write(content, name="experiment.json"):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


@pytest.mark.parametrize("method", METHODS)
def test_what_a_run_wrote_is_the_same_experiment(write, method):
    made = make_experiment("phantom_knee/t1_t2", method, settings=["data.spacing=(3,3,3)", "seed=4"])
    written = {"experiment": settings_dict(made), "versions": {"tensorflow": "2"}, "git_commit": None}
    found = read_experiment(write(written))
    assert through_json(settings_dict(found)) == through_json(settings_dict(made))
    assert found.data == made.data and found.networks == made.networks
    assert found.stages[-1].augmentation == made.stages[-1].augmentation


def test_what_is_left_out_has_its_default(write):
    stage = {"name": "only", "method": "segmentation", "turns": {"segmentation": 1}, "steps": 5, "epochs": 1}
    found = read_experiment(write({"data": {"dataset": "nifti"}, "stages": [{**stage, "weights": {}}]}))
    assert found.name == "nifti" and found.seed == 0 and found.data == Data("nifti")
    assert found.stages == (Stage("only", "segmentation", 5, 1, turns={"segmentation": 1}),)


def test_options_change_it_as_they_change_a_data_set(write):
    made = make_experiment("phantom_knee", tiny=False)
    path = write({"experiment": settings_dict(made)})
    found = experiment_from(path, labels=2, seed=3, steps_scale=0.5, settings=["stages.deepatlas.batch_size=2"])
    asked = make_experiment(
        "phantom_knee", labels=2, seed=3, steps_scale=0.5, settings=["stages.deepatlas.batch_size=2"]
    )
    assert through_json(settings_dict(found)) == through_json(settings_dict(asked))
    assert experiment_from(path, tiny=True).stages[0].steps == 8
    with pytest.raises(SettingError, match="--config says which dataset it is of: leave out --dataset"):
        experiment_from(path, dataset="nifti")


def test_yaml_is_the_same(write):
    yaml = pytest.importorskip("yaml")
    made = settings_dict(make_experiment("phantom_knee"))
    path = write(yaml.safe_dump(through_json(made)), "experiment.yaml")
    assert through_json(settings_dict(read_experiment(path))) == through_json(made)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stages": []}, "has no stages"),
        ({"data": {"dataset": "nifti", "label": 3}}, "data: there is no setting label; there are dataset, shape"),
        ({"data": {"dataset": "nifti", "shape": 16}}, "experiment.json"),
        ({"colour": "red"}, "there is no setting colour"),
        ({"evaluation": []}, "experiment.json"),
        ({"networks": {**networks_dict(Networks()), "registration": {"name": "nowhere"}}}, "nowhere"),
    ],
)
def test_wrong_settings_are_named(write, change, message):
    made = settings_dict(make_experiment("phantom_knee"))
    with pytest.raises(DataError, match=message):
        read_experiment(write({"experiment": {**made, **change}}))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("experiment.json", "{", "cannot read .*experiment.json"),
        ("experiment.json", "[]", "has no settings of an experiment"),
        ("experiment.txt", "{}", "ends in .json or .yaml"),
    ],
)
def test_files_that_are_no_experiment_are_named(write, name, content, message):
    with pytest.raises(DataError, match=message):
        read_experiment(write(content, name))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="nowhere.json"):
        read_experiment(tmp_path / "nowhere.json")
    with pytest.raises(DataError, match="is not the folder of a run"):
        starting_from(tmp_path)


def test_a_run_gives_its_networks_and_grid(write, tmp_path):
    made = make_experiment("phantom_knee")
    write({"experiment": settings_dict(made)})
    write({"class_names": ["background", "bone"], "shape": [16, 16], "spacing": [2, 3]}, "model.json")
    with pytest.raises(DataError, match="no stage of this run is finished"):
        starting_from(tmp_path)
    nets = tmp_path / made.stages[-1].name / "nets"
    nets.mkdir(parents=True)
    (nets / "segmentation.keras").write_bytes(b"")
    found = experiment_from(init_from=tmp_path, dataset="nifti", settings=["data.spacing=(4,4)"])
    assert found.data.shape == (16, 16) and found.data.spacing == (4.0, 4.0)
    assert found.networks.segmentation.path == str(nets / "segmentation.keras")
    plain = make_experiment("nifti")
    assert found.networks.registration == plain.networks.registration
    assert [dataclasses.replace(s, name="") for s in found.stages] == [
        dataclasses.replace(s, name="") for s in plain.stages
    ]
