"""The evidence for what joint learning gains: the runs that each table needs, and the tables of those that are there.

    python benchmarks/evidence.py run F B --data DATA --work runs/evidence
    python benchmarks/evidence.py status
    python benchmarks/evidence.py table F

``run`` makes what is missing, one run after the other in processes of their own: training, evaluation with atlases,
with templates and for most tables with instance optimisation, and its raw results in ``benchmarks/results``. Stopped at
any moment, the same command goes on where it was: a training from its last checkpoint, and what has its results is not
made again. DATA is the folder of the scans; table F, of synthetic knees, needs none. A run that another table has made
counts for both.

A table has the mean over all cases of all its runs, and the standard deviation of the runs' means: over seeds, which
change weights, pairs and labelled subjects, or over folds, which change who is tested. A case that several runs have
measured counts once, with its mean. p is of Wilcoxon's signed-rank test of a method with its baseline over the cases,
adjusted for all of a table (Benjamini & Hochberg, 1995). Runs that are missing are named, and those that were made
with other settings than their command gives today. Of UniSegReg's rounds the last one is shown.
"""

import argparse
import collections
import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from accuracy import RESULTS, keep
from brain_slices import GRID, slice_list

from deepatlas_tf.commands import train
from deepatlas_tf.evaluation.compare import compare_methods, means_of_rows
from deepatlas_tf.evaluation.summary import method_order
from deepatlas_tf.metrics.statistics import false_discovery_control
from deepatlas_tf.run import make_experiment
from deepatlas_tf.runs.files import read_rows
from deepatlas_tf.runs.folder import TASKS
from deepatlas_tf.training.config import read_experiment
from deepatlas_tf.training.settings import settings_dict
from deepatlas_tf.types import DataError, SettingError

REFINED = ("--instance-steps", "100", "--anatomy")
MOST_ATLASES = 5  # label maps of training that vote with a segmentation network
TEMPLATES = 8  # scans of training without a label map that do so, too
EARLIER_ROUND = re.compile(r"_\d+$")  # of UniSegReg, in the raw results only
BASELINES = {
    "segmentation": ("segmentation_baseline",),
    "registration": ("registration_unsupervised", "registration_pretrained"),
}
MEASURES = {"dice": 3, "hd95_mm": 2, "folds_percent": 3, "sdlogj": 3}  # with the digits that are shown


@dataclasses.dataclass(frozen=True)
class Run:
    """name: of the folder of its results. options: of ``deepatlas train``. scans: whether it needs the folder DATA.

    slices: whether it is of axial slices of the brains, which are made first (``brain_slices.py``).
    templates: how many training scans without a label map vote in its segmentations.
    refined: options of ``deepatlas evaluate`` for refined registrations; without them all that vote are registered by a
    forward pass.
    """

    name: str
    options: tuple[str, ...]
    scans: bool = True
    slices: bool = False
    templates: int = TEMPLATES
    refined: tuple[str, ...] = REFINED


def seeds(name: str, *options: str, **measured) -> list[Run]:
    """The same run with three seeds."""
    return [Run(f"{name}_seed{seed}", (*options, "--seed", str(seed)), **measured) for seed in range(3)]


