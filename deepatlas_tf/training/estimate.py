"""How long the updates of an experiment take on this machine: a few of each kind are made and timed, on noise."""

import dataclasses
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from deepatlas_tf.keras_stack import keras, tf
from deepatlas_tf.methods import method_class
from deepatlas_tf.models.build import build_net
from deepatlas_tf.runs.folder import net_path
from deepatlas_tf.training.build_method import build_method
from deepatlas_tf.training.experiment import Experiment, Stage

STEPS = 2  # that are timed, after one that compiles


def seconds_of_updates(experiment: Experiment, shape: Sequence[int], n_classes: int, n_channels: int = 1) -> float:
    """The seconds that all updates of all stages take, without validation, evaluation and the time to compile.

    Args:
        experiment: the settings.
        shape: of the network's grid.
        n_classes: background included.
        n_channels: of the images.
    """
    image = (*shape, n_channels)
    return sum(_seconds_of_stage(stage, experiment, image, n_classes) for stage in experiment.stages)


def _seconds_of_stage(stage: Stage, experiment: Experiment, image: tuple[int, ...], n_classes: int) -> float:
    turns = {turn: n for turn, n in stage.turns.items() if n}
    batch = _noise(stage, image, n_classes)
    seconds = {turn: _seconds_of_turn(stage, turn, experiment, batch, n_classes) for turn in turns}
    return stage.steps * sum(n * seconds[turn] for turn, n in turns.items()) / sum(turns.values())


def _seconds_of_turn(stage: Stage, turn: str, experiment: Experiment, batch: Any, n_classes: int) -> float:
    alone = dataclasses.replace(stage, turns={turn: 1}, start_from={}, pseudo_from={})
    image = batch["image"] if "image" in batch else batch["fixed"]["image"]
    names = {"class_names": ("",) * n_classes, "channel_names": ("",) * image.shape[-1]}
    known: Any = SimpleNamespace(shape=image.shape[1:-1], partial_labels=True, **names)
    keras.backend.clear_session()
    with tempfile.TemporaryDirectory() as folder:
        if stage.anatomy_from is not None:
            path = net_path(Path(folder), stage.anatomy_from, "segmentation")
            path.parent.mkdir(parents=True)
            build_net("segmentation", experiment.networks, known.shape, n_classes, image.shape[-1]).save(path)
        method = build_method(alone, experiment.networks, known, Path(folder))
    batches = tf.data.Dataset.from_tensors(batch).repeat()
    method.fit(batches, steps_per_epoch=1, verbose=0)
    start = time.perf_counter()
    method.fit(batches, steps_per_epoch=STEPS, verbose=0)
    return (time.perf_counter() - start) / STEPS


def _noise(stage: Stage, image: tuple[int, ...], n_classes: int) -> dict[str, Any]:
    """A batch of images of the size ``image (*S, K)`` for the method of a stage, every second scan labelled."""
    rng, n = np.random.default_rng(0), stage.batch_size
    label_weight = np.ones((n, n_classes), np.float32) * (np.arange(n) % 2 == 0)[:, None]
    sample = {
        "image": rng.random((n, *image), np.float32),
        "label": rng.integers(0, n_classes, (n, *image[:-1]), np.int32),
        "label_weight": label_weight,
        "subject": np.full(n, "noise"),
    }
    return sample if method_class(stage.method).stream == "samples" else {"moving": sample, "fixed": dict(sample)}
