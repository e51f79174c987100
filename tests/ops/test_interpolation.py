"""Linear interpolation and its gradients where XLA compiles all of it, against the plain definition, in 2D and 3D."""

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.ops.interpolation import (
    cells,
    corners,
    grad_field,
    interpolate,
    own_rows,
    plain_interpolate,
    slopes,
    voxel_grid,
)

SHAPES = [(7, 9), (6, 7, 8)]


def inputs(shape, channels=3):
    """An image, and a field that leaves it in places."""
    g = np.random.default_rng(0)
    image = g.random((2, *shape, channels)).astype(np.float32)
    return tf.constant(image), tf.constant(g.normal(scale=2.0, size=(2, *shape, len(shape))), tf.float32)


def weight(x):
    return tf.constant(np.random.default_rng(1).normal(size=x.shape), x.dtype)


def value_and_gradients(function, image, u):
    with tf.GradientTape() as tape:
        tape.watch([image, u])
        value = function(image, u)
        total = tf.reduce_sum(value * weight(value))
    return value, *tape.gradient(total, [image, u])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_value_and_gradients_are_those_of_the_definition(shape, channels):
    both = inputs(shape, channels)
    # inside a function of its own: given as an argument, a custom gradient would be unwrapped
    compiled = tf.function(lambda *x: value_and_gradients(interpolate, *x), jit_compile=True, autograph=False)
    found = compiled(*both)
    for ours, plain in zip(found, value_and_gradients(plain_interpolate, *both), strict=True):
        np.testing.assert_allclose(ours, plain, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_definition_equals_scipy(shape):
    image, u = inputs(shape)
    grid = np.moveaxis(voxel_grid(u).numpy(), -1, 0)
    for b in range(2):
        location = grid + np.moveaxis(u[b].numpy(), -1, 0)
        for c in range(3):
            expected = map_coordinates(image[b, ..., c].numpy(), location, order=1, mode="nearest")
            np.testing.assert_allclose(plain_interpolate(image, u)[b, ..., c], expected, atol=2e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_corners_and_slopes_of_the_cells(shape):
    """The sum over the corners is the value; the slopes times the upstream gradient are the gradient of the field."""
    image, u = inputs(shape)
    rows, weights = corners(cells(u))
    assert rows.shape == weights.shape == (2 ** len(shape), 2, *shape)
    values = tf.gather(tf.reshape(image, (-1, 3)), rows)
    np.testing.assert_allclose(tf.reduce_sum(weights[..., None] * values, axis=0), interpolate(image, u), atol=1e-6)
    upstream = weight(image)
    expected = tf.stack([tf.reduce_sum(upstream * s, -1) for s in slopes(tf.unstack(values), cells(u))], axis=-1)
    np.testing.assert_allclose(grad_field(upstream, image, u), expected, atol=1e-5)


def test_own_rows_count_the_voxels():
    np.testing.assert_array_equal(own_rows(tf.zeros((2, 3, 4, 2))), np.arange(24).reshape(2, 3, 4))
