"""Synthetic knees, drawn while the data set is prepared."""

import pathlib

import numpy as np

from deepatlas_tf.data import phantom
from deepatlas_tf.datasets.volumes import VolumeBuilder, split_subjects, volume_config
from deepatlas_tf.types import DataError


class Builder(VolumeBuilder):
    """Every subject is labelled; the subject's number is the seed it is drawn from."""

    pkg_dir_path = pathlib.Path(__file__).parent
    BUILDER_CONFIGS = [
        volume_config((40, 48, 40), (3.0, 3.0, 3.0), n_subjects=60),
        volume_config((24, 24, 16), (5.0, 5.5, 7.0), n_subjects=12),
        volume_config((64, 64), (2.0, 2.0), n_subjects=60),
    ]
    CLASS_NAMES = phantom.CLASS_NAMES
    SYNTHETIC = True

    def find_subjects(self, manual_dir):
        n = self.builder_config.n_subjects
        if n < 6:
            raise DataError(
                f"phantom_knee with {n} subjects: at least 6 are needed, two in each split to make pairs of"
            )
        subjects = [f"knee_{seed:04d}" for seed in range(n)]
        return split_subjects(subjects, max(2, n * 8 // 60), max(2, n * 4 // 60), full=n), set(subjects)

    def read(self, subject):
        config = self.builder_config
        image, label = phantom.knee(int(subject.removeprefix("knee_")), config.shape, config.spacing)
        centre = (np.array(config.shape) - 1) / 2
        affine = np.diag([*config.spacing, 1.0])
        affine[:-1, -1] = -centre * config.spacing  # the origin is the middle of the grid
        return {"image": image, "label": label, "affine": affine}
