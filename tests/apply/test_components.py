"""Connected components of label maps: a case made by hand, SimpleITK, and what holds for any label map."""

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter

from deepatlas_tf.apply.components import keep_largest

BEFORE = """
1 1 . . . 2 2 .
1 1 . . . . . 2
. . 1 . 3 . . .
. . . . 3 . 1 .
2 . . . . . 1 1
2 . 4 . . . . 1
"""
# 1: five voxels, one of them by a corner, against four. 2: three, one by a corner, against two. 3 and 4 are whole
AFTER = """
1 1 . . . 2 2 .
1 1 . . . . . 2
. . 1 . 3 . . .
. . . . 3 . . .
. . . . . . . .
. . 4 . . . . .
"""


def parsed(drawing: str) -> np.ndarray:
    rows = drawing.strip().replace(".", "0").splitlines()
    return np.array([[int(cell) for cell in row.split()] for row in rows], np.uint8)


def test_each_class_keeps_its_largest_component():
    before = parsed(BEFORE)
    found = keep_largest(before)
    np.testing.assert_array_equal(found, parsed(AFTER))
    np.testing.assert_array_equal(before, parsed(BEFORE))  # a copy
    assert found.dtype == np.uint8


def test_in_3d_a_corner_connects_and_one_voxel_between_does_not():
    label = np.zeros((5, 4, 4), np.uint16)
    label[0, 0, 0] = label[1, 1, 1] = label[2, 2, 2] = 300
    label[4, 0, 0] = label[4, 0, 1] = 300
    expected = label.copy()
    expected[4] = 0
    np.testing.assert_array_equal(keep_largest(label), expected)


def test_of_equal_components_the_first_stays_and_an_empty_map_is_empty():
    np.testing.assert_array_equal(keep_largest(np.array([[1, 0, 1]], np.uint8)), [[1, 0, 0]])
    np.testing.assert_array_equal(keep_largest(np.zeros((3, 4), np.uint8)), np.zeros((3, 4)))


@pytest.mark.parametrize("shape", [(40, 50), (24, 20, 22)])
def test_it_is_what_simpleitk_finds(shape):
    """Whose components of a class are ordered by size."""
    noise = np.stack([gaussian_filter(np.random.default_rng(k).normal(size=shape), 1.2) for k in range(4)])
    label = noise.argmax(axis=0).astype(np.uint8)
    expected = np.zeros_like(label)
    for index in range(1, 4):
        image = sitk.GetImageFromArray((label == index).astype(np.uint8))
        found = sitk.RelabelComponent(sitk.ConnectedComponent(image, True), sortByObjectSize=True)
        components = sitk.GetArrayFromImage(found)
        assert components.max() > 3 and np.diff(np.bincount(components.ravel())[1:3])[0] < 0  # one is the largest
        expected[components == 1] = index
    np.testing.assert_array_equal(keep_largest(label), expected)
