"""Squared differences of a field and their gradient, against the plain definition and NumPy, in 2D and 3D."""

import numpy as np
import pytest

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.losses.smoothness import (
    bending_energy,
    gradient_penalty,
    plain_bending_energy,
    plain_gradient_penalty,
)
from deepatlas_tf.ops.differences import plain_squared_differences, squared_differences

SHAPES = [(9, 7), (5, 6, 4)]
WEIGHTS = [{(0,): 1.0}, {(1, 1): 0.5}, {(0, 1): 2.0}, {(0,): 1.0, (1,): 3.0, (0, 0): 0.2, (1, 0): 0.7}]


def field(shape, dtype=np.float32):
    return np.random.default_rng(0).normal(size=(2, *shape, len(shape))).astype(dtype)


def value_and_gradient(function, u):
    with tf.GradientTape() as tape:
        tape.watch(u)
        value = function(u)
        weighted = value * [1.0, -2.0]
    return value, tape.gradient(weighted, u)


def assert_same(function, plain, u, in_graph):
    run = tf.function(value_and_gradient) if in_graph else value_and_gradient
    for found, expected in zip(run(function, u), value_and_gradient(plain, u), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("in_graph", [False, True])
@pytest.mark.parametrize("weights", WEIGHTS, ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_value_and_gradient_are_those_of_the_definition(shape, weights, in_graph):
    u = tf.constant(field(shape))
    assert_same(lambda x: squared_differences(x, weights), lambda x: plain_squared_differences(x, weights), u, in_graph)


@pytest.mark.parametrize("axes", [(0,), (1, 1), (0, 1)])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_definition_equals_numpy(shape, axes):
    u = difference = field(shape)
    for axis in axes:
        difference = np.diff(difference, axis=axis + 1)
    expected = 3 * (difference**2).sum(-1).reshape(2, -1).mean(1)
    np.testing.assert_allclose(plain_squared_differences(tf.constant(u), {axes: 3.0}), expected, rtol=1e-5)


@pytest.mark.parametrize("loss", [bending_energy, gradient_penalty], ids=["bending_energy", "gradient_penalty"])
@pytest.mark.parametrize("shape", SHAPES)
def test_penalties_are_those_of_their_definitions(shape, loss):
    plain = {bending_energy: plain_bending_energy, gradient_penalty: plain_gradient_penalty}[loss]
    assert_same(loss, plain, tf.constant(field(shape)), in_graph=True)