BRAINS = ("--dataset", "brains", "--labels")
HIPPOCAMPUS = ("--dataset", "hippocampus", "--labels")
AT_2_MM = tuple(word for setting in GRID for word in ("--set", setting))
SLICES = ("--dataset", "nifti", "--set", "data.alignment=none", "--labels")
PAPER = ("--method", "deepatlas_paper")
UNISEGREG = ("--method", "uniseg_reg")
TABLES = {
    "A1": (
        "hippocampus, 1 label",
        [
            *seeds("hippocampus_1_deepatlas", *HIPPOCAMPUS, "1", refined=()),
            *seeds("hippocampus_1_deepatlas-paper", *HIPPOCAMPUS, "1", *PAPER, refined=()),
        ],
    ),
    "A5": (
        "hippocampus, 5 labels",
        [
            *seeds("hippocampus_5_deepatlas", *HIPPOCAMPUS, "5", refined=()),
            *seeds("hippocampus_5_deepatlas-paper", *HIPPOCAMPUS, "5", *PAPER, refined=()),
        ],
    ),
    "A20": ("hippocampus, 20 labels", [Run("hippocampus_20_deepatlas", (*HIPPOCAMPUS, "20"), refined=())]),
    "A150": (
        "hippocampus, all labels",
        [Run("hippocampus_150_deepatlas", (*HIPPOCAMPUS, "150"), templates=0, refined=())],
    ),
    "B": (
        "brains at 3.3 mm, 1 label, four folds: each subject is tested once",
        [
            Run(f"brains_1_{name}_fold{i}", (*BRAINS, "1", *method, "--set", f"data.fold={i}"))
            for name, method in (("deepatlas", ()), ("deepatlas-paper", PAPER))
            for i in range(4)
        ],
    ),
    "B3": ("brains at 3.3 mm, 3 labels", [Run("brains_3_deepatlas", (*BRAINS, "3"))]),
    "B13": ("brains at 3.3 mm, all labels", [Run("brains_13_deepatlas", (*BRAINS, "13"), templates=0)]),
    "C": ("brains at 2 mm, 1 label", [Run("brains_1_deepatlas_2mm", (*BRAINS, "1", *AT_2_MM))]),
    **{
        f"D{percent}{letter}": (
            f"axial slices of the brains, {percent} % with a label map, {title}",
            [Run(f"brains-2d_{n}_{name}", (*SLICES, n, *options), slices=True, templates=0, refined=())],
        )
        for percent, n in ((1, "1"), (5, "5"), (10, "10"))
        for letter, name, title, options in (
            ("", "uniseg-reg", "UniSegReg and Mean Teacher", UNISEGREG),
            ("J", "deepatlas", "DeepAtlas", ()),
        )
    },
    "F": (
        "synthetic knees of the demo, 3 labels",
        [
            *seeds("phantom-knee_3_deepatlas", "--labels", "3", scans=False),
            *seeds("phantom-knee_3_deepatlas-paper", "--labels", "3", *PAPER, scans=False),
        ],
    ),
}


def is_made(run: Run) -> bool:
    """Whether the raw results of a run are all there; what lists the comparisons is written last."""
    return (RESULTS / run.name / "comparison.json").exists()


def has_other_settings(run: Run) -> bool:
    """Whether the results are of other settings than the command of the run gives today, in any stage or network."""
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    today = make_experiment(**train.experiment_options(parser.parse_args(run.options)))
    try:
        then = read_experiment(RESULTS / run.name / "experiment.json")
    except (DataError, SettingError):  # it has one that there is no more
        return True
    return json.dumps(settings_dict(then)) != json.dumps(settings_dict(today))


def make(run: Run, work: Path, data: Path | None) -> None:
    """Train and measure a run in ``work``, or go on with it, and keep its raw results."""
    folder = work / run.name
    manual = slice_list(data, work / "slices") if run.slices else data
    place = ["--data-dir", str(work / "data"), *(["--manual-dir", str(manual)] if run.scans else [])]
    package = [sys.executable, "-m", "deepatlas_tf"]
    subprocess.run([*package, "train", *run.options, *place, "--workdir", str(folder)], check=True)
    # label maps of other levels are no atlases of a slice
    atlases = 0 if run.slices else min(int(run.options[run.options.index("--labels") + 1]), MOST_ATLASES)
    votes = ["--atlases", str(atlases), "--templates", str(run.templates)]
    subprocess.run([*package, "evaluate", str(folder), *run.refined, *votes, *place], check=True)
    keep(folder)


def state(run: Run) -> str:
    """Whether a run is there, in a few words."""
    if not is_made(run):
        return "missing"
    return "made, with other settings" if has_other_settings(run) else "made"


def cases(runs: list[Run], task: str, measure: str) -> dict[str, dict[str, dict]]:
    """``{method: {run: {case: mean over the classes}}}`` of the runs that are there."""
    found = collections.defaultdict(dict)
    for run in runs:
        path = RESULTS / run.name / f"{task}.csv"
        rows = read_rows(path) if path.exists() else []
        if rows and measure in rows[0]:
            for method, values in means_of_rows(rows, measure).items():
                found[method][run.name] = values
    return found


