import numpy as np
import pytest

from deepatlas_tf.scans.intensity import rescale


@pytest.mark.parametrize("shape", [(40, 50), (12, 14, 16)])
def test_percentiles_of_nonzero_voxels_become_0_and_1(shape):
    rng = np.random.default_rng(0)
    image = rng.gamma(3, 200, shape).astype(np.float32)
    image.flat[: image.size // 3] = 0  # padding must not shift the percentiles
    image.flat[-1] = 1e6
    values = np.sort(image[image != 0].astype(np.float64))
    position = (values.size - 1) * np.array([0.005, 0.995])
    low, high = np.interp(position, np.arange(values.size), values)
    np.testing.assert_allclose(rescale(image), np.clip((image - low) / (high - low), 0, 1), atol=1e-5)


def test_does_not_depend_on_the_unit():
    image = np.random.default_rng(1).gamma(2, 1, (9, 9, 9)).astype(np.float32)
    np.testing.assert_allclose(rescale(image), rescale(image * 5000), atol=1e-5)


def test_negative_values_count():
    image = np.linspace(-1000, 1000, 4001, dtype=np.float32)  # as in CT
    scaled = rescale(image)
    assert scaled.min() == 0 and scaled.max() == 1 and abs(scaled[2000] - 0.5) < 1e-3


def test_binary_and_constant_images():
    binary = np.zeros((5, 5), np.float32)
    binary[2] = 7
    np.testing.assert_array_equal(rescale(binary), binary / 7)
    assert not rescale(np.full((4, 4), 3.0)).any()
