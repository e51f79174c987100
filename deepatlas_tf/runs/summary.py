"""What lies in the folder of a run, finished or not."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

from deepatlas_tf.messages import spoken_time
from deepatlas_tf.runs.files import read_json, read_json_lines, read_rows, read_settings
from deepatlas_tf.runs.folder import net_path

TASKS = ("segmentation", "registration")


@dataclasses.dataclass(frozen=True)
class StageSummary:
    """settings: of the stage. rows: of its metrics.jsonl. finished: its networks are written."""

    settings: dict
    rows: Sequence[dict]
    finished: bool

    @property
    def name(self) -> str:
        return self.settings["name"]

    @property
    def epochs_done(self) -> int:
        return len(self.rows)

    @property
    def state(self) -> str:
        """In words, with the time left where an epoch tells it."""
        epochs = self.settings["epochs"]
        if self.finished:
            return "finished"
        if not self.rows:
            return "not started, or in its first epoch"
        seconds = [row["seconds"] for row in self.rows if "seconds" in row]
        left = (epochs - self.epochs_done) * sum(seconds) / max(1, len(seconds))
        return f"epoch {self.epochs_done} of {epochs}" + (f", about {spoken_time(left)} left" if left else "")

    def best(self, key: str) -> float | None:
        """The largest value of a measure over the epochs."""
        values = [row[key] for row in self.rows if math.isfinite(row.get(key, math.nan))]
        return max(values, default=None)


@dataclasses.dataclass(frozen=True)
class RunSummary:
    """about: model.json, empty where there is none. record: experiment.json. rows: of evaluation/, by task."""

    path: Path
    about: dict
    record: dict
    stages: Sequence[StageSummary]
    rows: dict[str, list[dict]]

    @property
    def settings(self) -> dict:
        return self.record["experiment"]

    @property
    def dataset(self) -> str:
        """Its name, with "synthetic" where it is."""
        name = self.about.get("dataset", self.settings["data"]["dataset"])
        return f"{name}, synthetic" if self.about.get("synthetic") else name

    @property
    def evaluated(self) -> bool:
        return any(self.rows.values())

    @property
    def class_names(self) -> list[str]:
        """Of the foreground."""
        found = [row["class"] for rows in self.rows.values() for row in rows]
        return list(self.about.get("class_names", ["background", *dict.fromkeys(found)]))[1:]

    def evaluated_subjects(self) -> set[str]:
        """All that are in the rows."""
        names = ("subject", "moving", "fixed")
        return {row[name] for rows in self.rows.values() for row in rows for name in names if name in row}


def read_run(path: Path) -> RunSummary:
    """Read the run. Raises DataError where ``path`` is none, or a file of it is damaged."""
    settings = read_settings(path)
    stages = [_stage_summary(path, stage) for stage in settings["stages"]]
    about = read_json(path / "model.json") if (path / "model.json").exists() else {}
    files = {task: path / "evaluation" / f"{task}.csv" for task in TASKS}
    rows = {task: read_rows(file) if file.exists() else [] for task, file in files.items()}
    return RunSummary(path, about, read_json(path / "experiment.json"), stages, rows)


def _stage_summary(path: Path, settings: dict) -> StageSummary:
    rows = read_json_lines(path / settings["name"] / "metrics.jsonl")
    finished = net_path(path, settings["name"], "any").parent.is_dir()
    return StageSummary(settings, rows, finished)
