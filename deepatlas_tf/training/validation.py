"""Measuring networks on the validation subjects while they train."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from deepatlas_tf.keras_stack import keras
from deepatlas_tf.metrics.deformation import folds_percent
from deepatlas_tf.metrics.overlap import dice
from deepatlas_tf.runs.predict import Labeller, Registrar, labeller, registrar, warp_label
from deepatlas_tf.streams.subjects import registration_pairs


class Validation:
    """Measures the networks on the validation subjects; call it for the numbers.

    A segmentation is measured by the mean Dice of the foreground classes; a registration by that of the label maps
    warped from each subject onto the next one in order, and by the voxels that fold.

    Args:
        samples: labelled validation samples by subject, NumPy arrays without a batch axis.
        n_classes: background included.
        nets: Keras models by name, ``"registration"`` and ``"segmentation"``; what is missing is not measured.
        sides: the subjects that are moving and those that are fixed; None where all are both. The fixed ones are
            segmented.
    """

    def __init__(
        self,
        samples: Mapping[str, Mapping[str, np.ndarray]],
        n_classes: int,
        nets: Mapping[str, keras.Model],
        sides: tuple[Sequence[str], Sequence[str]] | None = None,
    ):
        self.samples, self.n_classes = samples, n_classes
        self.moving, self.fixed = sides or (tuple(samples), tuple(samples))
        self.segment = labeller(nets["segmentation"]) if "segmentation" in nets else None
        self.register = registrar(nets["registration"]) if "registration" in nets else None

    def __call__(self) -> dict[str, float]:
        """Measure now: ``val_segmentation_dice``, ``val_registration_dice`` and ``val_folds_percent`` (of the voxels).

        A number is missing where its network or its subjects are.
        """
        results = {}
        if self.segment and self.samples:
            results["val_segmentation_dice"] = self._segmentation_dice(self.segment)
        return results | self.registration()

    def registration(self) -> dict[str, float]:
        """Measure the registration alone."""
        pairs = registration_pairs(self.moving, 1, self.fixed)
        return self._registration_results(self.register, pairs) if self.register and pairs else {}

    def _segmentation_dice(self, segment: Labeller) -> float:
        samples = [self.samples[subject] for subject in self.fixed]
        return _mean(self._dice(segment(s["image"]), s["label"], s["label_weight"]) for s in samples)

    def _registration_results(self, register: Registrar, pairs: Sequence[tuple[str, str]]) -> dict[str, float]:
        scores, folds = [], []
        for moving_id, fixed_id in pairs:
            moving, fixed = self.samples[moving_id], self.samples[fixed_id]
            u = register(moving["image"], fixed["image"])
            labelled = np.minimum(moving["label_weight"], fixed["label_weight"])
            scores.append(self._dice(warp_label(moving["label"], u), fixed["label"], labelled))
            folds.append(folds_percent(u))
        return {"val_registration_dice": _mean(scores), "val_folds_percent": float(np.mean(folds))}

    def _dice(self, prediction: np.ndarray, reference: np.ndarray, labelled: np.ndarray) -> np.ndarray:
        return np.where(labelled[1:] > 0, dice(prediction, reference, self.n_classes), np.nan)


def _mean(scores: Iterable[np.ndarray]) -> float:
    """Mean over the subjects of their means over the classes; a class that is NaN does not count."""
    return float(np.mean([np.nanmean(score) for score in scores if not np.isnan(score).all()]))
