"""Keras callbacks for the end of an epoch: validate, keep the best networks, log, checkpoint, stop early."""

import math
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from deepatlas_tf.keras_stack import keras, tf
from deepatlas_tf.runs.files import write_json, write_json_lines
from deepatlas_tf.runs.folder import StageFolder
from deepatlas_tf.runs.selection import SELECTED_BY, best_before, epochs_without_gain
from deepatlas_tf.training.saving import save_best_weights, taken_by_disk


class EpochEnd(keras.callbacks.Callback):
    """Validates, keeps the best networks, logs to ``metrics.jsonl`` and TensorBoard, and saves a checkpoint.

    The checkpoint comes last, so that a run that is killed at any point resumes from the last whole epoch. Networks
    that an earlier stage has trained are measured before the first step, and are the first that are kept; so is a new
    registration network, which begins as no registration at all or as a classical one.

    Args:
        folder: the folder of the stage.
        validation: function without arguments that measures the networks and gives the numbers by name.
        manager: saves the checkpoints.
        writer: writer of TensorFlow's summaries, for TensorBoard.
        panels: function without arguments that draws pictures for TensorBoard.
        selects: True keeps the networks of the epoch that was best in validation, False those of the last one.
        continued: names of the networks that an earlier stage has trained.
    """

    def __init__(
        self,
        folder: StageFolder,
        validation: Callable[[], dict[str, float]],
        manager: tf.train.CheckpointManager,
        writer: Any,
        panels: Callable[[], None],
        selects: bool = True,
        continued: Collection[str] = (),
    ):
        super().__init__()
        self.folder, self.validation, self.manager = folder, validation, manager
        self.writer, self.panels, self.selects, self.continued = writer, panels, selects, continued
        self.start, self.rows = {}, []

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.start, self.rows = self.folder.start(), self.folder.metrics()
        if self.selects and not self.rows and not self.folder.start_file.exists():
            self._measure_start()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        terms = {name: float(value) for name, value in (logs or {}).items()}
        training_seconds = time.perf_counter() - self.started
        measured = self.validation()
        row = {"epoch": epoch, "step": self.model.steps, **terms, **measured, **self._learning_rates()}
        self.rows = [r for r in self.rows if r["epoch"] < epoch]
        if self.selects:
            self._keep_best(measured)
        self.rows.append({**row, "seconds": round(training_seconds, 3)})
        with taken_by_disk(self.folder.metrics_file):
            write_json_lines(self.folder.metrics_file, self.rows)
        with taken_by_disk(self.folder.path.parent):  # TensorBoard's logs
            self._summarise(row)
        with taken_by_disk(self.folder.checkpoints):
            self.manager.save(checkpoint_number=epoch)
        if logs is not None:
            logs.update(measured)

    def _measure_start(self) -> None:
        candidates = {"registration", *self.continued} & set(self.model.nets)
        keys = {SELECTED_BY[name] for name in candidates if name in SELECTED_BY}
        if not keys:
            return
        self.start = {key: value for key, value in self.validation().items() if key in keys}
        for name, key in SELECTED_BY.items():
            if key in self.start:
                save_best_weights(self.model.nets[name], self.folder.best_weights(name))
        with taken_by_disk(self.folder.start_file):
            write_json(self.folder.start_file, self.start)

    def _keep_best(self, measured: Mapping[str, float]) -> None:
        for name, key in SELECTED_BY.items():
            net = self.model.nets.get(name)
            if net is not None and measured.get(key, math.inf) >= best_before(key, self.start, self.rows):
                save_best_weights(net, self.folder.best_weights(name))

    def _learning_rates(self) -> dict[str, float]:
        rates = {}
        for name, optimizer in self.model.optimizers_by_net.items():
            rates[f"learning_rate/{name}"] = float(optimizer.learning_rate.numpy())  # a mirrored variable is no number
        return rates

    def _summarise(self, row: Mapping[str, Any]) -> None:
        with self.writer.as_default(step=row["step"]):
            for name, value in row.items():
                if name not in ("epoch", "step"):
                    tf.summary.scalar(name, value)
            self.panels()
        self.writer.flush()


class EarlyStop(keras.callbacks.Callback):
    """Ends a stage when ``patience`` epochs in a row were better in no task; all workers stop together.

    Place it after the callback that validates.

    Args:
        folder: the folder of the stage, whose ``metrics.jsonl`` is read.
        patience: the number of epochs.
        value_of_chief: function that gives every worker the value of the first one.
    """

    def __init__(self, folder: StageFolder, patience: int, value_of_chief: Callable[[bool], int]):
        super().__init__()
        self.folder, self.patience, self.value_of_chief = folder, patience, value_of_chief

    def is_due(self) -> bool:
        """Whether the stage is to end now. All workers have to ask, and get the same answer."""
        without_gain = epochs_without_gain(self.folder.start(), self.folder.metrics())
        return bool(self.value_of_chief(without_gain >= self.patience))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.model.stop_training = self.is_due()
