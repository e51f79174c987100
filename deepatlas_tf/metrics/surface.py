"""Distances between the surfaces of label maps, in millimetres.

The surface of a structure is the set of its voxels with a face neighbour outside of it; what lies outside of the image
counts as outside. All surface voxels weigh the same, so the averages differ from those that weigh by surface area.
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from deepatlas_tf.metrics.overlap import checked_labels


def surface_metrics(prediction, reference, n_classes: int, spacing: Sequence[float]) -> dict[str, np.ndarray]:
    """Surface distances of each foreground class.

    Args:
        prediction: label map ``(*S,)`` of class indices ``0..n_classes - 1``.
        reference: label map of the same shape.
        n_classes: background (0) included.
        spacing: of the voxels in mm, one for each axis.

    Returns:
        ``(n_classes - 1,)`` float64 each; NaN where the class is absent from either label map: there is no distance to
        nothing, and any number put in its place would depend on the size of the image. Dice says 0 there.

        ``hd95_mm``: the larger of the two directed 95th percentiles, as in DeepMind's surface-distance and in MONAI
        (not the percentile of both directions pooled). ``hausdorff_mm``: the larger of the two directed maxima.
        ``assd_mm``: average symmetric surface distance, the mean over the surface voxels of both (Heimann et al., IEEE
        TMI 2009).

    Raises:
        ValueError: if the shapes differ, an index is outside of the classes, or ``spacing`` has the wrong length.
    """
    prediction, reference = checked_labels(prediction, reference, n_classes)
    if len(spacing) != prediction.ndim:
        raise ValueError(f"spacing {tuple(spacing)} does not fit a label map of shape {prediction.shape}")
    names = ("hd95_mm", "assd_mm", "hausdorff_mm")
    values = np.full((n_classes - 1, len(names)), np.nan)
    boxes = [ndimage.find_objects(label, max_label=n_classes - 1) for label in (prediction, reference)]
    for index, (box, other) in enumerate(zip(*boxes, strict=True)):
        if box is None or other is None:
            continue
        # No surface voxel lies outside of the common box, so nothing else needs to be looked at
        common = tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(box, other, strict=True))
        masks = prediction[common] == index + 1, reference[common] == index + 1
        values[index] = _of_two_directions(*_directed_distances(*masks, spacing))
    return dict(zip(names, values.T, strict=True))


def _directed_distances(first, second, spacing):
    """Distance of each surface voxel of one mask to the surface of the other, both ways; ``(n,)`` and ``(m,)``."""
    first, second = _surface(first), _surface(second)
    to_second = ndimage.distance_transform_edt(~second, sampling=spacing)[first]
    to_first = ndimage.distance_transform_edt(~first, sampling=spacing)[second]
    return to_second, to_first


def _surface(mask):
    return mask & ~ndimage.binary_erosion(mask)


def _of_two_directions(forward, backward):
    hd95 = max(np.percentile(forward, 95), np.percentile(backward, 95))
    assd = (forward.sum() + backward.sum()) / (forward.size + backward.size)
    return hd95, assd, max(forward.max(), backward.max())
