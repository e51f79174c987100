"""Class probabilities on a network's grid, brought to the scan's own."""

import numpy as np
import pytest

from deepatlas_tf.runs.own_grid import segment_to_source
from deepatlas_tf.runs.windows import apply_in_windows
from deepatlas_tf.scans.grid import GridTransform
from deepatlas_tf.types import DataError


def segment(image):
    """Probabilities of three classes that depend on the window, as instance normalisation makes them."""
    values = np.stack([image[..., 0] - image.mean(), 0.3 * image[..., 0], np.sin(9 * image[..., 0])], axis=-1)
    return np.exp(values) / np.exp(values).sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("n_axes", [2, 3])
def test_slab_by_slab_it_is_the_most_probable_class(n_axes):
    """Of a scan with flipped and exchanged axes that was not resampled; against the whole volume of probabilities."""
    affine = np.array([[0, 1.0, 0, 0], [-2.0, 0, 0, 5], [0, 0, 1.5, 0], [0, 0, 0, 1]])[[*range(n_axes), 3]]
    affine = affine[:, [*range(n_axes), 3]]
    source, spacing = (30, 22, 20)[:n_axes], (1.0, 2.0, 1.5)[:n_axes]
    transform = GridTransform(affine, source, (22, 30, 20)[:n_axes], spacing)
    image = np.random.default_rng(0).random((*transform.shape, 1)).astype(np.float32)
    size = (8, 12, 20)[:n_axes]
    found = segment_to_source(segment, image, size, transform)
    whole = apply_in_windows(segment, image, size).argmax(axis=-1)
    turned = whole.swapaxes(0, 1)[::-1]
    assert found.probabilities is None and found.label.dtype == np.uint8
    np.testing.assert_array_equal(found.label, turned)
    kept = segment_to_source(segment, image, size, transform, keep_probabilities=True)
    np.testing.assert_array_equal(kept.label, found.label)
    np.testing.assert_allclose(kept.probabilities.sum(axis=-1), 1, rtol=1e-5)


def test_a_slab_that_is_not_finite_is_an_error():
    transform = GridTransform(np.eye(3), (40, 10), (40, 10), (1.0, 1.0))
    image = np.zeros((40, 10, 1), np.float32)
    image[35, 5] = np.nan
    with pytest.raises(DataError, match="not finite"):
        segment_to_source(lambda x: np.concatenate([x, 1 - x], axis=-1), image, (16, 10), transform)
