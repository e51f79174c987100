"""benchmarks/profile_turns.py: how a trace becomes a table, on traces whose times are known."""

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from deepatlas_tf.keras_stack import tf

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture
def profile_turns(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("profile_turns")


def test_an_operation_inside_another_is_taken_out_of_it(profile_turns):
    outer, inner, after = (0.0, 10.0, "outer", "Call"), (2.0, 5.0, "inner", "Conv3D"), (12.0, 13.0, "after", "Mul")
    assert profile_turns.innermost([after, outer, inner]) == [
        (0.0, 2.0, "outer", "Call"),
        (2.0, 5.0, "inner", "Conv3D"),
        (5.0, 10.0, "outer", "Call"),
        (12.0, 13.0, "after", "Mul"),
    ]


def test_operations_that_end_together(profile_turns):
    assert profile_turns.innermost([(0.0, 4.0, "a"), (1.0, 4.0, "b")]) == [(0.0, 1.0, "a"), (1.0, 4.0, "b")]


def test_wall_time_is_shared_and_adds_up_to_the_turn(profile_turns):
    # Two threads: a convolution over [0, 6], a normalisation over [2, 4]; the turn is [0, 8]
    conv, norm = ("segmentation/conv", "_MklNativeConv3D"), ("segmentation/norm", "_MklNativeFusedBatchNormV3")
    rows, longest = profile_turns.reduced([(0.0, 8.0)], [(0.0, 6.0, *conv), (2.0, 4.0, *norm)], {})
    assert rows == {
        "convolution, forward": {"wall_ms": 5000.0, "sum_ms": 6000.0},
        "normalisation, forward": {"wall_ms": 1000.0, "sum_ms": 2000.0},
        "idle": {"wall_ms": 2000.0, "sum_ms": 0.0},
    }
    assert longest[0] == {"operation": conv[0], "kernel": conv[1], "wall_ms": 5000.0}


def test_the_same_operation_twice_at_once_counts_twice(profile_turns):
    which = ("segmentation/conv", "Conv3D")
    rows, _ = profile_turns.reduced([(0.0, 2.0), (4.0, 6.0)], [(0.0, 2.0, *which), (0.0, 2.0, *which)], {})
    # a step is the mean of the two turns, the second of which was idle
    assert rows["convolution, forward"] == {"wall_ms": 1000.0, "sum_ms": 2000.0}
    assert rows["idle"]["wall_ms"] == 1000.0


@pytest.mark.parametrize(
    ("name", "kernel", "row"),
    [
        ("registration/flow/BiasAdd", "_MklNativeFusedConv3D", "convolution, forward"),
        ("registration/up/conv_transpose", "_MklNativeConv3DBackpropInputV2", "convolution, forward"),
        ("gradient_tape/registration/up/conv_transpose/Conv3D", "Conv3D", "convolution, gradient of its input"),
        ("gradient_tape/registration/x/Conv2DBackpropFilter", "Conv2DBackpropFilter", ""),
        ("gradient_3/conv_transpose", "_MklNativeConv3DBackpropInputV2", "convolution, gradient of its input"),
        ("gradient_3/Conv3DBackpropFilterV2", "_MklNativeConv3DBackpropFilterV2", ""),
        ("gradient_of_bias", "Sum", "convolution, gradient of its bias"),
        ("gradient_tape/registration/x/BiasAddGrad", "BiasAddGrad", "convolution, gradient of its bias"),
        ("gradient_tape/segmentation/n", "_MklNativeFusedBatchNormGradV3", "normalisation, gradient"),
        ("segmentation/pool1/MaxPool3D", "_MklNativeMaxPool3D", "concatenation, upsampling, pooling"),
        ("one_hot", "OneHot", "labels and anatomies"),
        ("mul_3", "Mul", "labels and anatomies"),
        ("Adam/truediv", "RealDiv", "optimizer"),
        ("PartitionedCall_1", "PartitionedCall", "loss: ncc, gradient"),
        ("PartitionedCall_1/inner", "Mul", "loss: ncc, gradient"),
        ("warp/PartitionedCall", "PartitionedCall", "warp"),
        ("cond_1/else/_32/cond_1/segmentation/conv/Conv3D", "_MklNativeConv3D", "convolution, forward"),
        ("cond_1/else/_32/cond_1/PartitionedCall", "PartitionedCall", "labels and anatomies"),
        ("cond_2/then/_3/cond_2/cond/else/_9/cond_2/cond/Bincount", "Bincount", "loss: warped_soft_dice"),
        ("segmentation/odd", "Where", "everything else"),
    ],
)
def test_row_of_an_operation(profile_turns, name, kernel, row):
    functions = {"PartitionedCall_1": "ncc, gradient", "warp/PartitionedCall": "warp_linear"}
    functions["cond_1/else/cond_1/PartitionedCall"] = "mix"
    assert profile_turns.row_of(name, kernel, functions) == (row or "convolution, gradient of its kernel")


@pytest.mark.parametrize(
    ("called", "name"),
    [
        ("__forward_soft_dice_31", "soft_dice"),
        ("__inference__warp_linear_8", "warp_linear"),
        ("__inference___backward_soft_dice_31_32", "soft_dice, gradient"),
        ("__inference_cross_entropy_gradient_41", "cross_entropy, gradient"),
    ],
)
def test_name_of_a_compiled_function(profile_turns, called, name):
    get_attr = {"f": SimpleNamespace(name=called)}.__getitem__
    call = SimpleNamespace(name="call", type="PartitionedCall", get_attr=get_attr)
    assert profile_turns.compiled_functions(SimpleNamespace(get_operations=lambda: [call])) == {"call": name}


def test_functions_in_branches_of_a_condition(profile_turns):
    @tf.function
    def double(x):
        return 2 * x

    @tf.function
    def choose(x):
        return tf.cond(tf.reduce_all(x > 0), lambda: double(x), lambda: x)

    functions = profile_turns.compiled_functions(choose.get_concrete_function(tf.TensorSpec((3,))).graph)
    assert functions == {"cond/then/cond/PartitionedCall": "double"}
    assert profile_turns.in_branches("cond/then/_4/cond/PartitionedCall") in functions


def test_functions_in_branches_of_a_choice(profile_turns):
    @tf.function
    def double(x):
        return 2 * x

    @tf.function
    def choose(which, x):
        return tf.switch_case(which, [lambda: x, lambda: double(x)])

    specs = tf.TensorSpec((), tf.int32), tf.TensorSpec((3,))
    functions = profile_turns.compiled_functions(choose.get_concrete_function(*specs).graph)
    name = "switch_case/indexed_case/branch1/_5/switch_case/indexed_case/PartitionedCall"
    assert functions == {profile_turns.in_branches(name): "double"}


@pytest.mark.long
@pytest.mark.skipif(not tf.__version__.startswith("2.15."), reason="later versions name XLA's programs otherwise")
def test_tiny_run_gives_the_whole_table(profile_turns, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["profile_turns.py", "--tiny"])
    monkeypatch.setattr(profile_turns, "write_json", None)  # nothing is to be written
    profile_turns.main()
    table = {line.split(" | ")[0].strip("| "): line for line in capsys.readouterr().out.splitlines()}
    for row in ("convolution, forward", "warp", "loss: dice_and_cross_entropy", "optimizer", "idle", "**step**"):
        assert row in table
    registration, segmentation = table["loss: ncc"].split(" | ")[1:]
    assert "%" in registration and segmentation.startswith("-")
