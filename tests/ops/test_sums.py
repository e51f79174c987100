"""Sums over voxels and over classes, against NumPy and the plain definitions, in the form of each device."""

import numpy as np
import pytest

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.ops.sums import (
    bin_sums,
    class_sums,
    plain_bin_sums,
    plain_class_sums,
    plain_voxel_sums,
    scatter_sums,
    voxel_sums,
)


@pytest.fixture(params=[[], ["a GPU"]])
def devices(request, monkeypatch):
    """What stands for the GPUs at hand."""
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: request.param)


@pytest.mark.parametrize("in_graph", [False, True])
def test_class_sums_equal_numpy(devices, in_graph):
    g = np.random.default_rng(0)
    values, classes = g.random((4, 2, 30)).astype(np.float32), g.integers(0, 7, (4, 2, 30))
    expected = [np.bincount(classes[:, b].ravel(), values[:, b].ravel(), minlength=7) for b in range(2)]
    function = tf.function(class_sums) if in_graph else class_sums
    values, classes = tf.constant(values), tf.constant(classes, tf.int32)
    np.testing.assert_allclose(function(values, classes, 7), expected, rtol=1e-6)
    np.testing.assert_allclose(plain_class_sums(values, classes, 7), expected, rtol=1e-5)


def test_bin_and_scatter_sums_are_those_of_the_definition(devices):
    g = np.random.default_rng(0)
    values, bins = tf.constant(g.normal(size=(4, 30)), tf.float32), tf.constant(g.integers(0, 90, (4, 30)), tf.int32)
    expected = plain_bin_sums(values, bins, 90)
    for function in (bin_sums, scatter_sums):
        np.testing.assert_allclose(function(values, bins, 90), expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 9, 7, 3), (2, 5, 6, 7, 3)])
def test_gradient_of_voxel_sums_is_that_of_the_definition(devices, shape):
    x = tf.constant(np.random.default_rng(0).random(shape), tf.float32)
    gradients = []
    for function in (voxel_sums, plain_voxel_sums):
        with tf.GradientTape() as tape:
            tape.watch(x)
            total = tf.reduce_sum(function(x) * [[1.0, 2.0, 3.0], [-1.0, 0.0, 1.0]])
        gradients.append(tape.gradient(total, x))
    np.testing.assert_allclose(*gradients, rtol=1e-6)


@pytest.mark.parametrize("in_graph", [False, True])
@pytest.mark.parametrize("shape", [(2, 9, 7, 3), (2, 5, 6, 7, 3)])
def test_voxel_sums_equal_numpy(devices, shape, in_graph):
    x = np.random.default_rng(0).random(shape).astype(np.float32)
    expected = x.sum(tuple(range(1, len(shape) - 1)))
    np.testing.assert_allclose(
        (tf.function(voxel_sums) if in_graph else voxel_sums)(tf.constant(x)), expected, rtol=1e-6
    )


@pytest.mark.parametrize("in_graph", [False, True])
def test_scatter_sums_equal_numpy_and_are_the_same_each_time(devices, in_graph):
    g = np.random.default_rng(0)
    values, places = g.normal(size=(8, 40_000)).astype(np.float32), g.integers(0, 39_000, (8, 40_000))
    expected = np.bincount(places.ravel(), values.ravel(), minlength=40_000)
    function = tf.function(scatter_sums) if in_graph else scatter_sums
    found = [function(tf.constant(values), tf.constant(places, tf.int32), 40_000) for _ in range(3)]
    np.testing.assert_allclose(found[0], expected, atol=1e-5)
    for again in found[1:]:
        np.testing.assert_array_equal(again, found[0])
