import numpy as np
import pytest

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.losses.overlap import cross_entropy, soft_dice
from deepatlas_tf.ops.labels import known_part, mix, one_hot

SHAPES = [(5, 6), (4, 5, 3)]


def probabilities(shape, seed=0):
    p = np.random.default_rng(seed).random((2, *shape, 4)).astype(np.float32)
    return p / p.sum(-1, keepdims=True)


def labels(shape):
    return np.random.default_rng(1).integers(0, 4, (2, *shape)).astype(np.int32)


@pytest.mark.parametrize("function", [mix, tf.function(mix)])
@pytest.mark.parametrize("shape", SHAPES)
def test_one_weight_for_all_classes_mixes_label_and_prediction(shape, function):
    p, label = probabilities(shape), labels(shape)
    for w in (0.0, 0.3, 1.0):
        found = function(label, np.full((2, 4), w, np.float32), p)
        np.testing.assert_allclose(found, w * np.eye(4)[label] + (1 - w) * p, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_labelled_classes_are_certain_and_the_others_share_the_rest(shape):
    p, label = probabilities(shape), labels(shape)
    weight = np.tile(np.array([0, 1, 0, 1], np.float32), (2, 1))
    found = mix(label, weight, p).numpy()
    certain = np.isin(label, [1, 3])
    np.testing.assert_allclose(found[certain], np.eye(4)[label[certain]], atol=1e-6)
    rest = p[~certain] * [1, 0, 1, 0]
    np.testing.assert_allclose(found[~certain], rest / rest.sum(-1, keepdims=True), atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_losses_with_weights_of_classes_by_hand(shape):
    p, label = probabilities(shape), labels(shape)
    q = one_hot(label, 4)
    weight = np.array([[0, 1, 0, 1], [0, 0, 0, 0]], np.float32)
    dice = [
        1 - 2 * (p[0, ..., c] * q[0, ..., c]).numpy().sum() / (p[0, ..., c].sum() + q[0, ..., c].numpy().sum())
        for c in (1, 3)
    ]
    np.testing.assert_allclose(soft_dice(p, q, weight), [sum(dice) / 3, 0], atol=1e-4)
    # each voxel of class 1 or 3 is known; the others are of class 0 or 2, without a difference between these
    own = np.take_along_axis(p[0], label[0][..., None], -1)[..., 0]
    expected = -np.log(np.where(np.isin(label[0], [1, 3]), own, p[0][..., 0] + p[0][..., 2])).mean()
    np.testing.assert_allclose(cross_entropy(p, q, weight), [expected, 0], atol=1e-4)


@pytest.mark.parametrize("loss", [soft_dice, cross_entropy])
@pytest.mark.parametrize("shape", SHAPES)
def test_equal_weights_scale_the_loss(shape, loss):
    p, q = probabilities(shape), one_hot(labels(shape), 4)
    whole = loss(p, q).numpy()
    for w in (0.0, 0.4, 1.0):
        np.testing.assert_allclose(loss(p, q, np.full((2, 4), w, np.float32)), w * whole, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_ignored_voxels_are_completed_by_the_prediction(shape):
    p, label = probabilities(shape), labels(shape)
    known = (label != 2).astype(np.float32)[..., None]
    found = mix(np.where(label == 2, 4, label), np.ones((2, 4), np.float32), p, known)
    np.testing.assert_allclose(found, np.where(known > 0, np.eye(4)[label], p), atol=1e-6)


def test_what_is_left_of_an_interpolated_anatomy():
    shares = np.array([[[1, 0], [0.3, 0.3], [0.1, 0.3], [0, 0]]], np.float32)  # 1, 0.6, 0.4 and 0 of it are known
    anatomy, known = known_part(shares)
    np.testing.assert_array_equal(known[..., 0], [[1, 1, 0, 0]])
    np.testing.assert_allclose(anatomy[0, :2], [[1, 0], [0.5, 0.5]], rtol=1e-6)
