"""Compiled functions: the value and the gradients of the plain function, and nothing but the inputs is kept."""

import numpy as np
import pytest

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.ops.compiled import compiled


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
