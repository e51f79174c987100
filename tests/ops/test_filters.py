"""Differences and box filters along spatial axes, against the plain definition, NumPy and SciPy."""

import numpy as np
import pytest
from scipy.ndimage import uniform_filter

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.ops.filters import box_sum, cut, difference, plain_box_sum

SHAPES = [(9, 7), (5, 6, 4)]


def image(shape, channels=2):
    return np.random.default_rng(0).normal(size=(2, *shape, channels)).astype(np.float32)


def value_and_gradient(function, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = function(x)
        total = tf.reduce_sum(value * tf.cast(tf.reshape(tf.range(tf.size(value)) % 7, tf.shape(value)), value.dtype))
    return value, tape.gradient(total, x)


@pytest.mark.parametrize("in_graph", [False, True])
@pytest.mark.parametrize("window", [1, 3, 9])
@pytest.mark.parametrize("shape", SHAPES)
def test_box_sum_and_its_gradient_are_those_of_the_definition(shape, window, in_graph):
    run = tf.function(value_and_gradient) if in_graph else value_and_gradient
    x = tf.constant(image(shape))
    found = run(lambda x: box_sum(x, window), x)
    for ours, plain in zip(found, value_and_gradient(lambda x: plain_box_sum(x, window), x), strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_definition_is_scipys_mean_times_the_number_of_voxels(shape):
    x = image(shape)
    expected = uniform_filter(x.astype(np.float64), (1, *[5] * len(shape), 1), mode="constant") * 5 ** len(shape)
    np.testing.assert_allclose(plain_box_sum(tf.constant(x), 5), expected, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_differences_and_cuts_are_along_the_axis(shape):
    x = image(shape)
    for axis in range(len(shape)):
        np.testing.assert_array_equal(difference(tf.constant(x), axis), np.diff(x, axis=axis + 1))
        np.testing.assert_array_equal(cut(tf.constant(x), axis, 1, -1), np.take(x, range(1, shape[axis] - 1), axis + 1))
