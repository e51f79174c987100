"""Disagreement of anatomies against formulas in NumPy and Keras, in 2D and 3D, eagerly and in a graph."""

import numpy as np
import pytest

from deepatlas_tf.keras_stack import keras, tf, vxm
from deepatlas_tf.losses.overlap import cross_entropy, dice_and_cross_entropy, plain_soft_dice, soft_dice

SHAPES = [(11, 12), (6, 7, 8)]


def probabilities(shape, n_classes=4):
    x = np.random.default_rng(1).random((2, 2, *shape, n_classes), dtype=np.float32)
    return x / x.sum(-1, keepdims=True)


@pytest.mark.parametrize("shape", SHAPES)
def test_soft_dice_by_hand(shape):
    p, q = probabilities(shape)
    flat_p, flat_q = (x.reshape(2, -1, 4)[..., 1:] for x in (p, q))
    expected = 1 - (2 * (flat_p * flat_q).sum(1) / (flat_p.sum(1) + flat_q.sum(1))).mean(-1)
    np.testing.assert_allclose(soft_dice(p, q), expected, atol=1e-5)
    np.testing.assert_allclose(soft_dice(p, q), soft_dice(q, p), atol=1e-6)
    np.testing.assert_allclose(plain_soft_dice(p, q), expected, atol=1e-5)
    np.testing.assert_allclose(tf.function(soft_dice)(p, q), expected, atol=1e-5)
    assert soft_dice(p, q).dtype == tf.float32


