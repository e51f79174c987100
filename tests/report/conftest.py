"""A small evaluated run on the 2D phantom with untrained networks, and what lies in it."""

import json
import shutil
from pathlib import Path

import pytest

from deepatlas_tf.datasets.load import load_dataset
from deepatlas_tf.evaluation.evaluate import evaluate
from deepatlas_tf.experiments import get_experiment
from deepatlas_tf.keras_stack import keras
from deepatlas_tf.models.build import build_net
from deepatlas_tf.runs.folder import RunFolder, net_path
from deepatlas_tf.training.same_run import write_data, write_settings
from deepatlas_tf.training.settings import set_value

GRID = {"shape": (24, 24), "spacing": (5.0, 5.0), "n_subjects": 24}
LINES = [
    {"epoch": 0, "step": 4, "registration/loss": 1.5, "registration/similarity": 0.5, "seconds": 2.0},
    {"epoch": 1, "step": 8, "registration/loss": 1.25, "registration/similarity": 0.25, "seconds": 4.0},
]


@pytest.fixture(scope="session")
def evaluated_run(tmp_path_factory) -> Path:
    """RUN beside DATA: stages ``segmentation_baseline``, ``registration_unsupervised`` and ``deepatlas``."""
    folder = tmp_path_factory.mktemp("report")
    experiment = get_experiment("phantom_knee", tiny=True)
    for name, value in GRID.items():
        experiment = set_value(experiment, f"data.{name}={value}")
    dataset = load_dataset("phantom_knee", data_dir=folder / "data", **GRID)
    run = folder / "run"
    write_settings(experiment, run)
    write_data(dataset, dataset.labelled["train"][:5], RunFolder(run))
    for stage, net in (
        ("segmentation_baseline", "segmentation"),
        ("registration_unsupervised", "registration"),
        ("deepatlas", "segmentation"),
        ("deepatlas", "registration"),
    ):
        keras.utils.set_random_seed(len(stage))
        path = net_path(run, stage, net)
        path.parent.mkdir(parents=True, exist_ok=True)
        build_net(net, experiment.networks, dataset.shape, len(dataset.class_names)).save(path, save_format="keras")
    lines = "".join(json.dumps({**line, "val_registration_dice": 0.25 * line["step"] / 8}) + "\n" for line in LINES)
    (run / "deepatlas" / "metrics.jsonl").write_text(lines)
    evaluate(run, dataset, "test")
    return run


@pytest.fixture
def unfinished_run(evaluated_run, tmp_path) -> Path:
    """The same before any stage was finished: one epoch of ``deepatlas`` is done."""
    run = tmp_path / "unfinished"
    (run / "deepatlas").mkdir(parents=True)
    for name in ("experiment.json", "model.json"):
        shutil.copy(evaluated_run / name, run / name)
    (run / "deepatlas" / "metrics.jsonl").write_text(json.dumps(LINES[0]) + "\n")
    return run
