"""Synthetic knees, drawn while the data set is prepared."""

import pathlib

import numpy as np

from deepatlas_tf.datasets.phantom_builder import PhantomBuilder
from deepatlas_tf.datasets.volume_builder import volume_config
from deepatlas_tf.phantoms import knee
from deepatlas_tf.phantoms.projection import PROJECTIONS
from deepatlas_tf.types import DataError

_VOLUME = ((40, 48, 40), (3.0, 3.0, 3.0), 60)
_SLICE = ((64, 64), (2.0, 2.0), 60)
_ONE_SHAPE_EACH = ("t1", "partial")  # variants without a deformation: each structure has a random shape of its own
_CARTILAGE = ("femoral_cartilage", "tibial_cartilage")


class Builder(PhantomBuilder):
    """Variants: a contrast, two of them as domains, or ``partial``: the images of ``t1``, some without all labels."""

    pkg_dir_path = pathlib.Path(__file__).parent
    VARIANTS = ("t1", "t1_deformed", "t2", "t1_t2", "xray", "dxa", "xray_dxa", "partial")
    BUILDER_CONFIGS = [
        volume_config(*_VOLUME, "t1"),
        volume_config((24, 24, 16), (5.0, 5.5, 7.0), 12, "t1"),
        volume_config(*_SLICE, "t1"),
        *[volume_config(*_VOLUME, variant) for variant in ("t1_deformed", "t2", "t1_t2", "partial")],
        *[volume_config(*_SLICE, variant) for variant in ("xray", "dxa", "xray_dxa")],
    ]
    CLASS_NAMES = knee.CLASS_NAMES
    PREFIX = "knee"

    @classmethod
    def config_for(cls, shape=None, spacing=None, n_subjects=None, variant=None):
        config = super().config_for(shape, spacing, n_subjects, variant)
        if set(config.variant.split("_")) & set(PROJECTIONS) and len(config.shape) != 2:
            raise DataError(f"phantom_knee/{config.variant} is a projection: shape {config.shape} must have two axes")
        return config

    def find_subjects(self, manual_dir):
        splits, labelled = super().find_subjects(manual_dir)
        self._kept = dict.fromkeys(labelled, self.CLASS_NAMES[1:])
        if self.builder_config.variant == "partial":  # the subjects to measure on keep all their labels
            bones = tuple(name for name in self.CLASS_NAMES[1:] if name not in _CARTILAGE)
            self._kept |= dict.fromkeys(splits["train"][2::3], bones) | dict.fromkeys(splits["train"][4::5], ())
        return splits, {subject for subject in labelled if self._kept[subject]}

    def contrasts(self):
        return {"t1_deformed": ("t1",), "partial": ("t1",)}.get(self.builder_config.variant) or super().contrasts()

    def extra_features(self):
        return {} if self.builder_config.variant in _ONE_SHAPE_EACH else super().extra_features()

    def draw(self, seed, contrast):
        config = self.builder_config
        return knee.draw(seed, config.shape, config.spacing, contrast)

    def read(self, subject):
        config = self.builder_config
        if config.variant not in _ONE_SHAPE_EACH:
            return super().read(subject)
        image, label = knee.knee(self.seed(subject), config.shape, config.spacing)
        kept = self._kept[subject]
        label[~np.isin(label, [self.CLASS_NAMES.index(name) for name in kept])] = 0
        return {"image": image, "label": label if kept else None, "labelled_classes": kept, "affine": self.affine()}
