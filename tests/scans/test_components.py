"""Connected components of label maps: a case made by hand, SimpleITK, and what holds for any label map."""

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from deepatlas_tf.scans.components import SPECK, classes_without_specks, keep_largest, remove_specks

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


SPECKS = """
1 1 1 1 1 . 2 2 2
1 1 1 1 1 . 2 1 2
1 1 1 1 1 . 2 2 2
. . . . . . . . .
. 3 . 2 . . 3 3 3
5 . 4 4 . . 3 3 3
5 . . . . . 3 3 3
5 5 5 . 5 . 3 3 .
"""
# 1: 15 voxels, and one within the 2. 2: 8 and one, an eighth of them. 3: 11 and one. 4 is whole. 5: five and one
CLEANED = {(): {}, (4, 5): {}, (1, 2): {(1, 7): 2, (4, 3): 0}, (1, 3): {(1, 7): 2, (4, 1): 0}}


@pytest.mark.parametrize("classes", CLEANED)
def test_specks_of_the_classes_get_the_label_of_the_nearest_other_voxel(classes):
    before = parsed(SPECKS)
    expected = before.copy()
    for place, label in CLEANED[classes].items():
        expected[place] = label
    found = remove_specks(before, classes)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(before, parsed(SPECKS))  # a copy
    np.testing.assert_array_equal(remove_specks(before, classes, share=0.05), before)
    assert found.dtype == before.dtype


def test_classes_without_specks_have_hardly_any_in_each_label_map_that_has_the_class():
    whole, specks = np.zeros((30, 40), np.uint8), np.zeros((30, 40), np.uint8)
    for label in (whole, specks):
        label[2:22, 2:17] = 1  # 300 voxels
        label[2:12, 20:30] = 2  # 100
        label[15:20, 20:35] = 3  # 75
    specks[24, 2:4] = 1  # less than a hundredth
    specks[24, 10] = 2  # not less than that, with the other
    specks[24, 20:24] = 3  # 4 of 79
    specks[27:29, 20:28] = 3  # no speck, more than a fifth of the largest
    specks[27, 2:4] = 4
    assert classes_without_specks([whole]) == (1, 2, 3)
    assert classes_without_specks([specks]) == (1, 2, 4)
    specks[26, 10] = 2
    assert classes_without_specks([whole, specks]) == (1, 4)
    assert classes_without_specks([]) == ()


def simpleitk_components(label: np.ndarray, index: int) -> np.ndarray:
    """Of a class, ordered by size."""
    image = sitk.GetImageFromArray((label == index).astype(np.uint8))
    found = sitk.RelabelComponent(sitk.ConnectedComponent(image, True), sortByObjectSize=True)
    return sitk.GetArrayFromImage(found)


def noisy_label(shape) -> np.ndarray:
    noise = np.stack([gaussian_filter(np.random.default_rng(k).normal(size=shape), 1.2) for k in range(4)])
    return noise.argmax(axis=0).astype(np.uint8)


@pytest.mark.parametrize("shape", [(40, 50), (24, 20, 22)])
def test_the_largest_are_what_simpleitk_finds(shape):
    label = noisy_label(shape)
    expected = np.zeros_like(label)
    for index in range(1, 4):
        components = simpleitk_components(label, index)
        assert components.max() > 3 and np.diff(np.bincount(components.ravel())[1:3])[0] < 0  # one is the largest
        expected[components == 1] = index
    np.testing.assert_array_equal(keep_largest(label), expected)


@pytest.mark.parametrize("shape", [(40, 50), (24, 20, 22)])
def test_specks_are_the_small_components_that_simpleitk_finds(shape):
    """And what takes their place is a nearest voxel, by a tree of all that stay."""
    label = noisy_label(shape)
    specks = np.zeros(shape, bool)
    for index in (1, 3):
        components = simpleitk_components(label, index)
        sizes = np.bincount(components.ravel())[1:]
        specks |= np.isin(components, 1 + np.flatnonzero(sizes < SPECK * sizes[0]))
    assert 20 < specks.sum() < specks.size / 2
    found, stay = remove_specks(label, (1, 3)), np.argwhere(~specks)
    np.testing.assert_array_equal(found[~specks], label[~specks])
    tree = cKDTree(stay)
    for place in np.argwhere(specks):
        distance, _ = tree.query(place)
        nearest = stay[tree.query_ball_point(place, distance + 1e-6)]
        assert found[tuple(place)] in label[tuple(nearest.T)]
