"""The loop: exact resume, what a run leaves, and that it is never half there."""

import dataclasses
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from deepatlas_tf.datasets.load import load_dataset
from deepatlas_tf.experiments import get_experiment
from deepatlas_tf.keras_stack import tf
from deepatlas_tf.models.build import load_net
from deepatlas_tf.report import tables
from deepatlas_tf.runs.folder import net_path
from deepatlas_tf.runs.summary import read_run
from deepatlas_tf.streams.augment import Augmentation
from deepatlas_tf.training import loop
from deepatlas_tf.training.callbacks import EpochEnd
from deepatlas_tf.training.settings import set_value
from deepatlas_tf.types import DataError, DivergedError


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return load_dataset(
        "phantom_knee", data_dir=tmp_path_factory.mktemp("data"), shape=(16, 16), spacing=(8, 8), n_subjects=8
    )


def _experiment():
    """One DeepAtlas stage of 8 steps in 2 epochs, with augmentation."""
    tiny = get_experiment("phantom_knee", tiny=True)
    stage = dataclasses.replace(
        tiny.stages[-1],
        start_from={},
        pseudo_from={},
        augmentation=Augmentation(),
        turns={"registration": 2, "segmentation": 1},
    )
    return dataclasses.replace(tiny, stages=(stage,))


def _only(name):
    """One stage of the tiny experiment, as its first."""
    tiny = get_experiment("phantom_knee", tiny=True)
    (stage,) = (stage for stage in tiny.stages if stage.name == name)
    return dataclasses.replace(tiny, stages=(dataclasses.replace(stage, start_from={}, pseudo_from={}),))


def _weights(workdir):
    nets = [load_net(net_path(workdir, "deepatlas", name)) for name in ("registration", "segmentation")]
    return [weight for net in nets for weight in net.get_weights()]


def _rows(workdir):
    lines = (workdir / "deepatlas" / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


@pytest.fixture(scope="module")
def whole(dataset, tmp_path_factory):
    """The folder of the experiment, trained without a break."""
    workdir = tmp_path_factory.mktemp("whole")
    loop.train_experiment(_experiment(), dataset, workdir)
    return workdir


@pytest.mark.long
def test_four_steps_resumed_by_four_equal_eight(whole, dataset, tmp_path, monkeypatch):
    finish_epoch = EpochEnd.on_epoch_end

    def stop_after_the_first(self, epoch, logs=None):
        finish_epoch(self, epoch, logs)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(EpochEnd, "on_epoch_end", stop_after_the_first)
        loop.train_experiment(_experiment(), dataset, tmp_path)
    assert not (tmp_path / "deepatlas" / "nets").exists()
    assert [row["step"] for row in _rows(tmp_path)] == [4]
    loop.train_experiment(_experiment(), dataset, tmp_path)

    assert _rows(whole) == _rows(tmp_path)
    for one, other in zip(_weights(whole), _weights(tmp_path), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("epoch", "said"),
    [(0, ""), (1, "[deepatlas] goes on from epoch 1 of 2\n"), (2, "")],
    ids=["new", "resumed", "done"],
)
def test_where_an_interrupted_stage_goes_on_is_said(epoch, said, dataset, tmp_path, monkeypatch, capsys):
    def nothing(*args, **kwargs):
        return None

    method = SimpleNamespace(nets={}, fit=nothing)
    replaced = {"build_method": lambda *_: method, "_resume": lambda *_: (None, epoch), "_measured": lambda *_: (0, 0)}
    for name in ("build_stream", "EpochEnd", "distribute", "save_nets", "_say_what_was_not_gained"):
        replaced[name] = nothing
    for name, value in replaced.items():
        monkeypatch.setattr(loop, name, value)
    experiment = _experiment()
    loop.train_stage(experiment.stages[0], experiment, dataset, {}, tmp_path, tf.distribute.get_strategy())
    assert capsys.readouterr().out == said


@pytest.mark.long
def test_a_finished_run_is_left_alone_and_another_is_refused(whole, dataset, capsys):
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*.keras")}
    loop.train_experiment(_experiment(), dataset, whole)
    assert "already trained" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in whole.rglob("*.keras")} and len(before) == 2
    with pytest.raises(DataError, match=r"other settings \(seed: 0; now: 1\)"):
        loop.train_experiment(dataclasses.replace(_experiment(), seed=1), dataset, whole)


@pytest.mark.long
def test_networks_that_are_not_there_are_written_from_the_checkpoint(whole, dataset, tmp_path, capsys):
    """Stopped while the networks were written, and the folder deleted as the program itself advises."""
    workdir = tmp_path / "copy"
    shutil.copytree(whole, workdir)
    nets = workdir / "deepatlas" / "nets"
    for lose in (lambda: nets.rename(nets.with_name("unfinished_nets")), lambda: shutil.rmtree(nets)):
        lose()
        loop.train_experiment(_experiment(), dataset, workdir)
        assert _rows(workdir) == _rows(whole)
        for one, other in zip(_weights(whole), _weights(workdir), strict=True):
            np.testing.assert_array_equal(one, other)
    assert "already trained" not in capsys.readouterr().out


