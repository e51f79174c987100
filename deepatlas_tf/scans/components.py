"""Connected components of label maps, and their cleaning.

Voxels that share a face, an edge or a corner are connected (26 neighbours in 3D, 8 in 2D). Sizes are in voxels. A speck
is a component that has less than ``SPECK`` of the voxels of its class's largest one. Many classes have none in a true
label map, or hardly any: there a speck that a network predicts is an error. Others, such as lesions, consist of them.
"""

from collections.abc import Collection, Iterable, Iterator

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

SPECK = 0.2
HARDLY_ANY = 0.01  # share of a class's voxels that its specks in a true label map may have together


def keep_largest(label: np.ndarray) -> np.ndarray:
    """A copy of a label map in which each class has its largest connected component only; the others are background.

    Of equal ones the first in the order of the array stays.

    Args:
        label: (*S) class indices, 0 for the background.
    """
    kept = label.copy()
    for _, box, components, sizes in _components(label):
        kept[box][(components > 0) & (components != sizes.argmax())] = 0
    return kept


def classes_without_specks(labels: Iterable[np.ndarray], share: float = SPECK) -> tuple[int, ...]:
    """The classes of which specks hold less than ``HARDLY_ANY`` of the voxels in every label map that has the class.

    Args:
        labels: true label maps (*S) of class indices, 0 for the background.
        share: of the voxels of the largest component, below which one is a speck.
    """
    found, scattered = set(), set()
    for label in labels:
        for index, _, _, sizes in _components(label):
            specks = sizes[sizes < share * sizes.max()].sum()
            (found if specks < HARDLY_ANY * sizes.sum() else scattered).add(index)
    return tuple(sorted(found - scattered))


def remove_specks(label: np.ndarray, classes: Collection[int], share: float = SPECK) -> np.ndarray:
    """A copy of a label map without specks of ``classes``; each of their voxels has the label of the nearest other one.

    Args:
        label: (*S) class indices, 0 for the background.
        classes, share: see :func:`classes_without_specks`.
    """
    specks = np.zeros(label.shape, bool)
    cleaned = label.copy()
    for _, box, components, sizes in _components(label, classes):
        specks[box] |= (components > 0) & (sizes < share * sizes.max())[components]
    if specks.any():
        # the nearest other voxel touches a speck, since every voxel on the way to it belongs to one
        around = ndimage.binary_dilation(specks, _touching(label)) & ~specks
        _, nearest = cKDTree(np.argwhere(around)).query(np.argwhere(specks))
        cleaned[specks] = label[around][nearest]
    return cleaned


def _touching(label: np.ndarray) -> np.ndarray:
    return ndimage.generate_binary_structure(label.ndim, label.ndim)


def _components(
    label: np.ndarray, classes: Collection[int] | None = None
) -> Iterator[tuple[int, tuple[slice, ...], np.ndarray, np.ndarray]]:
    """For each class its index, its bounding box, the numbers of its components in there from 1, and their sizes.

    Number 0 is all else, and has the size 0. ``classes``: those that are looked at; None for all.
    """
    for index, box in enumerate(ndimage.find_objects(label), start=1):
        if box is None or (classes is not None and index not in classes):
            continue
        components, _ = ndimage.label(label[box] == index, _touching(label))
        sizes = np.bincount(components.ravel())
        sizes[0] = 0
        yield index, box, components, sizes
