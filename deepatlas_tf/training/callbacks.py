"""What happens at the end of an epoch: validate, keep the best nets, log, checkpoint."""

import math
import time
from collections.abc import Callable, Collection

from deepatlas_tf.keras_stack import keras, tf
from deepatlas_tf.runs.files import write_json, write_json_lines
from deepatlas_tf.runs.folder import StageFolder
from deepatlas_tf.runs.selection import SELECTED_BY, best_before, epochs_without_gain
from deepatlas_tf.training.saving import save_best_weights, taken_by_disk


class EpochEnd(keras.callbacks.Callback):
    """Validates, logs to ``metrics.jsonl`` and TensorBoard, keeps the best nets, saves the checkpoint.

    In this order, so that a run that is killed at any point resumes from the last whole epoch. The networks that the
    stage continues are measured before its first step, and are the first that are kept.

    Args:
        folder: the folder of the stage.
        validation: called without arguments, returns a dict of numbers.
        manager: a ``tf.train.CheckpointManager``.
        writer: a ``tf.summary`` writer.
        panels: called with the name of the stage, draws image summaries.
        selects: whether the best nets are kept, by what validation measures; else the last ones.
        continued: the names of the nets that an earlier stage has trained.
    """

    def __init__(
        self,
        folder: StageFolder,
        validation,
        manager,
        writer,
        panels,
        selects: bool = True,
        continued: Collection[str] = (),
    ):
        super().__init__()
        self.folder, self.validation, self.manager = folder, validation, manager
        self.writer, self.panels, self.selects, self.continued = writer, panels, selects, continued
        self.start, self.rows = {}, []

    def on_train_begin(self, logs=None):
        self.start, self.rows = self.folder.start(), self.folder.metrics()
        if self.selects and not self.rows and not self.folder.start_file.exists():
            self._measure_start()

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
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

    def _measure_start(self):
        keys = {SELECTED_BY[name] for name in SELECTED_BY if name in self.continued}
        if not keys:
            return
        self.start = {key: value for key, value in self.validation().items() if key in keys}
        for name, key in SELECTED_BY.items():
            if key in self.start:
                save_best_weights(self.model.nets[name], self.folder.best_weights(name))
        with taken_by_disk(self.folder.start_file):
            write_json(self.folder.start_file, self.start)

    def _keep_best(self, measured):
        for name, key in SELECTED_BY.items():
            net = self.model.nets.get(name)
            if net is not None and measured.get(key, math.inf) >= best_before(key, self.start, self.rows):
                save_best_weights(net, self.folder.best_weights(name))

    def _learning_rates(self):
        rates = {}
        for name, optimizer in self.model.optimizers_by_net.items():
            rates[f"learning_rate/{name}"] = float(optimizer.learning_rate.numpy())  # a mirrored variable is no number
        return rates

    def _summarise(self, row):
        stage = self.folder.name
        with self.writer.as_default(step=row["step"]):
            for name, value in row.items():
                if name not in ("epoch", "step"):
                    tf.summary.scalar(f"{stage}/{name}", value)
            self.panels(stage)
        self.writer.flush()


class EarlyStop(keras.callbacks.Callback):
    """Ends a stage of which so many epochs have been better in no task; all workers stop together.

    Place it behind the callback that validates.

    Args:
        folder: the folder of the stage.
        patience: how many epochs.
        value_of_chief: gives every worker what the first one says.
    """

    def __init__(self, folder: StageFolder, patience: int, value_of_chief: Callable[[bool], int]):
        super().__init__()
        self.folder, self.patience, self.value_of_chief = folder, patience, value_of_chief

    def is_due(self) -> bool:
        """Whether the stage is to end here."""
        without_gain = epochs_without_gain(self.folder.start(), self.folder.metrics())
        return bool(self.value_of_chief(without_gain >= self.patience))

    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = self.is_due()
