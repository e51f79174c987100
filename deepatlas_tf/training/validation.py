"""Measuring networks on the validation subjects while they train."""

import numpy as np

from deepatlas_tf.metrics.deformation import folds_percent
from deepatlas_tf.metrics.overlap import dice
from deepatlas_tf.runs.predict import labeller, registrar, warp_label
from deepatlas_tf.streams.subjects import registration_pairs


class Validation:
    """Mean foreground Dice of the segmentation, and of the labels warped between the next subjects in order.

    Args:
        samples: labelled validation samples by subject, NumPy arrays.
        n_classes: background included.
        nets: Keras models by name (``"registration"``, ``"segmentation"``); each is measured in its own task.
        sides: subjects that are moving and that are fixed, where not all are both. The fixed ones are segmented.
    """

    def __init__(self, samples, n_classes: int, nets, sides=None):
        self.samples, self.n_classes = samples, n_classes
        self.moving, self.fixed = sides or (tuple(samples), tuple(samples))
        self.segment = labeller(nets["segmentation"]) if "segmentation" in nets else None
        self.register = registrar(nets["registration"]) if "registration" in nets else None

    def __call__(self) -> dict[str, float]:
        """``val_segmentation_dice``, ``val_registration_dice``, ``val_folds_percent``, as far as there are nets."""
        results = {}
        if self.segment and self.samples:
            results["val_segmentation_dice"] = self._segmentation_dice()
        pairs = registration_pairs(self.moving, 1, self.fixed)
        if self.register and pairs:
            results |= self._registration_results(pairs)
        return results

    def _segmentation_dice(self):
        samples = [self.samples[subject] for subject in self.fixed]
        return _mean(self._dice(self.segment(s["image"]), s["label"], s["label_weight"]) for s in samples)

    def _registration_results(self, pairs):
        scores, folds = [], []
        for moving_id, fixed_id in pairs:
            moving, fixed = self.samples[moving_id], self.samples[fixed_id]
            u = self.register(moving["image"], fixed["image"])
            labelled = np.minimum(moving["label_weight"], fixed["label_weight"])
            scores.append(self._dice(warp_label(moving["label"], u), fixed["label"], labelled))
            folds.append(folds_percent(u))
        return {"val_registration_dice": _mean(scores), "val_folds_percent": float(np.mean(folds))}

    def _dice(self, prediction, reference, labelled):
        return np.where(labelled[1:] > 0, dice(prediction, reference, self.n_classes), np.nan)


def _mean(scores) -> float:
    """Mean over the subjects of the mean over the classes that are labelled and present."""
    return float(np.mean([np.nanmean(score) for score in scores if not np.isnan(score).all()]))
