"""Watching a stage: it stops at the first number that is not finite, names it, and keeps the checkpoint before."""

import dataclasses
import io
import json
import math

import numpy as np
import pytest

from deepatlas_tf import messages
from deepatlas_tf.datasets.load import load_dataset
from deepatlas_tf.experiments import get_experiment
from deepatlas_tf.keras_stack import keras, tf
from deepatlas_tf.runs.folder import StageFolder
from deepatlas_tf.training import loop, watch
from deepatlas_tf.training.watch import EpochLine, Watch, batch_subjects
from deepatlas_tf.types import DivergedError

NAN = math.nan


class Stub:
    """Of a method, what is looked at: its networks."""

    def __init__(self, weight=0.0):
        self.nets = {"registration": keras.Sequential([keras.layers.Dense(1, use_bias=False)])}
        self.nets["registration"].build((None, 1))
        self.nets["registration"].set_weights([np.full((1, 1), weight, np.float32)])


def watching(folder, model=None, epochs=3, steps=6):
    found = Watch(StageFolder(folder / "stage_x"), lambda epoch, step: [f"subject_{epoch}_{step}"])
    found.set_params({"epochs": epochs, "steps": steps})
    found.set_model(model or Stub())
    return found


def running_means(values):
    """As Keras gives them: of the term, over the steps of an epoch so far."""
    return [{"registration/loss": tf.constant(np.mean(values[: i + 1]) * 2)} for i in range(len(values))]


@pytest.mark.parametrize("seconds", [0.0, 1e9])  # looked at after each step; only at the end of the epoch
@pytest.mark.parametrize("bad", [NAN, math.inf, -math.inf])
def test_the_step_is_found_whenever_it_is_looked(seconds, bad, tmp_path, monkeypatch):
    monkeypatch.setattr(watch, "SECONDS_BETWEEN_LOOKS", seconds)
    found = watching(tmp_path)
    found.on_epoch_begin(2)
    seen = 0
    with pytest.raises(DivergedError, match=r"stage stage_x, step 15: registration/loss is not finite \(subjects: su"):
        for step, logs in enumerate(running_means([1.0, 2.0, bad, 1.0, NAN, 1.0])):
            seen = step
            found.on_train_batch_end(step, logs)
        found.on_epoch_end(2)
    assert seen == (2 if seconds == 0 else 5)


def test_terms_are_named_rather_than_their_sum(tmp_path):
    found = watching(tmp_path)
    found.on_epoch_begin(0)
    found.on_train_batch_end(0, {"a/loss": NAN, "a/similarity": NAN, "a/smoothness": 1.0, "b/anatomy": math.inf})
    with pytest.raises(DivergedError, match=r"step 1: a/similarity and b/anatomy are not finite .*subject_0_0"):
        found.on_epoch_end(0)


def test_weights_that_the_last_update_spoilt_are_no_checkpoint(tmp_path):
    found = watching(tmp_path, Stub(NAN))
    found.on_epoch_begin(1)
    found.on_train_batch_end(5, {"a/loss": 1.0})
    with pytest.raises(DivergedError, match="step 12: weights of the registration network are not finite; no epoch"):
        found.on_epoch_end(1)


def test_numbers_are_read_twice_a_second_at_most(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(watch, "_numbers", lambda logs: read.append(1) or {"a/loss": 1.0})
    found = watching(tmp_path, steps=1000)
    found.on_epoch_begin(0)
    for step in range(1000):
        found.on_train_batch_end(step, {"a/loss": 1.0})
    assert len(read) <= 2


def test_the_bar_has_terms_and_the_time_left(tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setattr(watch, "SECONDS_BETWEEN_LOOKS", 0.0)
    monkeypatch.setattr("tqdm.tqdm.monitor_interval", 0)
    found = watching(tmp_path)
    found.on_epoch_begin(1)
    found.bar.mininterval = 0
    for step in range(3):
        found.on_train_batch_end(step, {"registration/similarity": 0.25, "registration/loss": 0.5})
    last = screen.getvalue().rpartition("\r")[2]
    assert last.startswith("stage_x  50%|") and "| 9/18 [00:00<00:0" in last
    assert "registration loss 0.5, registration similarity 0.25" in last
    found.on_train_end()


@pytest.mark.parametrize(("level", "shown"), [(messages.NORMAL, True), (messages.QUIET, False)])
def test_a_line_an_epoch(level, shown, capsys):
    line = EpochLine("stage_x")
    line.set_params({"epochs": 3, "steps": 6})
    messages.set_level(level)
    try:
        line.on_epoch_begin(0)
        line.on_epoch_end(0, {"registration/loss": 0.5, "val_registration_dice": 0.75})
    finally:
        messages.set_level(messages.NORMAL)
    printed = capsys.readouterr().out
    expected = "[stage_x] epoch 1/3, step 6: registration loss 0.5; validation registration_dice 0.75; 0 s left\n"
    assert printed == (expected if shown else "")


def test_the_subjects_of_a_batch():
    sides = [tf.data.Dataset.from_tensor_slices({"subject": list(names)}).batch(2) for names in ("abcd", "efgh")]
    assert batch_subjects(sides[0], 1) == ["c", "d"]
    pairs = tf.data.Dataset.zip({"moving": sides[0], "fixed": sides[1]})
    assert batch_subjects(pairs, 0) == ["a", "b", "e", "f"]


@pytest.mark.long
def test_a_bad_image_stops_the_run_and_leaves_the_epoch_before(tmp_path, monkeypatch):
    """The third batch of the second epoch has a voxel that is NaN."""
    dataset = load_dataset("phantom_knee", data_dir=tmp_path / "data", shape=(16, 16), spacing=(8, 8), n_subjects=8)
    tiny = get_experiment("phantom_knee", tiny=True)
    stage = dataclasses.replace(tiny.stages[1], start_from={})
    build = loop.build_stream
    drawn = []

    def spoilt(stage, method, experiment, dataset, workdir, first_epoch, shard):
        def spoil(index, pair):
            bad = tf.where(index == 6 - 4 * first_epoch, NAN, 0.0)
            return {**pair, "moving": {**pair["moving"], "image": pair["moving"]["image"] + bad}}

        stream = build(stage, method, experiment, dataset, workdir, first_epoch, shard)
        if not drawn:
            batches = [[b[s]["subject"].numpy()[0].decode() for s in ("moving", "fixed")] for b in stream.take(8)]
            drawn.extend(batches)
        return stream.enumerate().map(spoil)

    monkeypatch.setattr(loop, "build_stream", spoilt)
    with pytest.raises(DivergedError) as caught:
        loop.train_experiment(dataclasses.replace(tiny, stages=(stage,)), dataset, tmp_path / "run")
    text = str(caught.value)
    folder = tmp_path / "run" / stage.name
    bad = "registration/similarity and registration/smoothness are not finite"
    assert "\n" not in text and f"stage {stage.name}, step 7: {bad}" in text
    assert (
        f"(subjects: {', '.join(drawn[6])})" in text and f"the checkpoint {folder}/checkpoints/epoch-0 is kept" in text
    )
    assert not (folder / "nets").exists()
    assert [path.name for path in (folder / "checkpoints").glob("epoch-*.index")] == ["epoch-0.index"]
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [0]
    reader = tf.train.load_checkpoint(str(folder / "checkpoints" / "epoch-0"))
    names = [name for name in reader.get_variable_to_shape_map() if "nets" in name and "OPTIMIZER" not in name]
    assert names and all(np.isfinite(reader.get_tensor(name)).all() for name in names)
