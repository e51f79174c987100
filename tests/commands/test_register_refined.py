"""``deepatlas register`` with a refinement for the pair: what reaches the optimisation."""

import os
import subprocess
import sys

import numpy as np
import pytest

from deepatlas_tf.cli import main
from deepatlas_tf.runs import predict


def run(*arguments):
    return main(list(map(str, arguments)))


@pytest.mark.slow
def test_instance_steps_reach_the_optimisation(run_folder, scans, tmp_path, monkeypatch, capsys):
    """What the steps do is tested with the optimisation."""
    seen, aligned = [], []

    def refiner(net, settings):
        seen.append(settings)

        def refine(moving, fixed, anatomies=None):
            aligned.append(None if anatomies is None else [anatomy.shape[:-1] for anatomy in anatomies])
            assert aligned[-1] in (None, [moving.shape[:-1], fixed.shape[:-1]])
            return np.zeros((*fixed.shape[:-1], 3), np.float32)

        return refine

    monkeypatch.setattr(predict, "refiner", refiner)
    call = ["register", scans["flipped"], scans["permuted"], "--model", run_folder, "-o", tmp_path / "out", "-q"]
    assert run(*call, "--instance-steps", 3) == 0
    assert [(s.steps, s.similarity, s.weights["smoothness"]) for s in seen] == [(3, "ncc", 1.0)]
    assert run(*call, "--overwrite", "--instance-steps", 3, "--anatomy") == 0
    assert seen[1].weights["anatomy"] > 0 and aligned[0] is None and aligned[1] is not None
    assert run(*call, "--overwrite", "--anatomy") == 2 and "add --instance-steps" in capsys.readouterr().err


@pytest.mark.slow
def test_the_log_of_xla_is_not_printed(run_folder, scans, tmp_path):
    """What C++ writes there is not seen by Python, so that it needs a process of its own."""
    command = [sys.executable, "-m", "deepatlas_tf", "register", scans["flipped"], scans["permuted"], "-q"]
    command += ["--model", run_folder, "-o", tmp_path / "out", "--instance-steps", "2"]
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "XLA" not in done.stderr
