"""Inverse consistency against closed forms and SciPy, in 2D and 3D, eagerly and in a graph."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.losses.consistency import (
    gradient_inverse_consistency,
    inverse_consistency,
    inverse_consistency_error,
)
from deepatlas_tf.ops.velocity import integrate

SHAPES = [(11, 12), (6, 7, 8)]
LOSSES = [inverse_consistency, gradient_inverse_consistency]


def fields(shape, dtype=np.float32):
    return np.random.default_rng(0).normal(size=(2, 2, *shape, len(shape))).astype(dtype)


@pytest.mark.parametrize("shape", SHAPES)
def test_both_equal_numpy_and_scipy(shape):
    u_ab, u_ba = fields(shape)
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"))
    for b in range(2):
        location = grid + np.moveaxis(u_ba[b], -1, 0)
        composed = [map_coordinates(u_ab[b, ..., c], location, order=1, mode="nearest") for c in range(len(shape))]
        error = u_ba[b] + np.stack(composed, -1)
        np.testing.assert_allclose(inverse_consistency_error(u_ab, u_ba)[b], error, atol=1e-5)
        np.testing.assert_allclose(inverse_consistency(u_ab, u_ba)[b], (error**2).sum(-1).mean(), rtol=1e-4)
        frobenius = sum((np.diff(error, axis=axis) ** 2).sum(-1).mean() for axis in range(len(shape)))
        np.testing.assert_allclose(gradient_inverse_consistency(u_ab, u_ba)[b], frobenius, rtol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_translation_and_its_inverse_cost_nothing(shape):
    u = np.full((1, *shape, len(shape)), 0.7, np.float32)
    for loss in LOSSES:
        np.testing.assert_allclose(loss(u, -u), 0, atol=1e-10)
    np.testing.assert_allclose(inverse_consistency(u, 0 * u), 0.7**2 * len(shape), rtol=1e-5)
    # GradICON does not mind a constant disagreement, which is its point
    np.testing.assert_allclose(gradient_inverse_consistency(u, 0 * u), 0, atol=1e-10)


def test_a_scaling_against_the_identity_costs_its_gradient():
    x, y = np.meshgrid(np.arange(11.0), np.arange(12.0), indexing="ij")
    u = np.stack([0.2 * x, -0.1 * y], -1)[None].astype(np.float32)
    np.testing.assert_allclose(gradient_inverse_consistency(0 * u, u), [0.2**2 + 0.1**2], rtol=1e-4)


def test_the_inverse_of_a_diffeomorphism_costs_little():
    rng = np.random.default_rng(3)
    velocity = np.stack([gaussian_filter(rng.normal(size=(40, 44)), 5) for _ in range(2)], -1)[None]
    velocity = (2 * velocity / np.abs(velocity).max()).astype(np.float32)
    velocity *= np.pad(np.ones((28, 32)), 6)[None, ..., None]  # nothing leaves the image
    u, inverse = integrate(tf.constant(velocity)), integrate(tf.constant(-velocity))
    for loss in LOSSES:
        assert float(loss(u, inverse)[0]) < 0.05 * float(loss(u, 0 * inverse)[0])


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_equals_finite_differences(loss, shape):
    """With respect to both fields; small ones, so that no step crosses a voxel."""
    u_ab, u_ba = 0.3 * fields(shape, np.float64)
    towards_ab, towards_ba = np.random.default_rng(1).normal(size=(2, *u_ab.shape))
    with tf.GradientTape() as tape:
        x, y = tf.constant(u_ab), tf.constant(u_ba)
        tape.watch([x, y])
        value = loss(x, y)
    step = 1e-7
    after = loss(u_ab + step * towards_ab, u_ba + step * towards_ba)
    slope = (after - loss(u_ab - step * towards_ab, u_ba - step * towards_ba)) / (2 * step)
    gradients = zip(tape.gradient(value, [x, y]), (towards_ab, towards_ba), strict=True)
    found = sum((g.numpy() * towards).reshape(2, -1).sum(1) for g, towards in gradients)
    np.testing.assert_allclose(found, slope, rtol=1e-4)


@pytest.mark.parametrize("loss", LOSSES)
def test_one_value_for_each_example(loss):
    u_ab, u_ba = fields((11, 12))
    values = loss(u_ab, u_ba)
    assert values.shape == (2,) and values.dtype == tf.float32
    np.testing.assert_allclose(tf.function(lambda a, b: loss(a, b))(u_ab, u_ba), values, rtol=1e-5)
    np.testing.assert_allclose(loss(u_ab[1:], u_ba[1:]), values[1:], rtol=1e-5)
