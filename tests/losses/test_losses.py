"""Losses against formulas in NumPy, voxelmorph and closed forms, in 2D and 3D, eagerly and in a graph."""

import numpy as np
import pytest

from deepatlas_tf.keras_stack import tf, vxm
from deepatlas_tf.losses.overlap import cross_entropy, soft_dice
from deepatlas_tf.losses.similarity import local_ncc, mse, ncc
from deepatlas_tf.losses.smoothness import bending_energy, gradient_l2

SHAPES = [(11, 12), (10, 11, 12)]


def _images(shape):
    rng = np.random.default_rng(0)
    return rng.random((2, 2, *shape, 1), dtype=np.float32)


def _probabilities(shape, n_classes=4):
    rng = np.random.default_rng(1)
    x = rng.random((2, 2, *shape, n_classes), dtype=np.float32)
    return x / x.sum(-1, keepdims=True)


def _field(shape):
    return np.random.default_rng(2).normal(size=(2, *shape, len(shape))).astype(np.float32)


@pytest.mark.parametrize("shape", SHAPES)
def test_ncc_is_one_minus_correlation(shape):
    a, b = _images(shape)
    expected = [1 - np.corrcoef(x.ravel(), y.ravel())[0, 1] for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(ncc(a, b), expected, atol=1e-5)
    np.testing.assert_allclose(ncc(a, 3 * a + 1), 0, atol=1e-5)
    np.testing.assert_allclose(tf.function(ncc)(a, -a), 2, atol=1e-5)


@pytest.mark.parametrize("loss", [ncc, local_ncc])
def test_constant_images_give_no_nan(loss):
    flat, image = tf.ones((1, 9, 9, 9, 1)), tf.random.stateless_uniform((1, 9, 9, 9, 1), (0, 1))
    with tf.GradientTape() as tape:
        tape.watch(image)
        values = [loss(flat, flat), loss(image, flat), loss(flat, image)]
    expected = [1, 1, 1] if loss is ncc else [0, 0.4, 0.4]  # locally constant is a match, but at the padded border
    np.testing.assert_allclose(tf.concat(values, 0), expected, atol=0.1)
    assert np.all(np.isfinite(tape.gradient(values, image)))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("window", [5, 9])
def test_local_ncc_equals_voxelmorphs(shape, window):
    a, b = _images(shape)
    reference = vxm.losses.NCC(win=window).loss(tf.constant(a), tf.constant(b))  # minus the mean
    expected = 1 + tf.reduce_mean(tf.reshape(reference, (2, -1)), axis=1)
    np.testing.assert_allclose(local_ncc(a, b, window), expected, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_mse(shape):
    a, b = _images(shape)
    np.testing.assert_allclose(mse(a, b), ((a - b) ** 2).reshape(2, -1).mean(1), rtol=1e-5)


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
    u = _field(shape)
    axes = range(1, len(shape) + 1)
    pairs = [(i, j) for i in axes for j in axes]
    expected = sum((np.diff(np.diff(u, axis=i), axis=j) ** 2).reshape(2, -1).mean(1) for i, j in pairs) * len(shape)
    np.testing.assert_allclose(bending_energy(u), expected, rtol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_equals_voxelmorphs(shape):
    u = _field(shape)
    np.testing.assert_allclose(gradient_l2(u), vxm.losses.Grad("l2").loss(None, tf.constant(u)), rtol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_soft_dice_by_hand(shape):
    p, q = _probabilities(shape)
    flat_p, flat_q = (x.reshape(2, -1, 4)[..., 1:] for x in (p, q))
    expected = 1 - (2 * (flat_p * flat_q).sum(1) / (flat_p.sum(1) + flat_q.sum(1))).mean(-1)
    np.testing.assert_allclose(soft_dice(p, q), expected, atol=1e-5)
    np.testing.assert_allclose(soft_dice(p, q), soft_dice(q, p), atol=1e-6)
    np.testing.assert_allclose(tf.function(soft_dice)(p, q), expected, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_soft_dice_of_label_maps(shape):
    label = np.random.default_rng(3).integers(0, 3, (2, *shape))
    one_hot = np.eye(4, dtype=np.float32)[label]  # class 3 is absent, which costs nothing
    np.testing.assert_allclose(soft_dice(one_hot, one_hot), 0, atol=1e-6)
    np.testing.assert_allclose(soft_dice(one_hot, np.eye(4, dtype=np.float32)[0 * label]), 2 / 3, atol=1e-3)


@pytest.mark.parametrize("shape", SHAPES)
def test_cross_entropy_equals_keras(shape):
    p, q = _probabilities(shape)
    expected = tf.reduce_mean(tf.reshape(tf.keras.losses.categorical_crossentropy(q, p), (2, -1)), axis=1)
    np.testing.assert_allclose(cross_entropy(p, q), expected, rtol=1e-4)
    assert np.all(np.isfinite(cross_entropy(np.eye(4, dtype=np.float32)[np.zeros((2, *shape), int)], q)))


@pytest.mark.parametrize("loss", [ncc, local_ncc, mse, soft_dice, cross_entropy])
def test_one_value_for_each_example(loss):
    p, q = _probabilities((8, 8), n_classes=2)
    p, q = (p, q) if loss in (soft_dice, cross_entropy) else (p[..., :1], q[..., :1])
    values = loss(p, q)
    assert values.shape == (2,) and values.dtype == tf.float32
    alone = tf.concat([loss(p[i : i + 1], q[i : i + 1]) for i in range(2)], axis=0)
    np.testing.assert_allclose(values, alone, rtol=1e-5)
