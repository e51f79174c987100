"""A short training on the synthetic phantom must pay: in segmentation, at no cost of registration."""

import dataclasses

import pytest

from deepatlas_tf.datasets.load import load_dataset
from deepatlas_tf.evaluation.evaluate import evaluate
from deepatlas_tf.experiments import get_experiment
from deepatlas_tf.training.experiment import Data
from deepatlas_tf.training.loop import train_experiment
from deepatlas_tf.training.settings import set_value

SETTINGS = [
    "stages.segmentation_baseline.steps=360",
    "stages.registration_unsupervised.steps=60",
    "stages.deepatlas.steps=240",
]


BASELINES = {"registration": "registration_unsupervised", "segmentation": "segmentation_baseline"}


@pytest.mark.long
def test_joint_training_pays(tmp_path):
    """2D, one label, a minute of training: registration needs no label, segmentation gains, folds are under 1 %."""
    data = Data("phantom_knee", shape=(64, 64), spacing=(2.0, 2.0), n_subjects=60, labels=1)
    experiment = dataclasses.replace(get_experiment("phantom_knee"), data=data)
    segmentation, registration, *_, joint = experiment.stages
    joint = dataclasses.replace(joint, start_from=BASELINES, pseudo_from=BASELINES)
    experiment = dataclasses.replace(experiment, stages=(segmentation, registration, joint))
    for setting in SETTINGS:
        experiment = set_value(experiment, setting)
    dataset = load_dataset(
        "phantom_knee", data_dir=tmp_path / "data", shape=data.shape, spacing=data.spacing, n_subjects=data.n_subjects
    )
    train_experiment(experiment, dataset, tmp_path / "work")
    summary = evaluate(tmp_path / "work", dataset, "test", pairs_per_subject=2).summary

    def dice(method, task):
        return summary[method][task]["dice"]["mean"]

    unsupervised = dice("registration_unsupervised", "registration")
    assert unsupervised > dice("identity", "registration") + 0.1
    assert dice("deepatlas", "registration") > unsupervised - 0.02
    assert dice("segmentation_baseline", "segmentation") > 0.6
    assert dice("deepatlas", "segmentation") > dice("segmentation_baseline", "segmentation") + 0.03
    assert summary["deepatlas"]["registration"]["folds_percent"]["mean"] < 1
