"""Keep the results of runs, as they are quoted in docs/results.md.

    python benchmarks/accuracy.py runs/hippocampus_5_deepatlas runs/brains_1_deepatlas
    python benchmarks/accuracy.py --together hippocampus_5_deepatlas hippocampus_5_deepatlas_aligned

Copies settings, versions, the two CSV files and the summary of each run to ``benchmarks/results/<run>/``, with the
machine, the training time of each stage, validation after every epoch, the worth of pseudo masks, and the paired tests
of the last stage against each other method (Wilcoxon, on the mean foreground Dice of each subject or pair), and prints
the table of the docs. With ``--together`` it prints one table of kept runs, with the minutes of each stage; a stage
that runs share is in it once.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
from machine import machine

from deepatlas_tf.evaluation.compare import case_means, compare_methods
from deepatlas_tf.evaluation.summary import markdown_table
from deepatlas_tf.runs.files import read_json, write_json
from deepatlas_tf.runs.folder import TASKS, RunFolder

RESULTS = Path(__file__).parent / "results"
TABLES = ("segmentation.csv", "registration.csv", "segmentation_own_grid.csv")
FILES = ("experiment.json", *(f"evaluation/{name}" for name in ("summary.json", *TABLES)))


def keep(run: Path) -> None:
    """Copy the results of one run and print its table."""
    folder = RESULTS / run.name
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        if (run / name).exists():
            shutil.copy(run / name, folder / Path(name).name)
    run_folders = RunFolder(run).stages()
    stages = {stage.name: stage.metrics() for stage in run_folders}
    minutes = {stage: round(sum(row["seconds"] for row in rows) / 60, 1) for stage, rows in stages.items()}
    validation = {stage: [_validation(row) for row in rows] for stage, rows in stages.items()}
    pseudo = {stage.name: masks for stage in run_folders if (masks := _pseudo_masks(stage.pseudo_quality()))}
    training = {"minutes": minutes, "machine": machine(), "validation": validation}
    write_json(folder / "training.json", training | ({"pseudo_masks": pseudo} if pseudo else {}))
    write_json(folder / "comparison.json", {task: comparison(run, task, run_folders[-1].name) for task in TASKS})
    print(f"\n## {run.name}: {sum(minutes.values()):.0f} minutes of training\n")
    print(markdown_table(read_json(folder / "summary.json")))


def comparison(run: Path, task: str, last: str) -> dict:
    """The last stage minus each other method: mean difference of Dice, in how many cases it is better, paired p."""
    means = case_means([run], task) if (run / f"evaluation/{task}.csv").exists() else {}
    ours = means.pop(last, None)
    return {method: _difference(ours, theirs) for method, theirs in means.items()} if ours else {}


def _pseudo_masks(rows: list[dict]) -> dict:
    """Mean confidence in the pseudo masks of the validation subjects, and their mean Dice; nothing of no masks."""
    if not rows:
        return {}
    rows = [row for row in rows if row["split"] == "validation"]
    return {name: round(float(np.nanmean([row[name] for row in rows])), 4) for name in ("confidence", "dice")}


def _difference(ours, theirs):
    (row,) = compare_methods({"ours": ours, "theirs": theirs})
    better = sum(ours[case] > theirs[case] for case in set(ours) & set(theirs))
    return {
        "difference": round(row["difference"], 4),
        "better_in": f"{better} of {row['n']}",
        "p": float(f"{row['p']:.2g}"),
    }


def _validation(row):
    return {name: round(value, 4) for name, value in row.items() if name.startswith("val_") or name == "step"}


def together(names: list[str]) -> str:
    """One table of kept runs in Markdown."""
    rows = {}  # by method and figures
    for name in names:
        minutes = read_json(RESULTS / name / "training.json")["minutes"]
        heading, _, *lines = markdown_table(read_json(RESULTS / name / "summary.json")).splitlines()
        for line in lines:
            method = line.split("|")[1].strip().split(" (")[0]
            rows.setdefault(line, f"| {name} | {minutes.get(method, '-')} {line}")
    columns = heading.count("|") - 1
    return "\n".join([f"| run | minutes {heading}", "| --- | ---: | --- |" + " ---: |" * (columns - 1), *rows.values()])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--together", action="store_true", help="RUN is the name of kept results")
    args = parser.parse_args()
    if args.together:
        print(together(args.runs))
    else:
        for run in args.runs:
            keep(Path(run))


if __name__ == "__main__":
    main()
