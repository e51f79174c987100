"""What lies in the folder of a run, finished or not."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deepatlas_tf.messages import spoken_time
from deepatlas_tf.runs.folder import TASKS, RunFolder, StageFolder

TRIAL_STEPS = 8  # of a stage of a run with --tiny


@dataclasses.dataclass(frozen=True)
class StageSummary:
    """settings: of the stage. start, rows: its start.json and metrics.jsonl. pseudo_rows: of its pseudo masks."""

    folder: StageFolder
    settings: dict
    start: Mapping[str, float]
    rows: Sequence[dict]
    pseudo_rows: Sequence[dict]

    @property
    def name(self) -> str:
        """The name of the stage."""
        return self.folder.name

    @property
    def finished(self) -> bool:
        """Whether its networks are written."""
        return self.folder.is_finished

    @property
    def epochs_done(self) -> int:
        """How many epochs are finished."""
        return len(self.rows)

    @property
    def state(self) -> str:
        """How far the stage is, in words, with the time left where a finished epoch tells how long one takes."""
        epochs = self.settings["epochs"]
        if self.finished:
            return "finished"
        if not self.rows:
            return "not started, or in its first epoch"
        seconds = [row["seconds"] for row in self.rows if "seconds" in row]
        left = (epochs - self.epochs_done) * sum(seconds) / max(1, len(seconds))
        return f"epoch {self.epochs_done} of {epochs}" + (f", about {spoken_time(left)} left" if left else "")

    def best(self, key: str) -> float | None:
        """The largest value of a measure, at the start or after an epoch: that of the network which is kept."""
        values = [row[key] for row in (self.start, *self.rows) if math.isfinite(row.get(key, math.nan))]
        return max(values, default=None)


@dataclasses.dataclass(frozen=True)
class RunSummary:
    """What a run holds: ``about`` is model.json, empty where there is none, ``record`` is experiment.json, and ``rows``
    are those of the last evaluation by task, which may be none. ``data`` is data.json, None of an earlier version."""

    folder: RunFolder
    about: dict
    record: dict
    data: dict | None
    stages: Sequence[StageSummary]
    rows: dict[str, list[dict]]

    @property
    def path(self) -> Path:
        """The folder of the run."""
        return self.folder.path

    @property
    def settings(self) -> dict:
        """The settings of the experiment."""
        return self.record["experiment"]

    @property
    def dataset(self) -> str:
        """The name of the data set, followed by "synthetic" where it is."""
        name = self.about.get("dataset", self.settings["data"]["dataset"])
        return f"{name}, synthetic" if self.about.get("synthetic") else name

    @property
    def is_trial(self) -> bool:
        """Whether it has only the few steps of ``--tiny``."""
        return is_trial(self.settings["stages"])

    @property
    def labels(self) -> str:
        """How many of the training subjects had a label map that was used, in words."""
        return labels_used(self.settings["data"].get("labels"), self.data)

    @property
    def evaluated(self) -> bool:
        """Whether a stage was measured."""
        return any(self.rows.values())

    @property
    def without_test(self) -> bool:
        """Whether it has no test subjects, so that evaluating it would give nothing."""
        return self.data is not None and not self.data["subjects"]["test"]

    @property
    def shows_scans(self) -> bool:
        """Whether networks are applied to scans for its report: to cases, or to those of training without a test."""
        return self.evaluated or (self.without_test and any(stage.finished for stage in self.stages))

    @property
    def class_names(self) -> list[str]:
        """The names of the foreground classes."""
        found = [row["class"] for rows in self.rows.values() for row in rows]
        return list(self.about.get("class_names", ["background", *dict.fromkeys(found)]))[1:]

    def evaluated_subjects(self) -> set[str]:
        """All subjects in the rows of the last evaluation."""
        names = ("subject", "moving", "fixed")
        return {row[name] for rows in self.rows.values() for row in rows for name in names if name in row}


def read_run(path: Path) -> RunSummary:
    """Read the run. Raises DataError where ``path`` is none, or a file of it is damaged."""
    folder = RunFolder(path)
    stages = [_stage_summary(folder.stage(settings["name"]), settings) for settings in folder.settings()["stages"]]
    about = folder.model() if folder.model_file.exists() else {}
    rows = {task: folder.table(task) for task in TASKS}
    return RunSummary(folder, about, folder.record(), folder.data(), stages, rows)


def is_trial(stages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether no stage has more steps than ``--tiny`` gives it, by when nothing is learned; ``stages`` are settings."""
    return all(stage["steps"] <= TRIAL_STEPS for stage in stages)


def labels_used(asked: int | None, data: Mapping[str, Any] | None) -> str:
    """How many of the training subjects had a label map that was used, in words.

    Args:
        asked: the setting ``data.labels``.
        data: ``data.json`` of the run; None of a run of an earlier version, of which only the setting is known.
    """
    if data is None:
        return "all that there were (not recorded)" if asked is None else str(asked)
    return f"{len(data['used_labels'])} of {len(data['subjects']['train'])} training subjects"


def _stage_summary(folder: StageFolder, settings: dict) -> StageSummary:
    return StageSummary(folder, settings, folder.start(), folder.metrics(), folder.pseudo_quality())
