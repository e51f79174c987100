"""benchmarks/serving.py: medians by hand, and both engines on a small network."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from deepatlas_tf.export.graph import Served
from deepatlas_tf.keras_stack import tf
from deepatlas_tf.models.build import build_net
from deepatlas_tf.models.networks import Networks
from deepatlas_tf.models.segmentation.light import Light

ROOT = Path(__file__).parents[2]


@pytest.fixture
def serving(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    module = importlib.import_module("serving")
    monkeypatch.setattr(module, "RESULTS", tmp_path / "serving")
    return module


def test_medians_ratio_and_difference(serving, monkeypatch):
    seconds = {"TensorFlow": iter([[0.1, 0.2, 0.3], [0.2, 0.2, 9.0]]), "OpenVINO": iter([[0.1] * 3, [0.1] * 3])}
    shift = {"TensorFlow": 0.0, "OpenVINO": 0.25}

    def pretend(engine, folder, size, repeats, output):
        np.savez(output, labels=np.ones(3, np.int32), probabilities=np.array([0.5, 0.5 + shift[engine]], np.float32))
        return {"first": 2.0, "seconds": next(seconds[engine])}

    monkeypatch.setattr(serving, "in_a_process", pretend)
    assert serving.measured(Path("folder"), (4, 5, 6), 3, 2) == {
        "size": [4, 5, 6],
        "TensorFlow": {"milliseconds": 200.0, "seconds_to_first": 2.0},
        "OpenVINO": {"milliseconds": 100.0, "seconds_to_first": 2.0},
        "ratio": 0.5,
        "largest_difference": {"probabilities": 0.25},
    }


@pytest.mark.long
def test_both_engines_on_a_small_network(serving, tmp_path, monkeypatch, capsys):
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    net = build_net("segmentation", Networks(segmentation=Light().tiny()), (None, None), 3)
    served = Served(2, segmentation=net)
    tf.saved_model.save(served, str(tmp_path / "1"), signatures=served.functions)
    (tmp_path / "1" / "assets" / "metadata.json").write_text(json.dumps({"stages": {"segmentation": "baseline"}}))
    monkeypatch.setattr(
        sys, "argv", ["serving.py", str(tmp_path / "1"), "--sizes", "16,24", "--repeats", "1", "--rounds", "1"]
    )
    serving.main()
    assert "| 16 x 24 |" in capsys.readouterr().out
    (row,) = json.loads((serving.RESULTS / "hippocampus.json").read_text())["rows"]
    assert row["largest_difference"]["probabilities"] < 1e-4
