"""What happens at the end of an epoch: validate, keep the best nets, log, checkpoint."""

import math
import time

from deepatlas_tf.keras_stack import keras, tf
from deepatlas_tf.runs.files import write_json_lines
from deepatlas_tf.runs.folder import StageFolder
from deepatlas_tf.training.saving import save_best_weights, taken_by_disk

SELECTED_BY = {"segmentation": "val_segmentation_dice", "registration": "val_registration_dice"}


class EpochEnd(keras.callbacks.Callback):
    """Validates, logs to ``metrics.jsonl`` and TensorBoard, keeps the best nets, saves the checkpoint.

    In this order, so that a run that is killed at any point resumes from the last whole epoch.

    Args:
        folder: the folder of the stage.
        validation: called without arguments, returns a dict of numbers.
        manager: a ``tf.train.CheckpointManager``.
        writer: a ``tf.summary`` writer.
        panels: called with the name of the stage, draws image summaries.
        selects: whether the best nets are kept, by what validation measures; else the last ones.
    """

    def __init__(self, folder: StageFolder, validation, manager, writer, panels, selects: bool = True):
        super().__init__()
        self.folder, self.validation, self.manager = folder, validation, manager
        self.writer, self.panels, self.selects = writer, panels, selects
        self.rows = []

    def on_train_begin(self, logs=None):
        self.rows = self.folder.metrics()

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

    def _keep_best(self, measured):
        for name, key in SELECTED_BY.items():
            net = self.model.nets.get(name)
            if net is None:
                continue
            best_before = max((r.get(key, -math.inf) for r in self.rows), default=-math.inf)
            if measured.get(key, math.inf) >= best_before:
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
