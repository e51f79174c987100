import numpy as np
import pytest
from scipy.spatial.distance import dice as dissimilarity

from deepatlas_tf.metrics.overlap import dice


@pytest.mark.parametrize("shape", [(13, 11), (7, 9, 8)])
def test_agrees_with_scipy(shape):
    rng = np.random.RandomState(0)
    prediction, reference = rng.randint(0, 5, (2, *shape)).astype(np.int32)
    expected = [1 - dissimilarity((prediction == c).ravel(), (reference == c).ravel()) for c in range(1, 5)]
    found = dice(prediction, reference.astype(np.uint8), 5)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_absent_classes():
    prediction, reference = np.array([[0, 1, 1, 2]]), np.array([[0, 1, 3, 3]])
    np.testing.assert_array_equal(dice(prediction, reference, 5), [2 / 3, 0, 0, np.nan])


def test_an_ignored_voxel_is_background_in_both():
    prediction, reference = np.array([[1, 1, 2, 3, 1]]), np.array([[1, 3, 3, 2, 0]])  # of 3 classes
    np.testing.assert_array_equal(dice(prediction, reference, 3), [2 / 3, np.nan])
    np.testing.assert_array_equal(dice(reference, prediction, 3), [2 / 3, np.nan])


@pytest.mark.parametrize(
    ("prediction", "reference", "message"),
    [
        (np.zeros((3, 4), int), np.zeros((4, 3), int), "different shape"),
        (np.full((2, 2), 4), np.zeros((2, 2), int), "prediction has classes 4..4"),
        (np.zeros((2, 2), int), np.full((2, 2), -1), "reference has classes -1..-1"),
    ],
)
def test_bad_label_maps(prediction, reference, message):
    with pytest.raises(ValueError, match=message):
        dice(prediction, reference, 3)
