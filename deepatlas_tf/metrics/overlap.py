"""Overlap of label maps."""

import numpy as np
from numpy.typing import ArrayLike


def dice(prediction: ArrayLike, reference: ArrayLike, n_classes: int) -> np.ndarray:
    """Dice coefficient of each foreground class, ``2 |A and B| / (|A| + |B|)``.

    Args:
        prediction: label map ``(*S,)`` of class indices ``0..n_classes - 1``; ``n_classes`` stands in a voxel that is
            ignored, which is background in both label maps then.
        reference: label map of the same shape.
        n_classes: number of classes, background (0) included.

    Returns:
        ``(n_classes - 1,)`` float64; NaN for a class that is absent from both label maps, 0 for one that is absent
        from one of them.

    Raises:
        ValueError: if the shapes differ or an index is outside of the classes.
    """
    prediction, reference = checked_labels(prediction, reference, n_classes)
    sizes = _counts(prediction, n_classes) + _counts(reference, n_classes)
    common = _counts(prediction[prediction == reference], n_classes)
    with np.errstate(invalid="ignore"):
        return (2 * common / sizes)[1:]


def checked_labels(prediction: ArrayLike, reference: ArrayLike, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """The two label maps ``(*S,)`` as arrays, background where a voxel is ignored. Raises as :func:`dice` does."""
    prediction, reference = np.asarray(prediction), np.asarray(reference)
    if prediction.shape != reference.shape:
        raise ValueError(f"label maps of different shape: {prediction.shape} and {reference.shape}")
    for name, label in (("prediction", prediction), ("reference", reference)):
        if label.size and (label.min() < 0 or label.max() > n_classes):
            raise ValueError(f"{name} has classes {label.min()}..{label.max()}, expected 0..{n_classes - 1}")
    ignored = (prediction == n_classes) | (reference == n_classes)
    if not ignored.any():
        return prediction, reference
    return np.where(ignored, 0, prediction), np.where(ignored, 0, reference)


def _counts(label, n_classes):
    """Number of voxels of each class, ``(n_classes,)``."""
    return np.bincount(label.ravel(), minlength=n_classes)
