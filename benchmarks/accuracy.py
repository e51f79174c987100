"""Keep the results of runs, as they are quoted in docs/results.md.

    python benchmarks/accuracy.py runs/hippo5 runs/brains1

Copies settings, versions, the two CSV files and the summary of each run to ``benchmarks/results/<run>/``, with the
machine, the training time of each stage and the paired tests of DeepAtlas against each other method (Wilcoxon, on the
mean foreground Dice of each subject or pair), and prints the table of the docs.
"""

import collections
import shutil
import sys
from pathlib import Path

import numpy as np
from machine import machine

from deepatlas_tf.evaluation.report import markdown_table
from deepatlas_tf.metrics.statistics import paired_wilcoxon
from deepatlas_tf.training.files import read_json, read_json_lines, read_rows, write_json

RESULTS = Path(__file__).parent / "results"
FILES = ("experiment.json", "evaluation/summary.json", "evaluation/segmentation.csv", "evaluation/registration.csv")


def keep(run: Path) -> None:
    """Copy the results of one run and print its table."""
    folder = RESULTS / run.name
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copy(run / name, folder / Path(name).name)
    stages = {path.parent.name: read_json_lines(path) for path in sorted(run.glob("*/metrics.jsonl"))}
    minutes = {stage: round(sum(row["seconds"] for row in rows) / 60, 1) for stage, rows in stages.items()}
    validation = {stage: [_validation(row) for row in rows] for stage, rows in stages.items()}
    write_json(folder / "training.json", {"minutes": minutes, "machine": machine(), "validation": validation})
    write_json(
        folder / "comparison.json", {task: compare(folder / f"{task}.csv") for task in ("segmentation", "registration")}
    )
    print(f"\n## {run.name}: {sum(minutes.values()):.0f} minutes of training\n")
    print(markdown_table(read_json(folder / "summary.json")))


def compare(rows: Path) -> dict:
    """DeepAtlas minus each other method: mean difference of Dice, in how many cases it is better, paired p value."""
    dice = collections.defaultdict(lambda: collections.defaultdict(list))
    for row in read_rows(rows):
        case = tuple(row[column] for column in ("subject", "moving", "fixed") if column in row)
        dice[row["method"]][case].append(float(row["dice"]))
    means = {method: np.array([np.nanmean(cases[case]) for case in sorted(cases)]) for method, cases in dice.items()}
    ours = means.pop("deepatlas")
    return {
        method: {
            "difference": round(float(np.mean(ours - theirs)), 4),
            "better_in": f"{int((ours > theirs).sum())} of {len(ours)}",
            "p": float(f"{paired_wilcoxon(ours, theirs):.2g}"),
        }
        for method, theirs in means.items()
    }


def _validation(row):
    return {name: round(value, 4) for name, value in row.items() if name.startswith("val_") or name == "step"}


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        keep(Path(argument))
