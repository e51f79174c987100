"""Regularisers of a field against closed forms, NumPy and voxelmorph, in 2D and 3D, eagerly and in a graph."""

import numpy as np
import pytest

from deepatlas_tf.keras_stack import tf, vxm
from deepatlas_tf.losses.smoothness import bending_energy, gradient_penalty

SHAPES = [(11, 12), (6, 7, 8)]


def field(shape, dtype=np.float32):
    return np.random.default_rng(2).normal(size=(2, *shape, len(shape))).astype(dtype)


@pytest.mark.parametrize("shape", SHAPES)
def test_bending_energy_of_a_quadratic_field(shape):
    x, y = np.meshgrid(*map(np.arange, shape), indexing="ij")[:2]
    u = np.zeros((1, *shape, len(shape)), np.float32)
    u[..., 0] = 0.5 * 0.1 * x**2 + 0.2 * x * y  # u_xx = 0.1, u_xy = u_yx = 0.2
    u[..., 1] = 0.5 * 0.3 * y**2 + 4 * x - 2
    expected = 0.1**2 + 2 * 0.2**2 + 0.3**2
    np.testing.assert_allclose(bending_energy(u), [expected], rtol=1e-3)
    np.testing.assert_allclose(tf.function(bending_energy)(u), [expected], rtol=1e-3)


@pytest.mark.parametrize("shape", SHAPES)
def test_bending_energy_equals_numpy_differences(shape):
    u = field(shape)
    axes = range(1, len(shape) + 1)
    pairs = [(i, j) for i in axes for j in axes]
    expected = sum((np.diff(np.diff(u, axis=i), axis=j) ** 2).reshape(2, -1).mean(1) for i, j in pairs) * len(shape)
    np.testing.assert_allclose(bending_energy(u), expected, rtol=1e-4)


@pytest.mark.parametrize("penalty", ["l1", "l2"])
@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_equals_voxelmorphs(shape, penalty):
    u = field(shape)
    reference = vxm.losses.Grad(penalty, loss_mult=2).loss(None, tf.constant(u))
    np.testing.assert_allclose(gradient_penalty(u, penalty, loss_mult=2.0), reference, rtol=1e-5)
    np.testing.assert_allclose(2 * tf.function(lambda v: gradient_penalty(v, penalty))(u), reference, rtol=1e-5)


@pytest.mark.parametrize("in_graph", [False, True])
@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4), (1, 5, 4)], ids=str)
def test_an_axis_that_is_too_short_for_a_difference_costs_nothing(shape, in_graph):
    u = field(shape)
    pairs = [(i, j) for i in range(1, len(shape) + 1) for j in range(1, len(shape) + 1)]
    seconds = [np.diff(np.diff(u, axis=i), axis=j) for i, j in pairs]
    expected = sum((d**2).reshape(2, -1).mean(1) for d in seconds if d.size) * len(shape)

    def value_and_gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = bending_energy(x)
        return value, tape.gradient(value, x)

    value, gradient_of_u = (tf.function(value_and_gradient) if in_graph else value_and_gradient)(tf.constant(u))
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    # the energy is quadratic, so it is half of the gradient times the field
    np.testing.assert_allclose(np.sum(gradient_of_u * u, axis=tuple(range(1, u.ndim))) / 2, expected, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_with_a_size_that_is_not_known(shape):
    u = tf.constant(field(shape))

    @tf.function(input_signature=[tf.TensorSpec((None, *[None] * len(shape), len(shape)))])
    def both(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = bending_energy(x) + gradient_penalty(x)
        return value, tape.gradient(value, x)

    with tf.GradientTape() as tape:
        tape.watch(u)
        expected = bending_energy(u) + gradient_penalty(u)
    for found, other in zip(both(u), (expected, tape.gradient(expected, u)), strict=True):
        np.testing.assert_allclose(found, other, rtol=1e-4, atol=1e-6)


def test_gradient_of_a_linear_field():
    x, y = np.meshgrid(np.arange(11.0), np.arange(12.0), indexing="ij")
    u = np.stack([0.3 * x - 0.1 * y + 5, 0 * x], -1)[None].astype(np.float32)
    np.testing.assert_allclose(gradient_penalty(u, "l2"), [(0.3**2 / 2 + 0.1**2 / 2) / 2], rtol=1e-4)
    np.testing.assert_allclose(gradient_penalty(u, "l1"), [(0.3 / 2 + 0.1 / 2) / 2], rtol=1e-4)
    np.testing.assert_allclose(bending_energy(u), [0], atol=1e-10)
    with pytest.raises(ValueError, match="'l1' or 'l2', not 'l3'"):
        gradient_penalty(u, "l3")


@pytest.mark.parametrize("loss", [bending_energy, gradient_penalty, lambda u: gradient_penalty(u, "l1")])
@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_equals_finite_differences(loss, shape):
    u = field(shape, np.float64)
    assert loss(u.astype(np.float32)).dtype == tf.float32 and loss(u).shape == (2,)
    direction = np.random.default_rng(1).normal(size=u.shape)
    with tf.GradientTape() as tape:
        x = tf.constant(u)
        tape.watch(x)
        value = loss(x)
    slope = (loss(u + 1e-6 * direction) - loss(u - 1e-6 * direction)) / 2e-6
    found = (tape.gradient(value, x).numpy() * direction).reshape(2, -1).sum(1)
    np.testing.assert_allclose(found, slope, rtol=1e-4)