@pytest.mark.parametrize("shape", SHAPES)
def test_soft_dice_of_the_foreground_equals_voxelmorphs(shape):
    p, q = (tf.constant(x) for x in probabilities(shape))
    expected = 1 + vxm.losses.Dice().loss(q[..., 1:], p[..., 1:])
    np.testing.assert_allclose(tf.reduce_mean(soft_dice(p, q)), expected, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_soft_dice_of_label_maps(shape):
    label = np.random.default_rng(3).integers(0, 3, (2, *shape))
    one_hot = np.eye(4, dtype=np.float32)[label]  # class 3 is absent, which costs nothing
    np.testing.assert_allclose(soft_dice(one_hot, one_hot), 0, atol=1e-6)
    np.testing.assert_allclose(soft_dice(one_hot, np.eye(4, dtype=np.float32)[0 * label]), 2 / 3, atol=1e-3)


@pytest.mark.parametrize("shape", SHAPES)
def test_cross_entropy_equals_keras(shape):
    p, q = probabilities(shape)
    expected = tf.reduce_mean(tf.reshape(keras.losses.categorical_crossentropy(q, p), (2, -1)), axis=1)
    np.testing.assert_allclose(cross_entropy(p, q), expected, rtol=1e-4)
    assert np.all(np.isfinite(cross_entropy(np.eye(4, dtype=np.float32)[np.zeros((2, *shape), int)], q)))


@pytest.mark.parametrize("loss", [soft_dice, cross_entropy])
def test_a_class_of_weight_0_has_no_influence(loss):
    """Where class 2 is not labelled, a voxel marked 0 may be of class 2: exchanging the two changes nothing."""
    p, q = probabilities((11, 12), n_classes=3)
    weight = np.array([[0, 1, 0], [0, 1, 0]], np.float32)
    label = q.argmax(-1)
    marked, unmarked = (np.eye(3, dtype=np.float32)[x] for x in (label, np.where(label == 2, 0, label)))
    np.testing.assert_allclose(loss(p, marked, weight), loss(p, unmarked, weight), rtol=1e-6)
    np.testing.assert_allclose(loss(p, marked, np.ones_like(weight)), loss(p, marked), rtol=1e-5)
    np.testing.assert_allclose(loss(p, marked, np.zeros_like(weight)), 0, atol=1e-7)


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("shape", SHAPES)
def test_soft_dice_weighted_by_voxel_is_the_weighted_disagreement_over_the_volume(shape, channels):
    """Dice times the mean weight of the two structures, in other words, of which the gradient takes the former only."""
    p, q = probabilities(shape)
    v = np.random.default_rng(5).random((2, *shape, channels), dtype=np.float32)
    flat_p, flat_q, flat_v = (x.reshape(2, -1, x.shape[-1])[..., -3:] for x in (p, q, v))
    expected = (flat_v * (flat_p + flat_q - 2 * flat_p * flat_q)).sum(1) / (flat_p + flat_q).sum(1)
    np.testing.assert_allclose(soft_dice(p, q, None, v), expected.mean(-1), rtol=1e-4)
    np.testing.assert_allclose(soft_dice(p, q, None, np.ones_like(v)), soft_dice(p, q), rtol=1e-5)
    np.testing.assert_allclose(soft_dice(p, q, None, 0 * v), 0, atol=1e-6)
    mean = (flat_v * (flat_p + flat_q)).sum(1) / (flat_p + flat_q).sum(1)
    with tf.GradientTape() as tape:
        tape.watch(x := tf.constant(p))
        loss = soft_dice(x, q, None, v)
    change = np.random.default_rng(6).normal(size=p.shape).astype(np.float32)
    h = 1e-3  # a central difference of Dice alone, in float64
    sides = [_weighted_dice(*(a.astype(float) for a in (p + s * h * change, q, v))) for s in (1, -1)]
    slope = (mean * (sides[0] - sides[1]) / (2 * h)).mean(-1)
    np.testing.assert_allclose((tape.gradient(loss, x).numpy() * change).reshape(2, -1).sum(1), slope, rtol=1e-3)


def _weighted_dice(p, q, v):
    p, q, v = (x.reshape(2, -1, x.shape[-1])[..., -3:] for x in (p, q, v))
    return 1 - 2 * (v * p * q).sum(1) / (v * (p + q)).sum(1)


@pytest.mark.parametrize("shape", SHAPES)
def test_cross_entropy_weighted_by_voxel(shape):
    p, q = probabilities(shape)
    v = np.random.default_rng(5).random((2, *shape, 1), dtype=np.float32)
    expected = -(v[..., 0] * (q * np.log(p)).sum(-1)).reshape(2, -1).mean(1)
    np.testing.assert_allclose(cross_entropy(p, q, None, v), expected, rtol=1e-4)
    np.testing.assert_allclose(cross_entropy(p, q, np.ones((2, 4), np.float32), v), expected, rtol=1e-4)


@pytest.mark.parametrize("loss", [soft_dice, cross_entropy])
def test_a_label_map_is_its_one_hot_volume(loss):
    g = np.random.default_rng(0)
    p = tf.nn.softmax(tf.constant(g.normal(size=(2, 5, 4, 6, 3)), tf.float32))
    label = tf.constant(g.integers(0, 3, (2, 5, 4, 6)), tf.int32)
    weight = tf.constant(g.random((2, 3)), tf.float32)
    np.testing.assert_allclose(loss(p, label, weight), loss(p, tf.one_hot(label, 3), weight), rtol=1e-6)


@pytest.mark.parametrize("in_graph", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_are_those_of_the_definitions(shape, in_graph):
    p, q = map(tf.constant, probabilities(shape))
    g = np.random.default_rng(5)
    weights = [tf.constant(g.uniform(0.5, 1, size), tf.float32) for size in ((2, 4), (2, *shape, 1))]

    def gradients(losses):
        with tf.GradientTape() as tape:
            tape.watch([p, q, *weights])
            value = tf.reduce_sum(losses(p, q, *weights) * [[1.0, 3.0], [-2.0, 0.5]])
        return tape.gradient(value, [p, q, *weights])

    def expected(*arguments):
        return tf.stack([plain_soft_dice(*arguments), cross_entropy.__wrapped__(*arguments)])

    found = (tf.function(gradients) if in_graph else gradients)(dice_and_cross_entropy)
    for one, other in zip(found[:2], gradients(expected), strict=False):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-6)
    assert found[2] is None and found[3] is None  # the weights have none
