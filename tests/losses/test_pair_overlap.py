"""What a case of labels leaves out must not be missed: every case against the general one, values and gradients."""

from functools import partial

import numpy as np
import pytest

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.losses.pair_overlap import CASES, anatomy_overlap, by_labels, supervised_overlap

N_CLASSES, GENERAL = 3, ("some", "some")
WEIGHTS = {"none": 0.0, "all": 1.0}


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


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("known", CASES[:-1])
@pytest.mark.parametrize("shape", [(9, 10), (6, 7, 8)])
def test_each_case_is_the_general_one(shape, known, weighted):
    rng = np.random.default_rng(0)
    pair, (logits, u, voxel_weight) = make_pair(shape, known, rng), make_inputs(shape, rng)
    voxel_weight = voxel_weight if weighted else None

    def terms(known, predictions):
        anatomies = anatomy_overlap(pair, predictions, u, voxel_weight, known)
        return tf.concat([anatomies, supervised_overlap(pair, predictions, known)], axis=0)

    found = with_gradient(logits, partial(terms, known))
    for ours, expected in zip(found, with_gradient(logits, partial(terms, GENERAL)), strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-5)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("known", CASES)
def test_the_labels_choose_the_case_and_gradients_pass_through_the_choice(known, compiled):
    rng = np.random.default_rng(0)
    pair = make_pair((9, 10), [how_much if how_much in WEIGHTS else "all" for how_much in known], rng)
    if known == GENERAL:
        pair["moving"]["label_weight"][1] = 0  # one example of two
    logits, u, voxel_weight = make_inputs((9, 10), rng)
    taken = []

    def terms(known, predictions):
        tf.py_function(lambda: taken.append(known), [], [])
        return anatomy_overlap(pair, predictions, u, voxel_weight, known)

    def chosen():
        return with_gradient(logits, lambda predictions: by_labels(pair, lambda known: terms(known, predictions)))

    found = (tf.function(chosen) if compiled else chosen)()
    assert taken == [known]
    for ours, expected in zip(found, with_gradient(logits, partial(terms, GENERAL)), strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-5)
