"""Confidence in a registration and in a prediction, by hand in NumPy and SciPy, in 2D and 3D."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.stats import entropy

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.losses.confidence import alignment_confidence, prediction_confidence

SHAPES = [(12, 13), (8, 9, 10)]


def np_warp(image, u):
    grid = np.stack(np.meshgrid(*map(np.arange, image.shape[:-1]), indexing="ij"))
    location = grid + np.moveaxis(u, -1, 0)
    channels = [map_coordinates(image[..., c], location, order=1, mode="nearest") for c in range(image.shape[-1])]
    return np.stack(channels, axis=-1)


def smooth(shape, channels, seed, scale=1.0):
    rng = np.random.default_rng(seed)
    fields = [[gaussian_filter(rng.normal(size=shape), 2) for _ in range(channels)] for _ in range(2)]
    return (scale * np.moveaxis(fields, 1, -1)).astype(np.float32)


@pytest.mark.parametrize(("shape", "channels"), [(SHAPES[0], 1), (SHAPES[0], 2), (SHAPES[1], 1), (SHAPES[1], 2)])
def test_alignment_confidence_by_hand(shape, channels):
    moving, fixed = smooth(shape, channels, 0), smooth(shape, channels, 1)
    u, back = smooth(shape, len(shape), 2, 4.0), smooth(shape, len(shape), 3, 4.0)
    weights = tf.function(alignment_confidence)(moving, fixed, u, back)
    assert weights.shape == (2, *shape, 1) and weights.dtype == tf.float32
    for b in range(2):
        error = u[b] + np_warp(back[b], u[b])
        squares = []
        for k in range(channels):
            one, other = (x[..., k] for x in (np_warp(moving[b], u[b]), fixed[b]))
            squares.append(((one - one.mean()) / one.std() - (other - other.mean()) / other.std()) ** 2)
        expected = np.exp(-((error / 2) ** 2).sum(-1) - np.mean(squares, axis=0))
        np.testing.assert_allclose(weights[b, ..., 0], expected, atol=1e-4)
        assert 0.01 < expected.mean() < 0.9


@pytest.mark.long
@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_are_those_of_the_definitions(shape):
    """Of the functions without the compiler."""
    both = [smooth(shape, 1, 0), smooth(shape, 1, 1), smooth(shape, len(shape), 2), smooth(shape, len(shape), 3)]
    p = tf.nn.softmax(tf.constant(np.random.default_rng(4).normal(size=(2, *shape, 3), scale=4), tf.float32))
    for function, arguments in ((alignment_confidence, list(map(tf.constant, both))), (prediction_confidence, [p])):
        gradients = []
        for form in (function, function.__wrapped__):
            with tf.GradientTape() as tape:
                tape.watch(arguments)
                total = tf.reduce_sum(form(*arguments))
            gradients.append(tape.gradient(total, arguments))
        for found, plain in zip(*gradients, strict=True):
            np.testing.assert_allclose(found, plain, rtol=1e-3, atol=1e-4 * np.abs(plain).max())
            assert np.any(plain)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_perfect_registration_is_certain_whatever_the_contrast(shape):
    image, zero = smooth(shape, 1, 0), np.zeros((2, *shape, len(shape)), np.float32)
    np.testing.assert_allclose(alignment_confidence(0.5 * image + 0.2, image, zero, zero), 1, atol=1e-4)
    constant = np.ones_like(image)
    np.testing.assert_allclose(alignment_confidence(constant, constant, zero, zero), 1, atol=1e-4)


def test_two_voxels_of_inverse_consistency_error_takes_it_to_1_over_e():
    image = np.broadcast_to(np.arange(12, dtype=np.float32)[:, None, None], (1, 12, 16, 1))  # constant along axis 1
    shift = np.zeros((1, 12, 16, 2), np.float32)
    shift[..., 1] = 2
    np.testing.assert_allclose(alignment_confidence(image, image, shift, 0 * shift), np.exp(-1), rtol=1e-4)
    np.testing.assert_allclose(alignment_confidence(image, image, shift, -shift), 1, rtol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n_classes", [2, 5])
def test_prediction_confidence_is_one_minus_the_entropy_in_bits(shape, n_classes):
    logits = np.random.default_rng(0).normal(size=(2, *shape, n_classes), scale=4)
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = np.maximum(1 - entropy(p, base=2, axis=-1), 0)
    weights = prediction_confidence(p.astype(np.float32))
    np.testing.assert_allclose(weights[..., 0], expected, atol=1e-5)
    assert expected.std() > 0.1


def test_certain_and_undecided_predictions():
    p = np.array([[[1, 0, 0], [0.5, 0.5, 0], [1 / 3, 1 / 3, 1 / 3]]], np.float32)[:, :, None]
    np.testing.assert_allclose(tf.squeeze(prediction_confidence(p)), [1, 0, 0], atol=1e-6)
