"""The layout of the folder of a run: where each thing lies. Training writes through it, everything else reads."""

import dataclasses
from pathlib import Path

from deepatlas_tf.runs.checks import (
    checked_grid,
    checked_metrics,
    checked_model,
    checked_record,
    checked_settings,
    checked_start,
    checked_summary,
    checked_table,
)
from deepatlas_tf.runs.ensemble import FOLDS
from deepatlas_tf.runs.files import read_json, read_json_lines, read_rows
from deepatlas_tf.types import DataError

TASKS = ("segmentation", "registration")


@dataclasses.dataclass(frozen=True)
class StageFolder:
    """The folder of one stage of a run."""

    path: Path

    @property
    def name(self) -> str:
        """The name of the stage, also in the tables."""
        return self.path.name

    @property
    def metrics_file(self) -> Path:
        """One line an epoch: the step, each term of the loss, what validation measured, learning rates, seconds."""
        return self.path / "metrics.jsonl"

    @property
    def start_file(self) -> Path:
        """What validation measured of the networks that the stage continues, before its first step."""
        return self.path / "start.json"

    @property
    def grid_file(self) -> Path:
        """``shape`` of the patches, ``spacing`` (mm) and ``without_specks`` (classes) of a stage of full resolution."""
        return self.path / "grid.json"

    @property
    def teacher_labels(self) -> Path:
        """Folder of the label maps of full resolution that the networks of earlier stages made for the stage."""
        return self.path / "teacher"

    @property
    def checkpoints(self) -> Path:
        """Folder of networks, optimizers, step and random state after an epoch, from which training goes on."""
        return self.path / "checkpoints"

    @property
    def nets(self) -> Path:
        """Folder of the networks; it appears when all of them are written."""
        return self.path / "nets"

    @property
    def unfinished_nets(self) -> Path:
        """The folder of the networks while they are written."""
        return self.path / "unfinished_nets"

    @property
    def pseudo_masks(self) -> Path:
        """Folder of the pseudo masks that the stage learns from."""
        return self.path / "pseudo"

    @property
    def pseudo_quality_file(self) -> Path:
        """Confidence and Dice of the pseudo masks; it is written when all masks are there."""
        return self.pseudo_masks / "quality.csv"

    @property
    def is_finished(self) -> bool:
        """Whether the networks are written."""
        return self.nets.is_dir()

    def net(self, name: str) -> Path:
        """The file of a network, such as ``"registration"``."""
        return self.nets / f"{name}.keras"

    def best_weights(self, net: str) -> Path:
        """The weights of a network after the epoch that was best on the validation subjects."""
        return self.checkpoints / f"best_{net}.weights.h5"

    def metrics(self) -> list[dict]:
        """The rows of ``metrics.jsonl``, one an epoch; none where no epoch is finished."""
        return checked_metrics(read_json_lines(self.metrics_file), self.metrics_file)

    def grid(self) -> dict | None:
        """The content of ``grid.json``; None of a stage on the grid of the run."""
        path = self.grid_file
        return checked_grid(read_json(path), path) if path.exists() else None

    def start(self) -> dict[str, float]:
        """The content of ``start.json``; empty where the networks are new, or of a run of an earlier version."""
        return checked_start(read_json(self.start_file), self.start_file) if self.start_file.exists() else {}

    def pseudo_quality(self) -> list[dict]:
        """The rows of ``pseudo/quality.csv``; none where the stage has made no pseudo masks."""
        path = self.pseudo_quality_file
        return checked_table(read_rows(path), "quality", path) if path.exists() else []

    def latest_checkpoint(self) -> Path | None:
        """The newest checkpoint, without the ending of its files; None where there is none."""
        found = sorted(self.checkpoints.glob("epoch-*.index"), key=lambda path: path.stat().st_mtime)
        return found[-1].with_suffix("") if found else None


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """The folder of a run, which need not be there yet."""

    path: Path

    @property
    def settings_file(self) -> Path:
        """The settings of the experiment, versions of the packages, and the git commit where there is one."""
        return self.path / "experiment.json"

    @property
    def model_file(self) -> Path:
        """Classes and grid of the networks: what is needed to apply them to other scans."""
        return self.path / "model.json"

    @property
    def reference_file(self) -> Path:
        """The image that scans are aligned to before the networks see them; only where they are."""
        return self.path / "reference.nii.gz"

    @property
    def data_file(self) -> Path:
        """Which data the run was trained on, see :mod:`deepatlas_tf.runs.data_record`."""
        return self.path / "data.json"

    @property
    def lock_file(self) -> Path:
        """The file whose lock a process holds while it trains."""
        return self.path / ".lock"

    @property
    def own_scans(self) -> Path:
        """Where the user's own scans are kept when they are prepared."""
        return self.path / "data"

    @property
    def tensorboard(self) -> Path:
        """Folder of the logs for TensorBoard, a folder in it for each stage, which TensorBoard shows as a run."""
        return self.path / "tensorboard"

    @property
    def figures(self) -> Path:
        """Folder of the pictures of the last evaluation."""
        return self.path / "figures"

    @property
    def report_file(self) -> Path:
        """The report, unless it is written elsewhere."""
        return self.path / "report.html"

    @property
    def summary_file(self) -> Path:
        """The means of the tables of the last evaluation, by method and class."""
        return self.path / "evaluation" / "summary.json"

    def table_file(self, task: str) -> Path:
        """The measures of the last evaluation, one row a case and class; ``task`` is one of ``TASKS``."""
        return self.path / "evaluation" / f"{task}.csv"

    def table(self, task: str) -> list[dict]:
        """The rows of a table of the last evaluation; none where there is no such file."""
        path = self.table_file(task)
        return checked_table(read_rows(path), task, path) if path.exists() else []

    def summary(self) -> dict:
        """The content of ``summary.json``. Raises DataError where there is none, or it is damaged."""
        return checked_summary(read_json(self.summary_file), self.summary_file)

    def stage(self, name: str) -> StageFolder:
        """The folder of a stage."""
        return StageFolder(self.path / name)

    def settings(self) -> dict:
        """The settings of the experiment, as plain JSON types. Raises DataError where this is no folder of a run."""
        return checked_settings(self.record(), self.settings_file)

    def record(self) -> dict:
        """The content of ``experiment.json``: settings, versions and git commit."""
        if not self.settings_file.is_file():
            if (self.path / FOLDS).is_file():
                raise DataError(f"{self.path} is a cross-validation: give the folder of one of its folds")
            raise DataError(f"{self.path} is not the folder of a run: it has no experiment.json")
        return read_json(self.settings_file)

    def model(self) -> dict:
        """Classes and grid of the networks. Raises DataError where there is no ``model.json``, or it is damaged."""
        return checked_model(read_json(self.model_file), self.model_file)

    def data(self) -> dict | None:
        """The record of the data that the run was trained on; None of a run of an earlier version."""
        return checked_record(read_json(self.data_file), self.data_file) if self.data_file.exists() else None

    def is_started(self) -> bool:
        """Whether a stage has networks or checkpoints."""
        return any(stage.is_finished or stage.latest_checkpoint() for stage in self.stages())

    def stages(self) -> list[StageFolder]:
        """The folders of the stages, in the order of training."""
        return [self.stage(stage["name"]) for stage in self.settings()["stages"]]


def net_path(workdir: Path, stage: str, net: str) -> Path:
    """The file of a network of a stage."""
    return RunFolder(workdir).stage(stage).net(net)
