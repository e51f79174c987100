"""Windows of the training size over a larger image."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from deepatlas_tf.apply.windows import OVERLAP, apply_in_windows, window_starts


@pytest.mark.parametrize(("n", "size"), [(100, 40), (41, 40), (40, 40), (17, 40), (60, 40), (333, 64)])
def test_windows_cover_the_axis_and_overlap(n, size):
    starts = window_starts(n, size)
    assert starts[0] == 0 and (len(starts) == 1) == (n <= size)
    if n > size:
        assert starts[-1] + size == n
        assert all(0 < b - a <= size * (1 - OVERLAP) + 1 for a, b in zip(starts, starts[1:], strict=False))


def test_an_image_that_is_not_larger_is_one_call():
    image, calls = np.ones((20, 30, 1), np.float32), []
    apply_in_windows(lambda x: calls.append(x) or x, image, (20, 32))
    assert len(calls) == 1 and calls[0] is image


def test_windows_of_a_local_function_are_the_whole():
    image = np.random.default_rng(0).normal(size=(150, 60, 1)).astype(np.float32)
    sizes = []

    def blur(x):
        sizes.append(x.shape[:-1])
        return np.concatenate([gaussian_filter(x, (2, 2, 0), truncate=4), x], axis=-1)

    found = apply_in_windows(blur, image, (64, 60))
    assert sizes == [(64, 60)] * len(sizes) and len(sizes) > 2
    np.testing.assert_allclose(found[..., 1:], image, atol=1e-5)
    # only 8 voxels at the border of a window are wrong, where it has the least weight
    np.testing.assert_allclose(found, blur(image), atol=0.02)


def test_each_window_is_normalised_alone():
    """A bright half does not change what is said of the other one."""
    image = np.random.default_rng(0).normal(size=(120, 16, 1)).astype(np.float32)

    def normalised(x):
        return (x - x.mean()) / x.std()

    alone = apply_in_windows(normalised, image, (24, 16))
    image[80:] += 100
    np.testing.assert_array_equal(apply_in_windows(normalised, image, (24, 16))[:50], alone[:50])
