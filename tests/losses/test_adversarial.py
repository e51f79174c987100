"""Losses of translation against NumPy and closed forms."""

import numpy as np
import pytest

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.losses.adversarial import absolute_difference, discrimination, least_squares

SHAPES = [(3, 5, 4, 1), (2, 3, 4, 5, 1)]


def random(shape, seed):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("shape", SHAPES)
def test_losses_are_those_of_numpy(shape):
    real, generated = random(shape, 0), random(shape, 1)
    axes = tuple(range(1, len(shape)))
    real_part, generated_part = ((real - 1) ** 2).mean(axis=axes), (generated**2).mean(axis=axes)
    np.testing.assert_allclose(least_squares(real, 1.0), real_part, rtol=1e-5)
    np.testing.assert_allclose(least_squares(generated, 0.0), generated_part, rtol=1e-5)
    np.testing.assert_allclose(discrimination(real, generated), (real_part + generated_part) / 2, rtol=1e-5)
    np.testing.assert_allclose(
        absolute_difference(real, generated), np.abs(real - generated).mean(axis=axes), rtol=1e-5
    )


@pytest.mark.slow
def test_the_best_discriminator_of_two_known_distributions():
    """For p(x) real and q(x) generated the optimum is D = p / (p + q) with the value 1/2 mean pq / (p + q) (Mao 2017).

    Here a patch of kind 0 is real with probability 3/4 and one of kind 1 with 1/4: D = (3/4, 1/4), value 3/16.
    """
    kinds_real, kinds_generated = np.array([0, 0, 0, 1]), np.array([1, 1, 1, 0])
    scores = tf.Variable([0.5, 0.5])
    for _ in range(200):
        with tf.GradientTape() as tape:
            real, generated = (tf.gather(scores, k)[None, :, None] for k in (kinds_real, kinds_generated))
            loss = discrimination(real, generated)
        scores.assign_sub(0.5 * tf.convert_to_tensor(tape.gradient(loss, scores)))
    np.testing.assert_allclose(scores, [0.75, 0.25], atol=1e-4)
    np.testing.assert_allclose(loss, 3 / 16, atol=1e-5)
    np.testing.assert_allclose(discrimination(np.full((1, 4, 1), 0.5, "f"), np.full((1, 4, 1), 0.5, "f")), 1 / 4)
