"""benchmarks/startup.py: the parts of a start."""

import importlib
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture
def startup(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("startup")


def test_median_of_the_repeats_without_the_first_run(startup, monkeypatch):
    seconds = iter([9.0, 1.0, 2.0, 4.0])

    def run(data):
        return dict.fromkeys(startup.PARTS, next(seconds))

    monkeypatch.setattr(startup, "in_a_new_process", run)
    result = startup.measured(3)
    assert result["parts_s"] == dict.fromkeys(startup.PARTS, 2.0)
    assert result["total_s"] == 2.0 * len(startup.PARTS) and result["preparation_s"] == 7.0
    assert "| **all** | **14.0** |" in startup.table(result)


@pytest.mark.long
def test_tiny_run_passes_every_part(startup, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["startup.py", "--tiny"])
    monkeypatch.setattr(startup, "RESULTS", None)  # nothing is to be written
    startup.main()
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    seconds = {row[0]: float(row[1].strip("*")) for row in rows[2:]}
    assert [part for part in startup.PARTS if part not in seconds] == []
    assert seconds["imports"] > 0 and seconds["tracing, XLA and the first step"] > 0
