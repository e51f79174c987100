"""Segmentation with atlases against the formula in NumPy and SciPy; stand-ins take the place of the networks."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

from deepatlas_tf.runs.atlases import Atlas, with_atlases

SHAPES = {"2D": (14, 12), "3D": (9, 10, 8)}
WHOLE, PARTIAL = (1, 1, 1), (0, 1, 0)


def smooth(shape, seed):
    image = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.5)
    return ((image - image.min()) / np.ptp(image))[..., None].astype(np.float32)


def segment(image):
    logits = np.concatenate([image, 2 * image, 1 - image], axis=-1)
    return (np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)).astype(np.float32)


def register(moving, fixed):
    return np.concatenate([3 * (moving - fixed)] * (moving.ndim - 1), axis=-1).astype(np.float32)


def atlas(shape, seed, weight=WHOLE):
    label = np.random.default_rng(seed).integers(0, 3, shape).astype(np.int32)
    return Atlas(smooth(shape, seed), label, np.array(weight, np.float32))


def warped_by_hand(one, image):
    anatomy = np.eye(3)[one.label]
    if one.label_weight.min() < 1:  # class 1 is certain, the others are predicted
        rest = segment(one.image) * [1, 0, 1]
        anatomy = np.where(one.label[..., None] == 1, [0, 1, 0], rest / rest.sum(-1, keepdims=True))
    voxels = np.stack(np.meshgrid(*map(np.arange, image.shape[:-1]), indexing="ij"))
    places = voxels + np.moveaxis(register(one.image, image), -1, 0)
    return np.stack([map_coordinates(anatomy[..., c], places, order=1, mode="nearest") for c in range(3)], axis=-1)


@pytest.mark.parametrize("part", [0.5, 0.3, 0.0, 1.0])
@pytest.mark.parametrize("dimension", SHAPES)
def test_the_probabilities_are_the_sum_of_both_parts(dimension, part):
    shape = SHAPES[dimension]
    image, atlases = smooth(shape, 0), [atlas(shape, 1), atlas(shape, 2), atlas(shape, 3, PARTIAL)]
    found = with_atlases(segment, register, atlases, part)(image)
    votes = np.mean([warped_by_hand(one, image) for one in atlases], axis=0)
    np.testing.assert_allclose(found, (1 - part) * segment(image) + part * votes, atol=2e-5)
    np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-5)
    assert found.dtype == np.float32 and np.abs(votes - segment(image)).max() > 0.3


def test_both_parts_weigh_the_same_by_default():
    image, one = smooth((14, 12), 0), atlas((14, 12), 1)
    expected = (segment(image) + warped_by_hand(one, image)) / 2
    np.testing.assert_allclose(with_atlases(segment, register, [one])(image), expected, atol=2e-5)


def test_no_scan_is_its_own_atlas():
    one, other = atlas((14, 12), 1), atlas((14, 12), 2)
    both, alone = (with_atlases(segment, register, atlases)(one.image) for atlases in ([one, other], [other]))
    np.testing.assert_array_equal(both, alone)
    assert np.abs(alone - segment(one.image)).max() > 0.1
    np.testing.assert_array_equal(with_atlases(segment, register, [one])(one.image), segment(one.image))
