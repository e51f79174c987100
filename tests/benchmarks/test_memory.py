"""benchmarks/memory.py: the count of graphs that can be counted by hand, and the tiny form of the command."""

import importlib
import sys
from pathlib import Path

import pytest

from deepatlas_tf.keras_stack import tf

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow
SPEC = tf.TensorSpec((1000,), tf.float32)
N = 4000  # bytes of one such tensor


@pytest.fixture
def memory(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("memory")


def peak(memory, function):
    return memory.peak_of_graph(tf.function(function).get_concrete_function(SPEC).graph) / N


def test_a_tensor_counts_from_its_making_to_its_last_reading(memory):
    assert peak(memory, lambda x: tf.exp(tf.sin(tf.cos(x)))) == 2  # one is read, one is made
    assert peak(memory, lambda x: (lambda a: tf.sin(tf.exp(a)) + a)(tf.cos(x))) == 3  # a, exp and sin
    assert peak(memory, lambda x: tf.identity(tf.reshape(tf.exp(x), (10, 100)))) == pytest.approx(1, abs=0.01)


def test_of_two_branches_the_larger_one_counts_with_what_it_keeps_for_the_gradient(memory):
    def branches(x):
        return tf.cond(x[0] > 0, lambda: tf.exp(tf.sin(tf.cos(x))), lambda: tf.exp(x))

    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = branches(x)
        return tape.gradient(y, x)

    assert peak(memory, branches) == pytest.approx(2, abs=0.01)
    # cos, sin and exp are kept until the gradient: their derivatives read x, cos(x) and exp(...) itself
    assert 3 <= peak(memory, gradient) <= 7


@pytest.mark.long
def test_tiny_run_prints_a_row_for_each_turn(memory, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["memory.py", "--tiny"])
    monkeypatch.setattr(memory, "write_json", None)  # nothing is to be written
    monkeypatch.setattr(memory, "measured_bytes", lambda *settings: 2**30)
    memory.main()
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert len(rows) == 2 and all(row[4] == "1 GiB" for row in rows)
    for turn, *_, counted, _, partial in rows:
        small, large = (float(text.removesuffix(" |").removesuffix(" GiB")) for text in (counted, partial))
        assert 0 < small < large < 0.1 if "segmentation" in turn else 0 < small == large < 0.1
