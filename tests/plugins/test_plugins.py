"""Another package's network, method, recipe and data set: found by entry points, trained and read again."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from deepatlas_tf.cli import main
from deepatlas_tf.datasets.load import builder_and_config, dataset_names
from deepatlas_tf.experiments import get_experiment
from deepatlas_tf.keras_stack import keras, tf
from deepatlas_tf.methods import method_class, method_names
from deepatlas_tf.models.build import load_net, network_class, network_name, network_names
from deepatlas_tf.models.network import interface
from deepatlas_tf.models.networks import Networks, networks_dict, networks_from
from deepatlas_tf.plugins import plugin
from deepatlas_tf.recipes import recipe_names
from deepatlas_tf.runs.folder import RunFolder
from deepatlas_tf.training.build_method import build_method
from deepatlas_tf.training.experiment import Stage
from deepatlas_tf.types import DataError, SettingError

PACKAGE = Path(__file__).parent / "package"


@pytest.fixture
def installed(monkeypatch):
    """The package on Python's path, with its metadata, as pip would leave it."""
    monkeypatch.syspath_prepend(str(PACKAGE))


def test_nothing_is_there_without_the_package():
    names = {*method_names(), *recipe_names(), *dataset_names(), *network_names("segmentation")}
    assert not names & {"linear", "fit_labels", "balls"}
    with pytest.raises(SettingError, match="not 'linear'"):
        Networks(segmentation="linear")
    with pytest.raises(ValueError, match="there is no method 'balls.fit_labels:FitLabels'"):
        method_class("balls.fit_labels:FitLabels")


def test_all_are_found_by_their_names(installed):
    assert "fit_labels" in method_names() and "fit_labels" in recipe_names() and "balls" in dataset_names()
    assert network_names("segmentation") == ("light", "voxelmorph", "linear")
    linear = network_class("segmentation", "linear")(width=1)
    assert network_name("segmentation", linear) == "linear"
    networks = Networks(segmentation=linear)
    assert networks_from(networks_dict(networks)) == networks
    experiment = get_experiment("balls")
    assert (experiment.name, experiment.data.dataset) == ("balls", "balls")
    assert [stage.method for stage in experiment.stages] == [s.method for s in get_experiment("nifti").stages]


def test_method_and_network_train_and_the_data_set_has_its_grid(installed):
    assert builder_and_config("balls")[1].shape == (16, 16)
    dataset = SimpleNamespace(
        shape=(16, 16), class_names=("background", "ball"), partial_labels=True, channel_names=("image",)
    )
    method = build_method(Stage("one", "fit_labels", steps=10), Networks(segmentation="linear"), dataset, None)
    image = np.random.default_rng(0).random((1, 16, 16, 1), np.float32)
    sample = {"image": image, "label": (image[..., 0] > 0.5).astype(np.int32), "label_weight": np.ones((1, 2), "f")}
    tf.config.run_functions_eagerly(True)
    try:
        losses = [float(method.train_step(sample)["segmentation/loss"]) for _ in range(4) if not method.reset_metrics()]
    finally:
        tf.config.run_functions_eagerly(False)
    assert losses[-1] < losses[0]


def test_a_network_of_a_package_that_is_gone_is_refused_in_one_line(installed, tmp_path, monkeypatch):
    network_class("segmentation", "linear")  # registers its layer
    from balls.linear import Linear

    Linear().build((8, 8), interface("segmentation", 2, 3)).save(tmp_path / "net.keras")
    load_net(tmp_path / "net.keras")
    monkeypatch.delitem(keras.utils.get_custom_objects(), "balls>Twice")
    monkeypatch.setattr("deepatlas_tf.models.build.plugin_names", lambda group: ())
    with pytest.raises(DataError, match="it names Twice of balls.linear, which is not among the layers"):
        load_net(tmp_path / "net.keras")


def test_a_package_that_cannot_be_imported_is_named(installed, monkeypatch):
    monkeypatch.setitem(sys.modules, "balls.fit_labels", None)
    with pytest.raises(SettingError, match=r"plug-in fit_labels \(balls.fit_labels:FitLabels\) cannot be imported"):
        plugin("methods", "fit_labels")


@pytest.mark.slow
def test_the_command_line_trains_another_packages_method(installed, tmp_path):
    """Its data set, network and recipe together, as a user would call them."""
    run = tmp_path / "run"
    choices = ["--dataset", "balls", "--method", "fit_labels", "--set", "networks.segmentation=linear"]
    folders = ["--data-dir", str(tmp_path / "data"), "--workdir", str(run)]
    assert main(["train", "--tiny", *choices, *folders]) == 0
    assert RunFolder(run).settings()["networks"]["segmentation"] == {"name": "linear", "width": 3}
    assert {row["method"] for row in RunFolder(run).table("segmentation")} == {"fit_labels"}
    net = load_net(RunFolder(run).stage("fit_labels").net("segmentation"))
    assert any(type(layer).__name__ == "Twice" for layer in net.layers)
