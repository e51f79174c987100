"""Runs compared: against SciPy on the same numbers."""

import json

import numpy as np
import pytest
from scipy import stats

from deepatlas_tf.cli import main
from deepatlas_tf.evaluation.compare import case_means, compare_methods, summaries
from deepatlas_tf.methods import method_names
from deepatlas_tf.recipes import recipe_names
from deepatlas_tf.runs.files import read_rows, write_rows
from deepatlas_tf.types import DataError


def write_run(folder, seed, subjects, methods=("segmentation_baseline", "deepatlas")):
    """An evaluated run with random Dice; two classes, the second of which is missing in the first subject."""
    rng = np.random.default_rng(seed)
    rows = []
    for number, method in enumerate(methods):
        for subject in subjects:
            for name in ("femur", "tibia"):
                value = (
                    float("nan") if (name, subject) == ("tibia", subjects[0]) else rng.uniform(0, 0.9) + 0.1 * number
                )
                row = {"method": method, "subject": subject, "class": name, "dice": float(value)}
                rows.append({**row, "hd95_mm": 1.0, "assd_mm": 0.5})
    (folder / "evaluation").mkdir(parents=True)
    write_rows(folder / "evaluation" / "segmentation.csv", rows)
    write_rows(folder / "evaluation" / "registration.csv", [])
    summary = {method: {"segmentation": {"dice": {"mean": 0.5}}} for method in methods}
    (folder / "evaluation" / "summary.json").write_text(json.dumps(summary))
    return folder


def by_hand(folder, method):
    rows = [row for row in read_rows(folder / "evaluation" / "segmentation.csv") if row["method"] == method]
    subjects = sorted({row["subject"] for row in rows})
    return [np.nanmean([row["dice"] for row in rows if row["subject"] == subject]) for subject in subjects]


def test_the_same_cases_are_compared_in_pairs(tmp_path):
    run = write_run(tmp_path / "a", 0, [f"s{n}" for n in range(9)])
    (row,) = compare_methods(case_means([run], "segmentation"))
    first, second = by_hand(run, "segmentation_baseline"), by_hand(run, "deepatlas")
    assert (row["first"], row["second"], row["test"], row["n"]) == ("segmentation_baseline", "deepatlas", "Wilcoxon", 9)
    assert row["difference"] == pytest.approx(np.mean(first) - np.mean(second))
    assert row["p"] == row["q"] == pytest.approx(stats.wilcoxon(first, second).pvalue)


def test_other_cases_are_compared_as_groups_and_p_is_adjusted(tmp_path):
    runs = [write_run(tmp_path / name, seed, [f"{name}{n}" for n in range(8)]) for seed, name in enumerate("ab")]
    rows = compare_methods(case_means(runs, "segmentation"))
    assert len(rows) == 6 and {row["test"] for row in rows} == {"Wilcoxon", "Mann-Whitney"}
    across = next(row for row in rows if (row["first"], row["second"]) == ("a: deepatlas", "b: deepatlas"))
    groups = [by_hand(run, "deepatlas") for run in runs]
    assert across["p"] == pytest.approx(stats.mannwhitneyu(*groups).pvalue)
    adjusted = stats.false_discovery_control([row["p"] for row in rows])
    np.testing.assert_allclose([row["q"] for row in rows], adjusted)
    assert set(summaries(runs)) == {
        f"{run}: {method}" for run in "ab" for method in ("segmentation_baseline", "deepatlas")
    }


def test_the_command_prints_and_writes(tmp_path, capsys):
    run, table = write_run(tmp_path / "a", 0, [f"s{n}" for n in range(6)]), tmp_path / "tests.csv"
    assert main(["compare", str(run), "--test", "-o", str(table)]) == 0
    printed = capsys.readouterr().out
    assert "segmentation Dice" in printed and "Wilcoxon, n = 6" in printed
    assert table.read_text().startswith("task,measure,first,second,test,n,difference,p,q\n")
    assert main(["compare", str(run), "-o", str(table)]) == 1
    assert "--overwrite" in capsys.readouterr().err


def test_the_largest_distance_is_compared_where_it_was_measured(tmp_path, capsys):
    run = write_run(tmp_path / "a", 0, [f"s{n}" for n in range(6)])
    command = ["compare", str(run), "--test", "--measure", "hausdorff_mm"]
    assert main(command) == 1
    assert "has no hausdorff_mm; measure it again: deepatlas evaluate" in capsys.readouterr().err
    path = run / "evaluation" / "segmentation.csv"
    write_rows(path, [{**row, "hausdorff_mm": 10 * (row["method"] == "deepatlas")} for row in read_rows(path)])
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "segmentation, hausdorff_mm:" in printed and "segmentation_baseline - deepatlas: -10.0000" in printed


def test_runs_that_cannot_be_compared(tmp_path):
    run = write_run(tmp_path / "a" / "run", 0, ["s0", "s1"])
    with pytest.raises(DataError, match="deepatlas evaluate"):
        summaries([tmp_path])
    with pytest.raises(DataError, match="two of the runs are called run"):
        summaries([run, write_run(tmp_path / "b" / "run", 1, ["s0", "s1"])])


def test_every_method_is_listed_with_its_paper(capsys):
    assert main(["methods"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("deepatlas ") and "Xu & Niethammer, MICCAI 2019" in line for line in lines)
    assert {line.split()[0] for line in lines} == {*method_names(), *recipe_names()}
    assert all(any(year in line for year in ("20", "arXiv")) for line in lines)
