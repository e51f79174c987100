"""Losses where voxels are ignored, against formulas in NumPy over the other voxels alone, in 2D and 3D."""

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.losses.overlap import cross_entropy, dice_and_cross_entropy, soft_dice
from deepatlas_tf.losses.pair_overlap import joint_overlap
from deepatlas_tf.losses.warped_overlap import Anatomy, warped_soft_dice
from deepatlas_tf.ops.labels import mix

SHAPES = [(11, 12), (6, 7, 8)]
C = 3
WHOLE, PARTIAL, NONE = (1, 1, 1), (0, 1, 0), (0, 0, 0)


def probabilities(shape, seed=1):
    x = np.random.default_rng(seed).random((2, *shape, C), dtype=np.float32)
    return x / x.sum(-1, keepdims=True)


def sample(shape, seed, weight=WHOLE):
    """Label maps of a batch of two, of which a part is ignored where there is a label."""
    g = np.random.default_rng(seed)
    label = g.integers(0, C, (2, *shape)).astype(np.int32)
    if any(weight):
        label[g.random(label.shape) < 0.4] = C
    known = (label < C).astype(np.float32)[..., None]
    return {"label": label, "label_weight": np.array([weight] * 2, np.float32), "known": known}


def by_numpy(p, q, known):
    """Dice and cross-entropy ``(2, B)`` of the known voxels, each example by itself."""
    values = []
    for one_p, one_q, one_known in zip(p, q, known, strict=True):
        inside = one_known[..., 0] > 0
        a, b = one_p[inside], one_q[inside]  # (n, C)
        dice = 1 - np.mean((2 * (a * b).sum(0) / (a.sum(0) + b.sum(0)))[1:])
        values.append((dice, -np.mean((b * np.log(np.maximum(a, 1e-7))).sum(-1))))
    return np.transpose(values)


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "in_graph"), [(SHAPES[0], False), (SHAPES[1], True)])
def test_the_losses_are_those_of_the_known_voxels(shape, in_graph):
    p, one = probabilities(shape), sample(shape, 2)
    q = np.eye(C + 1, dtype=np.float32)[one["label"]][..., :C]

    def losses(prediction, reference):
        return dice_and_cross_entropy(prediction, reference, one["label_weight"], known=one["known"])

    with tf.GradientTape() as tape:
        tape.watch(x := tf.constant(p))
        found = (tf.function(losses) if in_graph else losses)(x, tf.constant(one["label"]))
    np.testing.assert_allclose(found, by_numpy(p, q, one["known"]), rtol=1e-4)
    gradient = tape.gradient(found, x).numpy()
    ignored = one["known"][..., 0] == 0
    assert np.all(gradient[ignored] == 0) and np.abs(gradient[~ignored]).max(-1).min() > 0
    # what stands in ignored voxels is of no consequence
    poisoned = np.where(one["known"] > 0, p, probabilities(shape, 9))
    other = tf.constant(np.where(ignored, 1, one["label"]))
    np.testing.assert_array_equal(losses(poisoned, other), losses(p, tf.constant(one["label"])))
    for index, loss in enumerate((soft_dice, cross_entropy)):
        np.testing.assert_allclose(loss(p, q, known=one["known"]), found[index], rtol=1e-5)


@pytest.mark.parametrize("weight", [WHOLE, PARTIAL])
def test_nothing_known_costs_nothing(weight):
    p, known = probabilities((5, 6)), np.zeros((2, 5, 6, 1), np.float32)
    with tf.GradientTape() as tape:
        tape.watch(x := tf.constant(p))
        weights = np.array([weight] * 2, np.float32)
        found = dice_and_cross_entropy(x, tf.fill((2, 5, 6), C), weights, known=known)
    np.testing.assert_allclose(found, 0, atol=1e-6)
    np.testing.assert_array_equal(tape.gradient(found, x), 0)


def test_with_a_weight_of_each_voxel():
    """Half the weight of all voxels gives half the loss, as it does without ignored ones."""
    p, one = probabilities((11, 12)), sample((11, 12), 2)
    arguments = p, tf.constant(one["label"]), None
    half = dice_and_cross_entropy(*arguments, np.full_like(one["known"], 0.5), one["known"])
    np.testing.assert_allclose(half, dice_and_cross_entropy(*arguments, None, one["known"]) / 2, rtol=1e-4)


def warped_by_hand(volume, u):
    """An image ``(*S, C)``, sampled by SciPy."""
    places = np.stack(np.meshgrid(*map(np.arange, volume.shape[:-1]), indexing="ij")) + np.moveaxis(u, -1, 0)
    return np.stack([map_coordinates(x, places, order=1, mode="nearest") for x in np.moveaxis(volume, -1, 0)], -1)


