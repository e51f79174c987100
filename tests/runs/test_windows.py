"""Windows of the training size over a larger image."""

import functools
import itertools

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from deepatlas_tf.runs.windows import OVERLAP, apply_in_windows, slabs, window_starts


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


@pytest.mark.parametrize(("shape", "size"), [((50, 31), (16, 12)), ((33, 12, 20), (16, 16, 8)), ((9, 40), (16, 12))])
def test_the_weights_of_the_windows_sum_to_one(shape, size):
    """What all windows agree on is not changed, neither in the middle nor at a border."""
    values = np.array([0.25, 0.75], np.float32)
    found = apply_in_windows(lambda x: np.broadcast_to(values, (*x.shape[:-1], 2)), np.ones((*shape, 1)), size)
    np.testing.assert_allclose(found, np.broadcast_to(values, (*shape, 2)), rtol=1e-6)


@pytest.mark.parametrize(("shape", "size"), [((50, 31), (16, 12)), ((33, 12, 20), (16, 16, 8)), ((16, 31), (16, 12))])
def test_slabs_are_the_whole_in_order(shape, size):
    """Against the definition: all windows added up on the whole grid, divided by the sum of their weights."""
    image = np.random.default_rng(1).normal(size=(*shape, 1)).astype(np.float32)
    total, weights = np.zeros((*shape, 1)), np.zeros((*shape, 1))
    for corner in itertools.product(*(window_starts(n, m) for n, m in zip(shape, size, strict=True))):
        where = tuple(slice(a, a + m) for a, m in zip(corner, size, strict=True))
        part = image[where]
        axes = (np.exp(-((np.arange(n) - (n - 1) / 2) ** 2) / 2 / (n / 8) ** 2) for n in part.shape[:-1])
        weight = functools.reduce(np.multiply.outer, axes)[..., None]
        total[where] += weight * (part - part.mean())
        weights[where] += weight
    rows, parts = zip(*slabs(lambda x: x - x.mean(), image, size), strict=True)
    assert [part.start for part in rows] == [0, *(part.stop for part in rows[:-1])] and rows[-1].stop == shape[0]
    np.testing.assert_allclose(np.concatenate(parts), total / weights, atol=1e-5)
