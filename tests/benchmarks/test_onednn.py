"""benchmarks/onednn.py: both ways are measured, and the setting reaches TensorFlow."""

import importlib
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def onednn(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    module = importlib.import_module("onednn")
    monkeypatch.setattr(module, "RESULTS", tmp_path / "onednn")
    return module


def test_medians_over_the_rounds(onednn, monkeypatch, capsys):
    seconds = {"oneDNN": iter([[0.1, 0.2, 0.3], [0.2, 0.2, 9.0]]), "TensorFlow": iter([[2.0] * 3, [2.0] * 3])}
    monkeypatch.setattr(onednn, "in_a_process", lambda way, size, steps: {"registration": next(seconds[way])})
    monkeypatch.setattr(sys, "argv", ["onednn.py", "--rounds", "2"])
    onednn.main()
    assert "| registration | 200 ms | 2000 ms | 0.100 |" in capsys.readouterr().out
    written = json.loads((onednn.RESULTS / "turns.json").read_text())
    assert written["rows"] == [{"turn": "registration", "oneDNN": 200.0, "TensorFlow": 2000.0, "ratio": 0.1}]


def test_each_way_has_its_setting_in_a_process_of_its_own(onednn, monkeypatch):
    given = []

    class Done:
        stdout = "a warning\n" + json.dumps({"registration": [1.0]})

    def run(command, env, **others):
        given.append((env["TF_ENABLE_ONEDNN_OPTS"], "--here" in command))
        return Done

    monkeypatch.setattr(onednn.subprocess, "run", run)
    rows = onednn.measured(8, 1, 1)
    assert given == [("1", True), ("0", True)] and rows[0]["ratio"] == 1.0


@pytest.mark.long
def test_a_turn_is_measured(onednn, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["onednn.py", "--here", "--size", "8", "--steps", "1"])
    onednn.main()
    seconds = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(seconds) == ["registration", "segmentation"] and all(len(s) == 1 and s[0] > 0 for s in seconds.values())
