"""Watching a stage while it trains: a progress bar, a line after each epoch, and a stop where a loss diverges."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import numpy as np

from deepatlas_tf.keras_stack import keras, tf
from deepatlas_tf.messages import progress, say, spoken_time
from deepatlas_tf.runs.folder import StageFolder
from deepatlas_tf.types import DivergedError

SECONDS_BETWEEN_LOOKS = 0.5
BAR = "{desc} {percentage:3.0f}%|{bar:12}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}]{postfix}"


class Watch(keras.callbacks.Callback):
    """A Keras callback that shows the progress of a stage, and stops it at the first term that is not finite.

    Reading a number from a GPU makes the program wait for it. So each step only keeps its numbers, the running means of
    the epoch, and they are read twice a second and at the end of the epoch. Once a term is not finite its running mean
    stays so, which tells exactly at which step it happened.

    Args:
        folder: the folder of the stage, whose newest checkpoint is named in the error.
        subjects_at: function from an epoch and a step within it, both counted from 0, to the subjects of that batch.
        shown: whether there is a bar; of several workers only the first has one.
    """

    _supports_tf_logs = True  # else Keras reads each number at each step

    def __init__(self, folder: StageFolder, subjects_at: Callable[[int, int], list[str]], shown: bool = True):
        super().__init__()
        self.name, self.folder, self.subjects_at, self.shown = folder.name, folder, subjects_at, shown
        self.bar: Any = None  # of tqdm, once the first epoch begins
        self.epoch, self.kept, self.looked = 0, [], 0.0

    def on_epoch_begin(self, epoch, logs=None):
        if self.bar is None:  # not before: Keras does not tell on_train_begin with which epoch it begins
            total = self.params["epochs"] * self.params["steps"]
            start = epoch * self.params["steps"]
            disabled: dict[str, Any] = {} if self.shown else {"disable": True}
            self.bar = progress(
                total=total, initial=start, desc=self.name, unit="step", bar_format=BAR, leave=False, **disabled
            )
        self.epoch, self.kept, self.looked = epoch, [], time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self.kept.append((batch, logs))
        if time.perf_counter() - self.looked > SECONDS_BETWEEN_LOOKS:
            self._look()
            self.looked = time.perf_counter()
        self.bar.update()

    def on_epoch_end(self, epoch, logs=None):
        """Stop where weights are not finite: it runs before the checkpoint is written, which so never has such ones."""
        if self.kept:
            self._look()
        for name, net in self.model.nets.items():  # the last update may have spoilt them
            if not all(np.isfinite(weight).all() for weight in net.get_weights()):
                step = (epoch + 1) * self.params["steps"]
                self._stop(f"stage {self.name}, step {step}: weights of the {name} network are not finite; ")

    def on_train_end(self, logs=None):
        if self.bar is not None:
            self.bar.close()

    def _look(self):
        latest = _numbers(self.kept[-1][1])
        if not all(map(math.isfinite, latest.values())):
            self._stop_at_the_first()
        self.kept = []
        self.bar.set_postfix_str(_short(latest), refresh=False)

    def _stop_at_the_first(self):
        for batch, logs in self.kept:
            bad = [name for name, value in _numbers(logs).items() if not math.isfinite(value)]
            if bad:
                # the weighted sum is named only where all of its terms are finite
                terms = [name for name in bad if not name.endswith("/loss")] or bad
                step = self.epoch * self.params["steps"] + batch + 1
                subjects = ", ".join(self.subjects_at(self.epoch, batch))
                what = f"{' and '.join(terms)} {'is' if len(terms) == 1 else 'are'} not finite"
                self._stop(f"stage {self.name}, step {step}: {what} (subjects: {subjects}); ")

    def _stop(self, text: str) -> NoReturn:
        self.bar.close()
        checkpoint = self.folder.latest_checkpoint()
        kept = f"the checkpoint {checkpoint} is kept" if checkpoint else "no epoch was finished"
        remedy = "Look at these scans, or train with a lower learning rate in another --workdir"
        raise DivergedError(f"{text}{kept}. {remedy}")


class EpochLine(keras.callbacks.Callback):
    """A Keras callback that prints a line after each epoch, with the means of the terms and what validation measured.

    Place it after the callback that validates.
    """

    def __init__(self, name: str):
        super().__init__()
        self.name, self.started, self.first = name, 0.0, 0

    def on_epoch_begin(self, epoch, logs=None):
        if not self.started:
            self.started, self.first = time.perf_counter(), epoch

    def on_epoch_end(self, epoch, logs=None):
        done, epochs = epoch + 1, self.params["epochs"]
        left = (time.perf_counter() - self.started) / (done - self.first) * (epochs - done)
        time_left = f"; {spoken_time(left)} left" if done < epochs else ""
        step = f"step {done * self.params['steps']}"
        say(f"[{self.name}] epoch {done}/{epochs}, {step}: {_spoken(logs or {})}{time_left}")


def batch_subjects(stream: tf.data.Dataset, step: int) -> list[str]:
    """The subjects of batch number ``step`` of a stream, counted from 0; of pairs first the moving ones."""
    batch = next(iter(stream.skip(step)))
    sides = [batch[side] for side in ("moving", "fixed") if side in batch] or [batch]
    return [subject.decode() for side in sides for subject in side["subject"].numpy().ravel()]


def _numbers(logs: Mapping) -> dict[str, float]:
    return {name: float(value) for name, value in logs.items()}


def _short(numbers: Mapping[str, float]) -> str:
    """The text ``registration loss 0.312, registration similarity 0.2``, losses first: a terminal cuts off the end."""
    ordered = sorted(numbers, key=lambda name: not name.endswith("/loss"))
    return ", ".join(f"{name.replace('/', ' ')} {numbers[name]:.3g}" for name in ordered)


def _spoken(logs: Mapping) -> str:
    """The text ``registration loss 0.312 similarity 0.2; segmentation loss 0.5; validation segmentation_dice 0.8``."""
    groups: dict[str, list[str]] = {}
    for name, value in logs.items():
        group, _, term = name.partition("/")
        if not term:
            group, term = "validation", name.removeprefix("val_")
        groups.setdefault(group, []).append(f"{term} {float(value):.3g}")
    return "; ".join(f"{group} {' '.join(terms)}" for group, terms in groups.items())
