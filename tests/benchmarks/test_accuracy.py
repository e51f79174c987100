"""benchmarks/accuracy.py: the one table of several kept runs."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUNS = ["hippocampus_5_deepatlas", "hippocampus_5_deepatlas_aligned"]  # which share all stages but the last


@pytest.fixture
def accuracy(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import accuracy

    return accuracy


def test_stages_that_runs_share_are_in_the_table_once(accuracy):
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in accuracy.together(RUNS).splitlines()]
    assert len({len(line) for line in lines}) == 1
    assert [line[0] for line in lines if line[2] == "deepatlas"] == RUNS
    assert [line[0] for line in lines if line[2] == "segmentation_baseline"] == RUNS[:1]
    kept = ROOT / "benchmarks" / "results" / RUNS[1]
    last = next(line for line in lines if line[0] == RUNS[1] and line[2] == "deepatlas")
    assert float(last[1]) == json.loads((kept / "training.json").read_text())["minutes"]["deepatlas"]
    dice = json.loads((kept / "summary.json").read_text())["deepatlas"]["segmentation"]["dice"]["mean"]
    assert last[3] == f"{dice:.3f}"
