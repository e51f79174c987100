"""Another package's network, method, recipe and data set: found by entry points."""

import sys
from pathlib import Path

import pytest

from deepatlas_tf.datasets.load import dataset_names
from deepatlas_tf.experiments import get_experiment
from deepatlas_tf.methods import method_class, method_names
from deepatlas_tf.models.build import network_class, network_name, network_names
from deepatlas_tf.models.networks import Networks, networks_dict, networks_from
from deepatlas_tf.recipes import recipe_names
from deepatlas_tf.types import SettingError

PACKAGE = Path(__file__).parent / "package"


@pytest.fixture
def installed(monkeypatch):
    """The package on Python's path, with its metadata, as pip would leave it."""
    monkeypatch.syspath_prepend(str(PACKAGE))
    yield
    for name in [name for name in sys.modules if name == "balls" or name.startswith("balls.")]:
        del sys.modules[name]


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
