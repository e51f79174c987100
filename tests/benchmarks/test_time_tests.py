"""benchmarks/time_tests.py: what it reads from pytest's report, and that its targets are those of the Makefile."""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = """
import time
import pytest

@pytest.fixture
def broken():
    raise OSError

def test_a(): time.sleep(0.2)
def test_b(): assert False
def test_c(broken): pass
def test_d(): pytest.skip("not today")
"""


@pytest.fixture
def time_tests(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("time_tests")


@pytest.mark.slow
def test_what_a_report_says(time_tests, tmp_path):
    (tmp_path / "test_x.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "--junitxml=report.xml", "test_x.py"]
    subprocess.run(command, cwd=tmp_path, capture_output=True)
    found = time_tests.read_report(tmp_path / "report.xml")
    assert (found["passed"], found["failed"], found["skipped"]) == (1, 2, 1)
    assert found["seconds_by_file"] == {"test_x": pytest.approx(0.2, abs=0.1)} and found["seconds"] >= 0.2


def test_each_test_is_in_a_target_of_the_makefile(time_tests):
    """``test`` and ``test-long`` share all tests among them; ``test-fast`` is a part of ``test``."""
    makefile = (ROOT / "Makefile").read_text()
    marked = dict(re.findall(r'^(test[\w-]*):.*\n.*pytest -m "?([\w ]+?)"? \$\(PYTEST_ARGS\)', makefile, re.MULTILINE))
    assert marked == {"test": "not long", "test-fast": "not slow and not long", "test-long": "long"}
    assert set(marked) == set(time_tests.TARGETS)


def test_the_table_holds_what_was_measured(time_tests):
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    rows = re.findall(r"^\| `make ([\w-]+)` \| ([\d.]+) \| (\d+) \| (\d+) \|", text, re.MULTILINE)
    assert [row[0] for row in rows] == list(time_tests.TARGETS)
    for target, minutes, passed, skipped in rows:
        found = json.loads((time_tests.RESULTS / f"{target}.json").read_text())
        assert (minutes, int(passed)) == (f"{found['seconds'] / 60:.1f}", found["passed"]), target
        assert int(skipped) == found["skipped"] and found["failed"] == 0 and found["target"] == target
