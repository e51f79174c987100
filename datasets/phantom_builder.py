"""What the synthetic data sets share: subjects drawn from their number, in one contrast or in two domains."""

import numpy as np

from deepatlas_tf.datasets.splits import split_subjects
from deepatlas_tf.datasets.volume_builder import VolumeBuilder
from deepatlas_tf.keras_stack import tf, tfds
from deepatlas_tf.phantoms.deform import Phantom
from deepatlas_tf.types import DataError


class PhantomBuilder(VolumeBuilder, skip_registration=True):  # type: ignore[call-arg] # TFDS brings no types
    """Base of the phantoms. A subclass sets the constants, ``PREFIX`` of the subjects' names too, and writes ``draw``.

    The subject's number is the seed it is drawn from. A variant is a contrast, or two joined by ``_``, which are the
    domains: each subject is seen in one of them, alternately in the order of the splits. So every split holds both.
    """

    PREFIX: str
    SYNTHETIC = True

    def draw(self, seed: int, contrast: str) -> Phantom:
        """The subject on the grid of the configuration."""
        raise NotImplementedError

    def seed(self, subject: str) -> int:
        return int(subject.removeprefix(f"{self.PREFIX}_"))

    def find_subjects(self, manual_dir):
        n = self.builder_config.n_subjects
        if n < 6:
            raise DataError(f"{self.name} with {n} subjects: at least 6 are needed, two in each split to make pairs of")
        subjects = [f"{self.PREFIX}_{seed:04d}" for seed in range(n)]
        held_out = max(2, n * 8 // 60)
        return split_subjects(subjects, held_out, held_out, full=n), set(subjects)

    def domains(self, subjects):
        names = self.contrasts()
        if len(names) == 1:
            return super().domains(subjects)
        return {subject: names[index % len(names)] for index, subject in enumerate(subjects)}

    def contrasts(self) -> tuple[str, ...]:
        """The contrasts of this configuration: one, or the two domains."""
        return tuple(self.builder_config.variant.split("_"))

    def extra_features(self):
        shape = self.builder_config.shape
        features = tfds.features
        field = features.Tensor(shape=(*shape, len(shape)), dtype=tf.float32, encoding=features.Encoding.BYTES)
        return {"deformation": field}

    def read(self, subject):
        contrast = self._domains[subject] or self.contrasts()[0]
        return {**self.draw(self.seed(subject), contrast)._asdict(), "affine": self.affine()}

    def affine(self) -> np.ndarray:
        """The affine (D+1, D+1), whose origin is the middle of the grid."""
        config = self.builder_config
        affine = np.diag([*config.spacing, 1.0])
        affine[:-1, -1] = -(np.array(config.shape) - 1) / 2 * config.spacing
        return affine
