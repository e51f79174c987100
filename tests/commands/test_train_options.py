"""Options of the training command: settings, and the methods that can be asked for."""

import argparse

import pytest

from deepatlas_tf.commands.train import add_arguments, experiment_options
from deepatlas_tf.experiments import get_experiment
from deepatlas_tf.methods import method_names
from deepatlas_tf.models.networks import PRECISIONS
from deepatlas_tf.recipes import get_recipe, recipe_names
from deepatlas_tf.run import make_experiment
from deepatlas_tf.training.settings import settings_dict
from deepatlas_tf.training.strategy import STRATEGIES
from deepatlas_tf.types import SettingError


def parsed(*arguments):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(arguments)


def made_by(*arguments):
    """The experiment of a command line."""
    return make_experiment(**experiment_options(parsed(*arguments)))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_precision_is_a_setting_of_the_networks(precision):
    experiment = made_by("--precision", precision, "--set", "seed=3")
    assert settings_dict(experiment)["networks"]["precision"] == precision and experiment.seed == 3


def test_an_unknown_precision_is_refused():
    with pytest.raises(SettingError, match="networks.precision is one of"):
        made_by("--precision", "float8")


def test_strategies_are_those_of_the_module():
    assert parsed().strategy == "none"
    assert [parsed("--strategy", name).strategy for name in STRATEGIES] == list(STRATEGIES)
    with pytest.raises(SystemExit):
        parsed("--strategy", "horovod")


@pytest.mark.parametrize("method", method_names())
def test_every_method_that_is_listed_can_be_asked_for(method):
    experiment = made_by("--dataset", "phantom_knee/t1_t2", "--method", method)
    assert method in {stage.method for stage in experiment.stages}


@pytest.mark.parametrize("recipe", recipe_names())
def test_a_recipe_is_taken_whole(recipe):
    experiment = made_by("--dataset", "phantom_knee/t1_t2", "--method", recipe)
    assert experiment.stages == get_recipe(recipe)(get_experiment("phantom_knee/t1_t2")).stages


def test_a_part_of_a_recipe_is_trained_with_what_it_starts_from():
    for dataset in ("phantom_knee/xray_dxa", "phantom_brain/t1_t2"):
        experiment = made_by("--dataset", dataset, "--method", "domain_adaptation")
        assert [stage.name for stage in experiment.stages] == ["registration_a", "segmentation_a", "domain_adaptation"]
    with pytest.raises(SettingError, match="seg_guided is for two domains"):
        made_by("--dataset", "phantom_knee", "--method", "domain_adaptation")
