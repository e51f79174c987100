"""The Dice of a warped anatomy, against its plain definition, the Dice of the warped one-hot volume, and NumPy."""

import itertools

import numpy as np
import pytest

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.losses.warped_overlap import Anatomy, plain_warped_soft_dice, warped_soft_dice

N_CLASSES = 5
SHAPES = [(9, 7), (6, 7, 8)]


def sides(shape, seed):
    """A label map and probabilities of a batch of two."""
    g = np.random.default_rng(seed)
    label = tf.constant(g.integers(0, N_CLASSES, (2, *shape)), tf.int32)
    return label, tf.nn.softmax(tf.constant(g.normal(size=(2, *shape, N_CLASSES)), tf.float32))


def value_and_gradient(function, u):
    with tf.GradientTape() as tape:
        tape.watch(u)
        value = function(u)
    return value, tape.gradient(value, u)


@pytest.mark.slow
@pytest.mark.parametrize("in_graph", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_value_and_gradient_are_those_of_the_definition(shape, in_graph):
    """In one graph, which sides are labelled is known when it runs."""
    both = [sides(shape, seed) for seed in (0, 1)]
    u = tf.constant(2 * np.random.default_rng(2).normal(size=(2, *shape, len(shape))), tf.float32)
    weight = tf.constant(np.random.default_rng(3).random((2, N_CLASSES)), tf.float32)

    def ours(u, labelled):
        moving, fixed = (Anatomy(label, p, known) for (label, p), known in zip(both, tf.unstack(labelled), strict=True))
        return warped_soft_dice(moving, fixed, u, N_CLASSES, weight)

    def plain(u, labelled):
        moving, fixed = (Anatomy(label, p, known) for (label, p), known in zip(both, labelled, strict=True))
        return plain_warped_soft_dice(moving, fixed, u, N_CLASSES, weight)

    function = tf.function(ours) if in_graph else ours
    for labelled in itertools.product([True, False], repeat=2):
        found = value_and_gradient(lambda u, known=labelled: function(u, tf.constant(known)), u)
        expected = value_and_gradient(lambda u, known=labelled: plain(u, known), u)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7, err_msg=str(labelled))


@pytest.mark.parametrize("kind", ["uint8", "int32", "int64"])
def test_label_maps_alone_need_no_probabilities(kind):
    (moving, _), (fixed, _) = sides((6, 5), 0), sides((6, 5), 1)
    both = (Anatomy(tf.cast(label, kind)) for label in (moving, fixed))
    found = warped_soft_dice(*both, tf.zeros((2, 6, 5, 2)), N_CLASSES)
    p, q = (np.eye(N_CLASSES)[label.numpy()][..., 1:] for label in (moving, fixed))
    dice = 2 * (p * q).sum((1, 2)) / (p.sum((1, 2)) + q.sum((1, 2)))  # (B, C - 1)
    np.testing.assert_allclose(found, 1 - dice.mean(-1), atol=1e-5)
