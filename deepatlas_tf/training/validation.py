"""Measuring networks on the validation subjects while they train."""

import numpy as np

from deepatlas_tf.metrics.deformation import folds_percent
from deepatlas_tf.metrics.overlap import dice
from deepatlas_tf.training.predict import registrar, registration_pairs, segmenter, warp_label


class Validation:
    """Mean foreground Dice of the segmentation, and of the labels warped between the next subjects in order.

    Args:
        samples: labelled validation samples by subject, NumPy arrays.
        n_classes: background included.
        nets: Keras models by name (``"registration"``, ``"segmentation"``); each is measured in its own task.
    """

    def __init__(self, samples, n_classes: int, nets):
        self.samples, self.n_classes = samples, n_classes
        self.segment = segmenter(nets["segmentation"]) if "segmentation" in nets else None
        self.register = registrar(nets["registration"]) if "registration" in nets else None

    def __call__(self) -> dict[str, float]:
        """``val_segmentation_dice``, ``val_registration_dice``, ``val_folds_percent``, as far as there are nets."""
        results = {}
        if self.segment and self.samples:
            results["val_segmentation_dice"] = self._segmentation_dice()
        if self.register and len(self.samples) > 1:
            results |= self._registration_results()
        return results

    def _segmentation_dice(self):
        return _mean(dice(self.segment(s["image"]), s["label"], self.n_classes) for s in self.samples.values())

    def _registration_results(self):
        scores, folds = [], []
        for moving_id, fixed_id in registration_pairs(list(self.samples), pairs_per_subject=1):
            moving, fixed = self.samples[moving_id], self.samples[fixed_id]
            u = self.register(moving["image"], fixed["image"])
            scores.append(dice(warp_label(moving["label"], u), fixed["label"], self.n_classes))
            folds.append(folds_percent(u))
        return {"val_registration_dice": _mean(scores), "val_folds_percent": float(np.mean(folds))}


def _mean(scores) -> float:
    """Mean over the subjects of the mean over the classes that are present."""
    return float(np.mean([np.nanmean(score) for score in scores]))
