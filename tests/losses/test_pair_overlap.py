"""The segmentation turn's losses image by image, against their definition from both predictions together."""

import itertools

import numpy as np
import pytest

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.losses.pair_overlap import SIDES, is_partial, joint_overlap, side_overlap

N_CLASSES = 3
WEIGHTS = {"none": 0.0, "all": 1.0}
CASES = list(itertools.product(WEIGHTS, WEIGHTS))


def make_pair(shape, known, rng):
    sides = [
        {
            "label": rng.integers(0, N_CLASSES, (2, *shape)).astype(np.int32),
            "label_weight": np.full((2, N_CLASSES), WEIGHTS[how_much], np.float32),
        }
        for how_much in known
    ]
    return dict(zip(("moving", "fixed"), sides, strict=True))


def make_inputs(shape, rng):
    logits = rng.normal(0, 1, (2, 2, *shape, N_CLASSES)).astype(np.float32)
    u = rng.normal(0, 1, (2, *shape, len(shape))).astype(np.float32)
    voxel_weight = rng.random((2, *shape, 1), dtype=np.float32)
    return tf.constant(logits), tf.constant(u), tf.constant(voxel_weight)


def with_gradient(logits, function):
    """Values of a function of the two predictions, and a gradient towards what they are the softmax of."""
    with tf.GradientTape() as tape:
        tape.watch(logits)
        values = function([tf.nn.softmax(x) for x in tf.unstack(logits)])
        weighted = tf.reduce_sum(values * tf.reshape(tf.range(1.0, 1 + tf.size(values, tf.float32)), tf.shape(values)))
    return values, tape.gradient(weighted, logits, unconnected_gradients="zero")


# eagerly every case; in a graph, where the case is a branch, one of each side
@pytest.mark.slow
@pytest.mark.parametrize(
    ("known", "weighted", "compiled"),
    [
        *((known, weighted, False) for known in CASES for weighted in (False, True)),
        (("all", "none"), True, True),
        (("none", "all"), False, True),
    ],
)
@pytest.mark.parametrize("shape", [(9, 10), (6, 7, 8)])
def test_the_parts_of_both_images_are_the_joint_terms(shape, known, weighted, compiled):
    rng = np.random.default_rng(0)
    pair, (logits, u, voxel_weight) = make_pair(shape, known, rng), make_inputs(shape, rng)
    field = (u, voxel_weight if weighted else None)
    assert not is_partial(pair)

    def parts(predictions):
        return tf.add_n([side_overlap(pair, side, p, *field) for side, p in zip(SIDES, predictions, strict=True)])

    def joint(predictions):
        return joint_overlap(pair, predictions, *field)

    run = tf.function(with_gradient) if compiled else with_gradient
    for ours, expected in zip(run(logits, parts), with_gradient(logits, joint), strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_partial_labels():
    pair = make_pair((4, 5), ("all", "none"), np.random.default_rng(0))
    assert not is_partial(pair)
    pair["fixed"]["label_weight"][1] = 1  # of one image of two
    assert is_partial(pair)
    pair["fixed"]["label_weight"][:] = (0, 1, 1)
    assert is_partial(pair)
    pair["fixed"]["label_weight"][:] = 0.5
    assert is_partial(pair)
