"""From a scan's image on a network's grid to its segmentation on the scan's own grid."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from deepatlas_tf.metrics.blocks import by_blocks
from deepatlas_tf.runs.windows import apply_in_windows, slabs
from deepatlas_tf.scans.aligned_grid import AlignedGridTransform
from deepatlas_tf.scans.grid import GridTransform
from deepatlas_tf.types import DataError


class Segmentation(NamedTuple):
    """label (X, Y, Z) class index on the scan's own grid; probabilities (X, Y, Z, C) float32, or None."""

    label: np.ndarray
    probabilities: np.ndarray | None


def segment_to_source(
    segment: Callable,
    image: np.ndarray,
    size: Sequence[int],
    transform: GridTransform,
    keep_probabilities: bool = False,
) -> Segmentation:
    """Segment an image, in windows where it is larger than ``size``, and bring the result to the scan's own grid.

    The probabilities are brought there, and the most probable class wins. A scan that was not resampled needs less
    memory: the class that wins is found slab by slab, and one volume is brought back instead of one a class, with the
    same result.

    Args:
        segment: function ``image (*S, K) -> class probabilities (*S, C)``.
        image: ``(*S, K)`` on the network's grid.
        size: ``(D,)`` voxels of the images that the network was trained on.
        transform: between the scan's grid and that of ``image``.
        keep_probabilities: they need four bytes a voxel and class.

    Raises:
        DataError: the network's result is not finite.
    """
    resampled = isinstance(transform, AlignedGridTransform) or set(transform.factors) != {1.0}
    if keep_probabilities or resampled:
        return _to_source(_finite(apply_in_windows(segment, image, size)), transform, keep_probabilities)
    label, kind = np.zeros(transform.shape, np.float32), np.uint8
    for rows, values in slabs(segment, image, size):
        kind = _label_type(_finite(values))
        label[rows] = _most_probable(values)
    return Segmentation(transform.image_to_source(label).astype(kind), None)


def _most_probable(probabilities: np.ndarray) -> np.ndarray:
    """Class indices (*S) float32 of probabilities (*S, C)."""
    return by_blocks(lambda rows: probabilities[rows].argmax(axis=-1).astype(np.float32), probabilities.shape[:-1])


def _to_source(probabilities: np.ndarray, transform: GridTransform, keep: bool) -> Segmentation:
    n_classes = probabilities.shape[-1]
    best = np.full(transform.source_shape, -1, np.float32)
    label = np.zeros(transform.source_shape, _label_type(probabilities))
    kept = np.zeros((*transform.source_shape, n_classes if keep else 0), np.float32)
    for index in range(n_classes):
        share = transform.image_to_source(probabilities[..., index])
        label[share > best] = index
        best = np.maximum(best, share)
        if keep:
            kept[..., index] = share
    if keep:  # the smoothing of a coarser scan may leave a sum that is not quite 1
        kept /= np.maximum(kept.sum(axis=-1, keepdims=True), 1e-6)
    return Segmentation(label, kept if keep else None)


def _finite(probabilities: np.ndarray) -> np.ndarray:
    if not np.isfinite(probabilities).all():
        raise DataError("the network's probabilities are not finite; its weights are damaged, or the scan is")
    return probabilities


def _label_type(probabilities: np.ndarray) -> type[np.unsignedinteger]:
    return np.uint8 if probabilities.shape[-1] <= 256 else np.uint16
