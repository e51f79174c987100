"""Distances between the surfaces of label maps, in millimetres.

The surface of a structure is the set of its voxels with a face neighbour outside of it; what lies outside of the image
counts as outside. All surface voxels weigh the same, so the averages differ from those that weigh by surface area.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage
from scipy.spatial import cKDTree

from deepatlas_tf.metrics.overlap import checked_labels
from deepatlas_tf.processor import usable_cores


def surface_metrics(
    prediction: ArrayLike, reference: ArrayLike, n_classes: int, spacing: Sequence[float]
) -> dict[str, np.ndarray]:
    """Surface distances of each foreground class.

    Args:
        prediction: label map ``(*S,)`` of class indices ``0..n_classes - 1``; ``n_classes`` as for
            :func:`~deepatlas_tf.metrics.overlap.dice`.
        reference: label map of the same shape.
        n_classes: number of classes, background (0) included.
        spacing: size of a voxel in mm along each axis.

    Returns:
        Three measures by name, each ``(n_classes - 1,)`` float64. A class that is absent from one of the label maps has
        NaN: there is no distance to nothing, and any number in its place would depend on the size of the image. Dice is
        0 there.

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
    both = [(index, _common(*pair)) for index, pair in enumerate(zip(*boxes, strict=True)) if None not in pair]

    def measure(found):
        index, box = found
        surfaces = [_surface(label[box] == index + 1) * spacing for label in (prediction, reference)]
        values[index] = _symmetric_distances(*_directed_distances(*surfaces))

    # SciPy's trees let other threads run while they are built and searched
    with ThreadPoolExecutor(usable_cores()) as pool:
        list(pool.map(measure, both))
    return dict(zip(names, values.T, strict=True))


def hd95(prediction: ArrayLike, reference: ArrayLike, n_classes: int, spacing: Sequence[float]) -> np.ndarray:
    """95th percentile of the Hausdorff distance in mm for each foreground class, ``(n_classes - 1,)``.

    The arguments, the definition and the errors are those of :func:`surface_metrics`, which measures more at once.
    """
    return surface_metrics(prediction, reference, n_classes, spacing)["hd95_mm"]


def _common(box, other):
    """The smallest box that holds two boxes; no surface voxel lies outside of it."""
    return tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(box, other, strict=True))


def _directed_distances(first, second):
    """Distance of each point of one surface ``(n, D)`` to the other ``(m, D)`` and the reverse: ``(n,)`` and ``(m,)``.

    Searching trees of the surfaces' points takes a quarter of the time of distance transforms of the box around them.
    """
    trees = [cKDTree(points, compact_nodes=False, balanced_tree=False) for points in (first, second)]
    return trees[1].query(first)[0], trees[0].query(second)[0]


def _surface(mask):
    """Voxel coordinates ``(n, D)`` of the surface of a mask ``(*S,)``."""
    padded, inside = np.pad(mask, 1), mask.copy()
    for axis in range(mask.ndim):
        for neighbours in (slice(None, -2), slice(2, None)):
            inside &= padded[tuple(neighbours if other == axis else slice(1, -1) for other in range(mask.ndim))]
    return np.argwhere(mask & ~inside)


def _symmetric_distances(forward, backward):
    """HD95, ASSD and Hausdorff distance of the distances from each surface to the other one, ``(n,)`` and ``(m,)``."""
    hd95 = max(np.percentile(forward, 95), np.percentile(backward, 95))
    assd = (forward.sum() + backward.sum()) / (forward.size + backward.size)
    return hd95, assd, max(forward.max(), backward.max())
