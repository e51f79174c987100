"""benchmarks/subjects.py: what is measured of a command and of epochs, and the tiny forms of both parts."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow
WAITS = "import time; time.sleep(0.5)"
FILLS = "import time; x = bytearray(200 * 2**20); time.sleep(1)"
STARTS = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {FILLS!r}])"


@pytest.fixture
def subjects(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("subjects")


def test_a_command_is_watched_with_what_it_starts(subjects):
    waits, fills, starts = (subjects.watched([sys.executable, "-c", code]) for code in (WAITS, FILLS, STARTS))
    assert 0.5 <= waits["seconds"] and waits["cores"] < 0.9
    assert waits["own_mib"] < 100 and waits["workers_mib"] == 0
    assert 200 < fills["own_mib"] < 300 and fills["workers_mib"] == 0
    assert starts["own_mib"] < 100 and 200 < starts["workers_mib"] < 300


def test_a_command_that_fails(subjects):
    with pytest.raises(subprocess.CalledProcessError):
        subjects.watched([sys.executable, "-c", "raise SystemExit(3)"])


def test_both_turns_are_timed_together(subjects):
    """An epoch begins, and its steps end; the last one has no partner."""
    found = subjects.seconds_of([[0.0, 3.0, 5.0, 6.0, 7.0, 9.0], [10.0, 11.0, 12.0, 13.0, 16.0, 17.0]])
    assert found == {"median_s": 3.0, "mean_s": 3.25}  # 5, 2, 2 and 4 seconds


def test_lines_and_tables(subjects):
    rows = [
        {"way": way, "scans": n, "seconds": start + each * n, "cores": 1.5, "own_mib": 100.4, "workers_mib": workers}
        for way, start, each, workers in (("one process", 2, 0.01, 0), ("Beam", 9, 0.02, 300.2))
        for n in (100, 200, 400)
    ]
    text = subjects.preparation_table(rows).splitlines()
    assert text[2] == "| 100 | one process | 3.0 | 1.50 | 100 | - |"
    assert text[5] == "| 100 | Beam | 11.0 | 1.50 | 100 | 300 |"
    assert text[-2:] == [
        "- one process: 2.0 s and 10.0 ms a scan, R^2 1.0000.",
        "- Beam: 9.0 s and 20.0 ms a scan, R^2 1.0000.",
    ]
    row = {"memory_gib": 0.5, "subjects": 20, "train": 16, "held": 9, "median_s": 0.25, "mean_s": 0.5, "peak_mib": 999}
    assert subjects.training_table([row]).splitlines()[2] == "| 0.5 | 20 | 16 | 9 | 0.250 s | 0.500 s | 999 |"


def rows_of_tiny(subjects, monkeypatch, capsys, what):
    monkeypatch.setattr(sys, "argv", ["subjects.py", what, "--tiny"])
    monkeypatch.setattr(subjects, "write_json", None)  # nothing is to be written
    subjects.main()
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    return [line.strip("| ").split(" | ") for line in lines[2:]]


@pytest.mark.long
def test_tiny_preparation(subjects, monkeypatch, capsys):
    rows = rows_of_tiny(subjects, monkeypatch, capsys, "prepare")
    assert [row[0] for row in rows if row[1] == "one process"] == ["8", "12"]
    with_beam = [row for row in rows if row[1] == "Beam"]
    assert len(with_beam) in (0, 2) and all(float(row[5]) > float(row[4]) for row in with_beam)
    assert all(float(row[2]) > 0 and float(row[4]) > 100 for row in rows)


@pytest.mark.long
def test_tiny_training(subjects, monkeypatch, capsys):
    rows = rows_of_tiny(subjects, monkeypatch, capsys, "train")
    assert [row[1:4] for row in rows] == [["8", "4", "4"], ["12", "8", "8"]]
    assert all(0 < float(row[4].removesuffix(" s")) and float(row[6]) > 100 for row in rows)
