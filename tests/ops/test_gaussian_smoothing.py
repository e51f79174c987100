"""Gaussian smoothing against SciPy's."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from deepatlas_tf.ops.filters import gaussian_smoothing


@pytest.mark.parametrize("shape", [(9, 7), (5, 8, 6)])
def test_it_is_scipys_with_mirrored_borders(shape):
    x = np.random.default_rng(0).normal(size=(2, *shape, 3)).astype(np.float32)
    expected = gaussian_filter(x, [0, *[1.4] * len(shape), 0], mode="reflect", truncate=3.6)  # a radius of 5 voxels
    np.testing.assert_allclose(gaussian_smoothing(x, 1.4), expected, atol=1e-6)


def test_an_axis_shorter_than_the_filter_is_mirrored_once():
    x = np.random.default_rng(0).normal(size=(1, 12, 2, 1)).astype(np.float32)
    smoothed = gaussian_smoothing(x, 1.4)
    assert smoothed.shape == x.shape
    np.testing.assert_allclose(gaussian_smoothing(np.ones_like(x), 1.4), 1, atol=1e-6)
    assert np.ptp(smoothed, axis=2).mean() < 0.3 * np.ptp(x, axis=2).mean()