def warped_and_known(anatomy, known, u):
    """The warped mean over the known voxels, and where these have half of the weights at least."""
    warped = np.stack([warped_by_hand(*each) for each in zip(anatomy * known, u, strict=True)])
    share = np.stack([warped_by_hand(*each) for each in zip(known, u, strict=True)])
    return warped / np.maximum(share, 1e-6), (share >= 0.5).astype(np.float32)


def field(shape):
    return np.random.default_rng(4).normal(0, 0.7, (2, *shape, len(shape))).astype(np.float32)


@pytest.mark.parametrize(
    ("shape", "labelled", "in_graph"),
    [(SHAPES[0], True, False), (SHAPES[0], False, False), (SHAPES[1], False, True)],
)
def test_dice_of_a_warped_anatomy(shape, labelled, in_graph):
    moving, fixed, u = sample(shape, 2), sample(shape, 3, WHOLE if labelled else NONE), field(shape)
    predicted = None if labelled else probabilities(shape)
    sides = [Anatomy(moving["label"], known=moving["known"])]
    sides += [Anatomy(fixed["label"], predicted, labelled, fixed["known"])]

    def loss(u):
        return warped_soft_dice(*sides, u, C)

    with tf.GradientTape() as tape:
        tape.watch(x := tf.constant(u))
        found = (tf.function(loss) if in_graph else loss)(x)
    q = np.eye(C + 1)[fixed["label"]][..., :C] if labelled else predicted
    a, reached = warped_and_known(np.eye(C + 1)[moving["label"]][..., :C], moving["known"], u)
    np.testing.assert_allclose(found, by_numpy(a, q, reached * fixed["known"])[0], rtol=1e-4)
    gradient = tape.gradient(found, x).numpy()
    assert np.all(gradient[reached[..., 0] * fixed["known"][..., 0] == 0] == 0) and np.abs(gradient).max() > 1e-4


def test_ignored_voxels_are_no_edge_that_a_field_could_move():
    """Where all that is known is of one class, no field changes the loss."""
    known = np.zeros((1, 8, 9, 1), np.float32)
    known[:, 2:5, 3:7] = 1
    side = Anatomy(np.where(known[..., 0] > 0, 1, C), known=known)
    with tf.GradientTape() as tape:
        tape.watch(u := tf.constant(np.random.default_rng(0).uniform(-0.4, 0.4, (1, 8, 9, 2)), tf.float32))
        loss = warped_soft_dice(side, side, u, C)
    np.testing.assert_allclose(loss, 0, atol=1e-5)
    np.testing.assert_allclose(tape.gradient(loss, u), 0, atol=1e-6)


def anatomy_by_hand(one, p):
    return mix(one["label"], one["label_weight"], p).numpy()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "known_side", "in_graph"),
    [
        (SHAPES[0], "moving", False),
        (SHAPES[0], "fixed", False),
        (SHAPES[0], "both", False),
        (SHAPES[1], "moving", True),
    ],
)
def test_the_losses_of_both_predictions(shape, known_side, in_graph):
    weights = {side: WHOLE if known_side in (side, "both") else NONE for side in ("moving", "fixed")}
    pair = {side: sample(shape, seed, weights[side]) for seed, side in enumerate(weights, 2)}
    u, given = field(shape), [tf.constant(probabilities(shape, seed)) for seed in (5, 6)]

    def losses(*predictions):
        return joint_overlap(pair, predictions, u)

    with tf.GradientTape() as tape:
        tape.watch(given)
        found = (tf.function(losses) if in_graph else losses)(*given)
    moving, fixed = (anatomy_by_hand(pair[side], p) for side, p in zip(pair, given, strict=True))
    warped, reached = warped_and_known(moving, pair["moving"]["known"], u)
    known = reached * pair["fixed"]["known"]
    ordered = (fixed, warped) if known_side == "moving" else (warped, fixed)  # what is predicted, what is labelled
    dice, entropy = by_numpy(*ordered, known)
    np.testing.assert_allclose(found[0], dice, rtol=1e-3)
    np.testing.assert_allclose(found[1], 0 if known_side == "both" else entropy, rtol=1e-3, atol=1e-6)
    supervised = np.zeros((2, 2))
    for one, p in zip(pair.values(), given, strict=True):
        if one["label_weight"].any():
            supervised += by_numpy(p.numpy(), np.eye(C + 1)[one["label"]][..., :C], one["known"])
    np.testing.assert_allclose(found[2:], supervised, rtol=1e-4, atol=1e-6)
    for one, gradient in zip(pair.values(), tape.gradient(found, given), strict=True):
        if one["label_weight"].any():
            assert np.all(gradient.numpy()[one["known"][..., 0] == 0] == 0)
    if known_side == "moving":  # nothing is learned where the warped label map says nothing
        assert np.all(gradient.numpy()[known[..., 0] == 0] == 0)
