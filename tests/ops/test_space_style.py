"""The style difference against SciPy's filters, and what the fractions are drawn from."""

import numpy as np
import pytest
from scipy.ndimage import map_coordinates, uniform_filter
from scipy.stats import beta, kstest

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.ops.space_style import WINDOW, beta_fractions, style_difference

SHAPES = [(14, 15), (11, 12, 13)]


@pytest.mark.parametrize("window", [1, 5, WINDOW])
@pytest.mark.parametrize("shape", SHAPES)
def test_style_difference_by_hand(shape, window):
    rng = np.random.default_rng(0)
    image, target = rng.random((2, 2, *shape, 1), dtype=np.float32)
    u = rng.normal(size=(2, *shape, len(shape))).astype(np.float32)
    found = tf.function(style_difference)(image, target, u, window)
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"))
    for b in range(2):
        warped = map_coordinates(target[b, ..., 0], grid + np.moveaxis(u[b], -1, 0), order=1, mode="nearest")
        # Zeros outside the image, and as many fewer voxels to divide by
        total, inside = (
            uniform_filter(x, window, mode="constant") for x in (warped - image[b, ..., 0], np.ones(shape))
        )
        np.testing.assert_allclose(found[b, ..., 0], total / inside, atol=1e-5)


def test_another_contrast_is_taken_over():
    image = np.random.default_rng(1).random((1, 20, 20, 1), dtype=np.float32) * 0.5
    difference = style_difference(image, image + 0.25, np.zeros((1, 20, 20, 2), np.float32))
    np.testing.assert_allclose(difference, 0.25, atol=1e-6)


def test_edges_stay_where_the_label_has_them_though_the_registration_errs():
    """A disc, and another subject's that is still four voxels away after warping: all of the style is added."""
    x, y = np.meshgrid(*[np.arange(40)] * 2, indexing="ij")
    disc, other = (((x - c) ** 2 + (y - 20) ** 2 < 100).astype(np.float32)[None, ..., None] for c in (18, 22))
    nowhere = np.zeros((1, 40, 40, 2), np.float32)
    both = {window: disc + style_difference(disc, other, nowhere, window) for window in (1, WINDOW)}
    np.testing.assert_array_equal(both[1], other)  # as published: the other subject's anatomy under this label
    np.testing.assert_array_equal(both[WINDOW] > 0.5, disc > 0.5)


def test_fractions_are_beta_distributed_and_independent():
    fractions = tf.concat([beta_fractions(200, step) for step in range(20)], axis=1).numpy()
    assert fractions.shape == (2, 4000)
    for values in fractions:
        assert kstest(values, beta(0.3, 0.3).cdf).pvalue > 0.01
    assert abs(np.corrcoef(fractions)[0, 1]) < 0.05


def test_fractions_follow_from_the_step():
    compiled = tf.function(beta_fractions)
    np.testing.assert_array_equal(beta_fractions(3, 7), compiled(3, tf.constant(7, tf.int64)))
    assert not np.array_equal(beta_fractions(3, 7), beta_fractions(3, 8))