def over_runs(by_run: dict[str, dict]) -> dict:
    """Each case with its mean over the runs that have measured it."""
    every = collections.defaultdict(list)
    for values in by_run.values():
        for case, value in values.items():
            every[case].append(value)
    return {case: float(np.mean(values)) for case, values in every.items()}


def table(letter: str) -> str:
    """The table in Markdown, and in its last line what is missing."""
    title, runs = TABLES[letter]
    made, missing = [run for run in runs if is_made(run)], [run for run in runs if not is_made(run)]
    lines = [f"**Table {letter}**: {title}."]
    if made:
        lines += ["", f"Runs: {_named(made)}.", ""]
        lines += ["| task | method | cases | Dice | HD95 mm | folds % | SD log J | against its baseline | p |"]
        lines += ["| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"]
        lines += [line for task in TASKS for line in task_lines(made, task)]
    others = [run for run in made if has_other_settings(run)]
    if others:
        lines += ["", f"Made with other settings than those of today: {_named(others)}."]
    if missing:
        lines += ["", f"Missing: {_named(missing)}."]
    return "\n".join(lines)


def _named(runs: list[Run]) -> str:
    return ", ".join(f"`{run.name}`" for run in runs)


def task_lines(runs: list[Run], task: str) -> list[str]:
    """The rows of one task."""
    found = {measure: cases(runs, task, measure) for measure in MEASURES}
    by_method = {method: by_run for method, by_run in found["dice"].items() if not EARLIER_ROUND.search(method)}
    dice = {method: over_runs(by_run) for method, by_run in by_method.items()}
    name = next((name for name in BASELINES[task] if name in dice), None)
    baseline = dice.get(name)
    compared = {
        method: compare_methods({"ours": values, "theirs": baseline})[0]
        for method, values in dice.items()
        if baseline and method not in (name, "identity")
    }
    adjusted = dict(zip(compared, false_discovery_control([row["p"] for row in compared.values()]), strict=True))
    lines = []
    for index, method in enumerate(method_order(dice)):
        shown = [mean_and_sd(found[measure].get(method, {}), digits) for measure, digits in MEASURES.items()]
        gain = f"{compared[method]['difference']:+.3f}" if method in compared else "-"
        p = f"{adjusted[method]:.2g}" if method in adjusted else "-"
        cells = ["" if index else task, method, str(len(dice[method])), *shown, gain, p]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def mean_and_sd(by_run: dict[str, dict], digits: int) -> str:
    """The mean over the cases, and the standard deviation of the means of the runs where there are several."""
    if not by_run:
        return "-"
    mean = np.mean(list(over_runs(by_run).values()))
    of_runs = [np.mean(list(values.values())) for values in by_run.values()]
    spread = f" ± {np.std(of_runs, ddof=1):.{digits}f}" if len(of_runs) > 1 else ""
    return f"{mean:.{digits}f}{spread}"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "status", "table"))
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"of {', '.join(TABLES)}; default: all")
    parser.add_argument("--data", type=Path, metavar="DATA", help="the folder of the scans")
    parser.add_argument("--work", type=Path, default=Path("runs/evidence"), help="where runs are made")
    args = parser.parse_args()
    letters = args.tables or list(TABLES)
    if set(letters) - set(TABLES):
        parser.error(f"there is no table {min(set(letters) - set(TABLES))}; there are {', '.join(TABLES)}")
    runs = [run for letter in letters for run in TABLES[letter][1]]
    if args.what == "table":
        print("\n\n".join(map(table, letters)))
    elif args.what == "status":
        print("\n".join(f"{state(run):30}{run.name}" for run in runs))
    elif args.data is None and any(run.scans for run in runs if not is_made(run)):
        parser.error("--data: these tables need the folder of the scans")
    else:
        for run in (run for run in runs if not is_made(run)):
            make(run, args.work, args.data and args.data.absolute())


if __name__ == "__main__":
    main()
