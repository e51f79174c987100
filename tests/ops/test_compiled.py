"""Compiled functions: the value and the gradients of the plain function, and nothing but the inputs is kept."""

import math
import re

import numpy as np
import pytest

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.losses.smoothness import bending_energy
from deepatlas_tf.losses.warped_overlap import Anatomy, warped_soft_dice
from deepatlas_tf.ops.compiled import compiled
from deepatlas_tf.ops.warp import _interpolation_matrix, warp


def weighted(x, y, weight=None, power: int = 2):
    product = x**power * tf.sin(y)
    return tf.reduce_sum(product if weight is None else product * tf.cast(weight, x.dtype), axis=-1)


@pytest.fixture
def inputs():
    g = np.random.default_rng(0)
    return [tf.constant(g.normal(size=(3, 5)), tf.float32) for _ in range(2)]


def value_and_gradients(function, x, y, **settings):
    with tf.GradientTape() as tape:
        tape.watch([x, y])
        value = function(x, y, **settings)
    return value, *tape.gradient(value, [x, y])


@pytest.mark.parametrize("in_graph", [False, True])
@pytest.mark.parametrize("settings", [{}, {"power": 3}, {"weight": tf.constant([1, 0, 2, 0, 1])}])
def test_value_and_gradients_are_those_of_the_function(inputs, settings, in_graph):
    found = (tf.function(value_and_gradients) if in_graph else value_and_gradients)(
        compiled(weighted), *inputs, **settings
    )
    for one, other in zip(found, value_and_gradients(weighted, *inputs, **settings), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_only_the_named_arguments_have_a_gradient(inputs):
    _, of_x, of_y = value_and_gradients(compiled(weighted, towards=("y",)), *inputs)
    assert of_x is None
    np.testing.assert_allclose(of_y, value_and_gradients(weighted, *inputs)[2], rtol=1e-5, atol=1e-6)


def test_gradients_nobody_asks_for_are_not_in_the_graph(inputs):
    """A graph with one gradient calls two programs, the value and that gradient."""

    def gradient_of_first(x, y):
        with tf.GradientTape() as tape:
            tape.watch([x, y])
            value = compiled(weighted)(x, y)
        return tape.gradient(value, x)

    graph = tf.function(gradient_of_first).get_concrete_function(*inputs).graph
    kept = tf.compat.v1.graph_util.extract_sub_graph(graph.as_graph_def(), [graph.outputs[0].op.name])
    assert sum("Call" in node.op for node in kept.node) == 1, "the value itself is not needed either"


def test_its_name_and_arguments_are_those_of_the_function():
    function = compiled(weighted)
    assert function.__name__ == "weighted" and function.__wrapped__ is weighted
    with pytest.raises(TypeError, match="unexpected keyword"):
        function(tf.zeros(2), tf.zeros(2), powers=3)


SHAPE = (12, 16, 10)


def _dice(moving_labelled, fixed_labelled):
    def dice(u, label, probabilities):
        sides = Anatomy(label), Anatomy(label, probabilities, False)
        return warped_soft_dice(sides[not moving_labelled], sides[not fixed_labelled], u, 3)

    return dice


def _values_and_places(places, values):
    return values[:, None] * tf.cast(places, tf.float32)


FUNCTIONS_OF_FIELDS = {
    "warp": lambda u, label, probabilities: warp(probabilities, u),
    "nearest": lambda u, label, probabilities: warp(probabilities, u, "nearest"),
    "matrix of a warp": lambda u, label, probabilities: _values_and_places(*_interpolation_matrix.__wrapped__(u)),
    "bending_energy": lambda u, label, probabilities: bending_energy(u),
    "dice of labels": _dice(True, True),
    "dice of labels and probabilities": _dice(True, False),
    "dice of probabilities and labels": _dice(False, True),
    "dice of probabilities": _dice(False, False),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS_OF_FIELDS)
def test_programs_hold_no_constant_as_large_as_the_volume(name):
    """Such as a grid of voxels: each program would hold it as long as the process runs, several times over."""

    def value_and_gradient(u, label, probabilities):
        with tf.GradientTape() as tape:
            tape.watch(u)
            value = tf.reduce_sum(FUNCTIONS_OF_FIELDS[name](u, label, probabilities))
        return value, tape.gradient(value, u, unconnected_gradients="zero")

    u = tf.random.stateless_normal((1, *SHAPE, 3), (0, 2))
    label = tf.random.stateless_uniform((1, *SHAPE), (0, 0), 0, 3, tf.int32)
    probabilities = tf.random.stateless_uniform((1, *SHAPE, 3), (0, 1))
    program = tf.function(value_and_gradient, jit_compile=True, autograph=False)
    lines = program.experimental_get_compiler_ir(u, label, probabilities)("optimized_hlo")
    sizes = re.findall(r"= \w+\[([\d,]+)\]\S* constant\(", lines)
    assert not [size for size in sizes if math.prod(map(int, size.split(","))) >= math.prod(SHAPE)]
