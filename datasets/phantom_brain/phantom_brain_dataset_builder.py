"""Synthetic heads, drawn while the data set is prepared."""

import pathlib

from deepatlas_tf.datasets.phantom_builder import PhantomBuilder
from deepatlas_tf.datasets.volume_builder import volume_config
from deepatlas_tf.phantoms import brain

_GRIDS = [
    ((48, 64, 48), (3.3, 3.3, 3.3), 40),
    ((24, 32, 24), (6.6, 6.6, 6.6), 12),
    ((64, 64), (2.5, 2.5), 40),
]


class Builder(PhantomBuilder):
    """Variants: a contrast, or two as domains. Every subject is labelled and the template deformed."""

    pkg_dir_path = pathlib.Path(__file__).parent
    VARIANTS = ("t1", "t2", "t1_t2")
    BUILDER_CONFIGS = [volume_config(*grid, variant) for variant in VARIANTS for grid in _GRIDS]
    CLASS_NAMES = brain.CLASS_NAMES
    PREFIX = "brain"

    def draw(self, seed, contrast):
        config = self.builder_config
        return brain.draw(seed, config.shape, config.spacing, contrast)
