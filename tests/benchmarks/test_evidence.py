"""benchmarks/evidence.py: what is made, what is gone on with, and the numbers of a table by hand."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import wilcoxon

from deepatlas_tf.run import make_experiment
from deepatlas_tf.training.settings import settings_dict

ROOT = Path(__file__).parents[2]
BOTH = ("segmentation_baseline", "deepatlas")


@pytest.fixture
def evidence(monkeypatch, tmp_path):
    """The script, with an empty folder of results and one table of two runs."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import evidence

    monkeypatch.setattr(evidence, "RESULTS", tmp_path / "results")
    runs = evidence.seeds("made-up_1_deepatlas", "--labels", "1", scans=False)[:2]
    monkeypatch.setattr(evidence, "TABLES", {"X": ("made up", runs)})
    return evidence


def write_results(folder, dice):
    """``dice``: method -> subject -> Dice of the two classes."""
    folder.mkdir(parents=True)
    rows = [
        (method, subject, name, value)
        for method, subjects in dice.items()
        for subject, values in subjects.items()
        for name, value in zip(("bone", "cartilage"), values, strict=True)
    ]
    with (folder / "segmentation.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("method", "subject", "class", "dice"), *rows])
    (folder / "comparison.json").write_text("{}")
    seed = int(folder.name[-1])
    settings = settings_dict(make_experiment(labels=1, seed=seed))
    (folder / "experiment.json").write_text(json.dumps({"experiment": settings}))


def test_a_table_by_hand(evidence):
    """Of two seeds on the same six subjects: each counts once, with its mean over the seeds."""
    rng = np.random.default_rng(0)
    means = {method: np.empty((2, 6)) for method in BOTH}
    for index, run in enumerate(evidence.TABLES["X"][1]):
        dice = {method: rng.uniform(0.5 + 0.1 * (method == "deepatlas"), 0.9, (6, 2)) for method in BOTH}
        for method in BOTH:
            means[method][index] = dice[method].mean(axis=1)
        write_results(evidence.RESULTS / run.name, {m: {f"s{i}": v for i, v in enumerate(dice[m])} for m in BOTH})
    lines = evidence.table("X").splitlines()
    first, second = (next(line for line in lines if f"| {method} |" in line).split(" | ") for method in BOTH)
    for cells, method in ((first, BOTH[0]), (second, BOTH[1])):
        assert cells[2] == "6" and cells[4:7] == ["-"] * 3
        assert cells[3] == f"{means[method].mean():.3f} ± {means[method].mean(axis=1).std(ddof=1):.3f}"
    ours, theirs = (means[method].mean(axis=0) for method in BOTH[::-1])
    assert second[7:] == [f"{(ours - theirs).mean():+.3f}", f"{wilcoxon(ours - theirs).pvalue:.2g} |"]
    names = ", ".join(f"`{run.name}`" for run in evidence.TABLES["X"][1])
    assert f"Runs: {names}." in lines and "Missing" not in evidence.table("X")


def test_folds_give_each_subject_once(evidence):
    first, second = evidence.TABLES["X"][1]
    write_results(evidence.RESULTS / first.name, {BOTH[0]: {"a": (0.5, 0.7)}})
    write_results(evidence.RESULTS / second.name, {BOTH[0]: {"b": (0.8, 1.0), "c": (0.8, 0.8)}})
    (line,) = [line for line in evidence.table("X").splitlines() if f"| {BOTH[0]} |" in line]
    assert "| 3 | 0.767 ± 0.177 |" in line


def test_what_is_missing_is_said(evidence):
    missing = "Missing: `made-up_1_deepatlas_seed0`, `made-up_1_deepatlas_seed1`."
    assert evidence.table("X").splitlines() == ["**Table X**: made up.", "", missing]


def test_it_goes_on_where_it_was_stopped(evidence, monkeypatch, tmp_path, capsys):
    first, second = (run.name for run in evidence.TABLES["X"][1])
    called = []

    def pretend(command, check):
        assert check
        called.append(command[3:])
        if len(called) == 3:  # the training of the second run
            raise KeyboardInterrupt

    def keep(folder):
        write_results(evidence.RESULTS / folder.name, {BOTH[0]: {"a": (0.5, 0.7)}})

    monkeypatch.setattr(evidence.subprocess, "run", pretend)
    monkeypatch.setattr(evidence, "keep", keep)
    monkeypatch.setattr(sys, "argv", ["evidence.py", "run", "X", "--work", str(tmp_path / "work")])
    with pytest.raises(KeyboardInterrupt):
        evidence.main()
    evidence.main()
    commands = [
        (call[0], Path(call[call.index("--workdir") + 1] if call[0] == "train" else call[1]).name) for call in called
    ]
    expected = [("train", first), ("evaluate", first), ("train", second)]
    assert commands == [*expected, ("train", second), ("evaluate", second)]
    monkeypatch.setattr(sys, "argv", ["evidence.py", "status"])
    evidence.main()
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [["made", first], ["made", second]]


def test_other_settings_than_those_of_today_are_said(evidence, monkeypatch, capsys):
    for run in evidence.TABLES["X"][1]:
        write_results(evidence.RESULTS / run.name, {BOTH[0]: {"a": (0.5, 0.7)}})
    assert "settings" not in evidence.table("X")
    run = evidence.TABLES["X"][1][1].name
    path = evidence.RESULTS / run / "experiment.json"
    record = json.loads(path.read_text())
    record["experiment"]["stages"][0]["steps"] += 1
    path.write_text(json.dumps(record))
    assert evidence.table("X").splitlines()[-1] == f"Made with other settings than those of today: `{run}`."
    monkeypatch.setattr(sys, "argv", ["evidence.py", "status"])
    evidence.main()
    assert capsys.readouterr().out.splitlines()[1].split("  ")[0] == "made, with other settings"


def test_every_run_is_an_experiment_and_has_a_name_of_its_own(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import evidence

    from deepatlas_tf.cli import _parser
    from deepatlas_tf.commands.train import experiment_options

    runs = [run for _, runs in evidence.TABLES.values() for run in runs]
    assert len({run.name for run in runs}) == len(runs) == 37
    for run in runs:
        args = _parser().parse_args(["train", *run.options])
        made = make_experiment(**experiment_options(args))
        assert run.name.split("_")[1] == str(made.data.labels) and run.scans == (made.data.dataset != "phantom_knee")


def test_rounds_before_the_last_are_in_no_table(evidence):
    run = evidence.TABLES["X"][1][0]
    write_results(evidence.RESULTS / run.name, {m: {"a": (0.5, 0.7)} for m in (BOTH[0], "uniseg_reg_1", "uniseg_reg")})
    shown = [line.split(" | ")[1] for line in evidence.table("X").splitlines() if " | 1 | " in line]
    assert shown == [BOTH[0], "uniseg_reg"]


def test_slices_are_made_first_and_have_no_atlases(evidence, monkeypatch, tmp_path):
    commands = []
    monkeypatch.setattr(evidence.subprocess, "run", lambda command, check: commands.append(command[3:]))
    monkeypatch.setattr(evidence, "keep", lambda folder: None)
    monkeypatch.setattr(evidence, "slice_list", lambda data, folder: folder / f"of {data.name}.csv")
    run = evidence.Run("made-up-2d_5", ("--labels", "5"), slices=True, templates=0, refined=())
    evidence.make(run, tmp_path, tmp_path / "DATA")
    train, evaluate = (command[1:] for command in commands)
    for command in (train, evaluate):
        assert command[command.index("--manual-dir") + 1] == str(tmp_path / "slices" / "of DATA.csv")
    assert evaluate[evaluate.index("--atlases") + 1] == "0"
