"""Synthetic balls, each in the middle of its image."""

import pathlib

import numpy as np

from deepatlas_tf.datasets.phantom_builder import PhantomBuilder
from deepatlas_tf.datasets.volume_builder import volume_config
from deepatlas_tf.phantoms.deform import Phantom


class Builder(PhantomBuilder):
    """Twelve subjects, with balls of random size."""

    name = "balls"
    pkg_dir_path = pathlib.Path(__file__).parent
    PREFIX = "ball"
    CLASS_NAMES = ("background", "ball")
    VARIANTS = ("grey",)
    BUILDER_CONFIGS = [volume_config((16, 16), (1.0, 1.0), 12, "grey")]

    def draw(self, seed, contrast):
        shape = self.builder_config.shape
        radius = np.random.default_rng(seed).uniform(3, 6)
        distance = np.linalg.norm(np.indices(shape).T - (np.array(shape) - 1) / 2, axis=-1).T
        label = (distance < radius).astype(np.uint8)
        return Phantom(0.8 * label.astype(np.float32), label, np.zeros((*shape, len(shape)), np.float32))
