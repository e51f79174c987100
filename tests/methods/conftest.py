"""Two logical CPUs, so that a test can run two replicas: conftest files are read before any test uses TensorFlow.

And the losses of a volume (*S, C) in NumPy and SciPy, which DeepAtlas is compared with.
"""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from deepatlas_tf.keras_stack import tf

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


@pytest.fixture(scope="session")
def by_numpy():
    """warp(image (*S, C), u (*S, D)); soft_dice(p, q) and cross_entropy(p, q) of probabilities (*S, C)."""

    def warp(image, u):
        location = np.stack(np.meshgrid(*map(np.arange, image.shape[:-1]), indexing="ij")) + np.moveaxis(u, -1, 0)
        channels = [map_coordinates(image[..., c], location, order=1, mode="nearest") for c in range(image.shape[-1])]
        return np.stack(channels, axis=-1)

    def soft_dice(p, q):
        p, q = (x.reshape(-1, x.shape[-1])[:, 1:] for x in (p, q))
        return 1 - np.mean(2 * (p * q).sum(0) / (p.sum(0) + q.sum(0)))

    def cross_entropy(p, q):
        return -np.mean((q * np.log(np.maximum(p, 1e-7))).sum(-1))

    return SimpleNamespace(warp=warp, soft_dice=soft_dice, cross_entropy=cross_entropy)
