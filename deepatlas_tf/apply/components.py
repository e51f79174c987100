"""Cleaning of label maps by connected components."""

import numpy as np
from scipy import ndimage


def keep_largest(label: np.ndarray) -> np.ndarray:
    """A copy of a label map in which each class has its largest connected component only; the others are background.

    Voxels that share a face, an edge or a corner are connected (26 neighbours in 3D, 8 in 2D). Size is counted in
    voxels; of equal ones the first in the order of the array stays.

    Args:
        label: (*S) class indices, 0 for the background.
    """
    touching = ndimage.generate_binary_structure(label.ndim, label.ndim)
    kept = label.copy()
    for index, box in enumerate(ndimage.find_objects(label), start=1):
        if box is None:
            continue
        inside = label[box] == index
        components, n = ndimage.label(inside, touching)
        if n > 1:
            largest = 1 + np.bincount(components.ravel())[1:].argmax()
            kept[box][inside & (components != largest)] = 0
    return kept
