"""Options of the training command that are short for settings."""

import argparse

import pytest

from deepatlas_tf.commands.train import add_arguments
from deepatlas_tf.run import experiment_of
from deepatlas_tf.training.experiment import PRECISIONS, settings_dict
from deepatlas_tf.training.strategy import STRATEGIES
from deepatlas_tf.types import SettingError


def parsed(*arguments):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(arguments)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_precision_is_a_setting_of_the_networks(precision):
    experiment = experiment_of(parsed("--precision", precision, "--set", "seed=3"))
    assert settings_dict(experiment)["networks"]["precision"] == precision and experiment.seed == 3


def test_an_unknown_precision_is_refused():
    with pytest.raises(SettingError, match="networks.precision is one of"):
        experiment_of(parsed("--precision", "float8"))


def test_strategies_are_those_of_the_module():
    assert parsed().strategy == "none"
    assert [parsed("--strategy", name).strategy for name in STRATEGIES] == list(STRATEGIES)
    with pytest.raises(SystemExit):
        parsed("--strategy", "horovod")
