"""benchmarks/efficiency.py: operations counted by hand, and a line through known points."""

import importlib
import multiprocessing.dummy
import sys
from pathlib import Path

import pytest

from deepatlas_tf.keras_stack import tf

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture
def efficiency(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("efficiency")


def counted(efficiency, function, *shapes):
    """The operations of a function of tensors of these shapes, whose values are 0."""
    step = tf.function(function).get_concrete_function(*[tf.TensorSpec(shape) for shape in shapes])
    return efficiency.convolution_operations(step, [tf.zeros(shape) for shape in shapes])


def test_a_convolution_and_both_gradients(efficiency):
    def step(x, kernel):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            y = tf.nn.conv3d(x, kernel, (1, 1, 1, 1, 1), "SAME")
        return tape.gradient(y, [x, kernel])

    # 2 images of 4 x 5 x 6 voxels, 27 weights for each of 3 x 7 channels
    once = 2 * 2 * 4 * 5 * 6 * 27 * 3 * 7
    # nobody asks for the values themselves
    assert counted(efficiency, step, (2, 4, 5, 6, 3), (3, 3, 3, 3, 7)) == {"forward": 0, "gradients": 2 * once}


def test_a_convolution_with_stride_counts_its_output(efficiency):
    found = counted(efficiency, lambda x, k: tf.nn.conv2d(x, k, 2, "SAME"), (1, 8, 8, 3), (3, 3, 3, 5))
    assert found == {"forward": 2 * 16 * 9 * 3 * 5, "gradients": 0}


def test_a_transposed_convolution_counts_its_input(efficiency):
    def double(x, kernel):
        return tf.nn.conv3d_transpose(x, kernel, (1, 8, 8, 8, 5), (1, 2, 2, 2, 1), "SAME")

    found = counted(efficiency, double, (1, 4, 4, 4, 3), (4, 4, 4, 5, 3))
    assert found == {"forward": 2 * 4**3 * 4**3 * 3 * 5, "gradients": 0}


def test_what_is_not_executed_is_not_counted(efficiency):
    def wasteful(x, kernel):
        tf.nn.conv2d(x, kernel, 1, "SAME")
        return x

    assert counted(efficiency, wasteful, (1, 8, 8, 3), (3, 3, 3, 5)) == {"forward": 0, "gradients": 0}


def test_a_convolution_in_a_function_is_refused(efficiency):
    inner = tf.function(lambda x, k: tf.nn.conv2d(x, k, 1, "SAME"))
    with pytest.raises(ValueError, match="not counted"):
        counted(efficiency, lambda x, k: inner(x, k), (1, 8, 8, 3), (3, 3, 3, 5))


@pytest.mark.parametrize(("limit", "number"), [(1.0, 2 * 64 * 9 * 3 * 5), (-1.0, 0)])
def test_the_branch_that_is_taken_is_counted(efficiency, limit, number):
    def sometimes(x, kernel):
        below = tf.reduce_all(x < limit)  # x is 0
        return tf.cond(below, lambda: tf.nn.conv2d(x, kernel, 1, "SAME"), lambda: tf.zeros((1, 8, 8, 5)))

    assert counted(efficiency, sometimes, (1, 8, 8, 3), (3, 3, 3, 5)) == {"forward": number, "gradients": 0}


def test_line_through_points_on_and_off_it(efficiency):
    exact = efficiency.line([1, 2, 4], [0.5, 0.7, 1.1])
    assert exact == {"a_s": 0.3, "b_s": 0.2, "r2": 1.0, "deviation": 0.0}
    # 0.9, 2.1, 0.9 have the flat line 1.3: deviations 4/13, 8/13, 4/13
    off = efficiency.line([1, 2, 3], [0.9, 2.1, 0.9])
    assert off["a_s"] == pytest.approx(1.3) and off["b_s"] == pytest.approx(0)
    assert off["deviation"] == pytest.approx(8 / 13, abs=1e-5) and off["r2"] == pytest.approx(0, abs=1e-5)


def test_scaling_over_sizes_classes_and_channels(efficiency, monkeypatch):
    class Linear:
        """0.1 s, 1 s a million voxels, 0.01 s a class and 0.02 s a channel."""

        def __init__(self, size, n_classes, turn, channels):
            self.size, self.n_classes, self.channels = size, n_classes, channels
            self.seconds = [0.1 + size**3 / 1e6 + 0.01 * n_classes + 0.02 * channels]

        def run(self):
            self.seconds.append(self.seconds[0])

    def scaling(what, sizes=(100,), classes=(4,), channels=(1,)):
        return efficiency.scaling(what, {"sizes": sizes, "classes": classes, "channels": channels}, rounds=2)

    monkeypatch.setattr(efficiency, "Case", Linear)
    over_voxels = scaling("voxels", sizes=(50, 100, 200))
    assert [(row["turn"], row["n"]) for row in over_voxels] == [
        ("registration", [0.125, 1, 8]),
        ("segmentation", [0.125, 1, 8]),
    ]
    assert (over_voxels[0]["a_s"], over_voxels[0]["b_s"]) == (0.16, 1.0)
    over_classes = scaling("classes", classes=(2, 30, 100))
    assert (over_classes[0]["a_s"], over_classes[0]["b_s"]) == (1.12, 0.01)
    text = efficiency.scaling_table("classes", over_classes)
    assert "registration: 1120.0 ms + 10.0 ms a class, R^2 1.0000; largest deviation 0 %" in text
    assert "grows linearly within 10 %" in text and "30 classes" in text
    over_channels = scaling("channels", channels=(1, 2, 8))
    assert (over_channels[0]["a_s"], over_channels[0]["b_s"]) == (1.14, 0.02)
    text = efficiency.scaling_table("channels", over_channels)
    assert "| turn | 1 channel | 2 channels | 8 channels | each channel more | R^2 |" in text
    assert "registration: 1140.0 ms + 20.0 ms a channel" in text


def test_share_in_the_table(efficiency):
    row = {"turn": "registration", "classes": 4, "convolutions": {"forward": 4e9, "gradients": 6e9}}
    row |= {"step_s": 0.1, "peak_per_s": 2e11}
    lines = efficiency.share_table([{**row, "share": 0.5}, {**row, "share": 0.25}]).splitlines()
    assert lines[2] == "| registration | 4 | 10.0 | 0.100 s | 100 | 200 GFLOP/s | 50 % |"
    assert lines[3].endswith("| 25 % |")


@pytest.mark.long
def test_tiny_run(efficiency, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["efficiency.py", "share", "--tiny", "--rounds", "1"])
    monkeypatch.setattr(efficiency, "write_json", None)  # nothing is to be written
    # in this process: each of its own imports TensorFlow
    monkeypatch.setattr(efficiency.multiprocessing, "get_context", lambda method: multiprocessing.dummy)
    efficiency.main()
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[0] for row in rows] == ["| registration", "| segmentation"]
    assert all(row[1] == "3" and row[3].endswith(" s") and row[6].endswith(" % |") for row in rows)


def test_median_of_the_last_runs(efficiency):
    case = efficiency.Case.__new__(efficiency.Case)
    case.seconds, case.pair, case.step = [9.0, 9.0], None, lambda pair: None
    assert case.run(3) < 1 and len(case.seconds) == 5


@pytest.mark.long
def test_tiny_run_over_channels(efficiency, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["efficiency.py", "channels", "--tiny", "--rounds", "1"])
    monkeypatch.setattr(efficiency, "write_json", None)  # nothing is to be written
    efficiency.main()
    head, _, *rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert head[:3] == ["| turn", "1 channel", "2 channels"]
    assert [row[0] for row in rows] == ["| registration", "| segmentation"]
    assert all(float(row[column].removesuffix(" s")) > 0 for row in rows for column in (1, 2))