@pytest.mark.long
def test_what_a_stage_leaves(whole):
    row = _rows(whole)[-1]
    expected = {"epoch", "step", "registration/similarity", "registration/anatomy", "segmentation/supervised"}
    expected |= {
        "learning_rate/registration",
        "learning_rate/segmentation",
        "val_registration_dice",
        "val_folds_percent",
    }
    assert expected <= set(row) and row["step"] == 8
    settings = json.loads((whole / "experiment.json").read_text())
    assert settings["experiment"]["data"]["labels"] == 2 and "tensorflow" in settings["versions"]
    assert list((whole / "deepatlas" / "checkpoints").glob("epoch-*.index"))
    events = [str(path) for path in (whole / "tensorboard" / "deepatlas").iterdir()]
    tags = {
        v.tag for path in events for event in tf.compat.v1.train.summary_iterator(path) for v in event.summary.value
    }
    assert {"registration/loss", "image_label_prediction"} <= tags


@pytest.mark.long
def test_the_best_epoch_is_kept(dataset, tmp_path, monkeypatch):
    """Validation is made to say that the first epoch was the best."""
    scores = iter([0.9, 0.1])
    snapshots = []

    def validate(self):
        snapshots.append(self.nets_for_test.get_weights())
        return {"val_segmentation_dice": next(scores), "val_registration_dice": 0.5}

    make = loop.Validation.__init__

    def remember(self, samples, n_classes, nets, sides):
        make(self, samples, n_classes, nets, sides)
        self.nets_for_test = nets["segmentation"]

    monkeypatch.setattr(loop.Validation, "__init__", remember)
    monkeypatch.setattr(loop.Validation, "__call__", validate)
    loop.train_experiment(_only("segmentation_baseline"), dataset, tmp_path)
    kept = load_net(net_path(tmp_path, "segmentation_baseline", "segmentation")).get_weights()
    np.testing.assert_array_equal(kept[0], snapshots[0][0])
    assert not np.array_equal(kept[0], snapshots[1][0])


@pytest.fixture
def two_stages(dataset, tmp_path, monkeypatch):
    """train(scores, **settings) -> folder of a second stage that continues the network of the first.

    ``scores``: what validation is made to say of it, at the start and after each epoch.
    """
    (first,) = _only("segmentation_baseline").stages
    kept = {}

    def train(scores, **settings):
        second = dataclasses.replace(first, name="second", start_from={"segmentation": first.name}, **settings)
        experiment = dataclasses.replace(_only(first.name), stages=(first, second))
        given = kept.setdefault("scores", iter(scores))
        measure = loop.Validation.__call__

        def validate(self):
            is_second = (tmp_path / first.name / "nets").exists()
            return {"val_segmentation_dice": next(given)} if is_second else measure(self)

        with monkeypatch.context() as patch:
            patch.setattr(loop.Validation, "__call__", validate)
            loop.train_experiment(experiment, dataset, tmp_path)
        return tmp_path / "second"

    return train


def _kept(stage):
    return load_net(stage / "nets" / "segmentation.keras").get_weights()


@pytest.mark.long
def test_a_stage_leaves_nothing_worse_than_it_started_from(two_stages, capsys):
    stage = two_stages([0.8, 0.7, 0.6])
    started_from = _kept(stage.parent / "segmentation_baseline")
    for one, other in zip(_kept(stage), started_from, strict=True):
        np.testing.assert_array_equal(one, other)
    assert json.loads((stage / "start.json").read_text()) == {"val_segmentation_dice": 0.8}
    assert not (stage.parent / "segmentation_baseline" / "start.json").exists()  # its network was new
    line = "segmentation: Dice of the validation subjects was 0.800 at the start and at most 0.700 after an epoch"
    assert f"[second] {line}" in capsys.readouterr().out
    (summary,) = (found for found in read_run(stage.parent).stages if found.name == "second")
    assert summary.best("val_segmentation_dice") == 0.8
    assert "no epoch was better in segmentation than the start" in tables.stages(read_run(stage.parent)).note


@pytest.mark.long
def test_the_start_is_measured_once_and_beaten(two_stages, capsys, monkeypatch):
    """Stopped after the first epoch and resumed, with scores that would be too few for a second start."""
    finish_epoch = EpochEnd.on_epoch_end

    def stop(self, epoch, logs=None):
        finish_epoch(self, epoch, logs)
        if self.folder.name == "second":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(EpochEnd, "on_epoch_end", stop)
        two_stages([0.5, 0.4, 0.6])
    stage = two_stages([])
    assert [row["val_segmentation_dice"] for row in _lines(stage)] == [0.4, 0.6]
    started_from = _kept(stage.parent / "segmentation_baseline")
    assert not np.array_equal(_kept(stage)[0], started_from[0])
    assert "at the start" not in capsys.readouterr().out


def _lines(stage):
    return [json.loads(line) for line in (stage / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.long
def test_patience_ends_a_stage_and_it_stays_ended(two_stages):
    stage = two_stages([0.5, 0.6, 0.55, 0.54, 0.9], epochs=4, patience=2)
    assert [row["epoch"] for row in _lines(stage)] == [0, 1, 2]
    best = _kept(stage)
    shutil.rmtree(stage / "nets")
    two_stages([], epochs=4, patience=2)  # no epoch more
    assert len(_lines(stage)) == 3
    for one, other in zip(_kept(stage), best, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.long
def test_a_loss_that_is_not_finite_stops_the_run(dataset, tmp_path):
    path, experiment = "stages.registration_unsupervised", _only("registration_unsupervised")
    experiment = set_value(experiment, f"{path}.weights.registration.smoothness=1e38")
    experiment = set_value(experiment, f"{path}.learning_rates={{'registration': 1e30}}")
    with pytest.raises(DivergedError, match="(is|are) not finite"):
        loop.train_experiment(experiment, dataset, tmp_path)
    assert not (tmp_path / "registration_unsupervised" / "nets").exists()
