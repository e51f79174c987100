"""Segmentation with atlases against the formula in NumPy and SciPy; stand-ins take the place of the networks."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

from deepatlas_tf.runs.atlases import Atlas, with_atlases, with_templates

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


def anatomy_by_hand(one):
    if one.label_weight.min() == 1:
        return np.eye(3)[one.label]
    rest = segment(one.image) * [1, 0, 1]  # class 1 is certain, the others are predicted
    return np.where(one.label[..., None] == 1, [0, 1, 0], rest / rest.sum(-1, keepdims=True))


def warped_by_hand(one, image):
    return moved_by_hand(anatomy_by_hand(one), one.image, image)


def moved_by_hand(anatomy, moving, image):
    voxels = np.stack(np.meshgrid(*map(np.arange, image.shape[:-1]), indexing="ij"))
    places = voxels + np.moveaxis(register(moving, image), -1, 0)
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


@pytest.mark.parametrize("weight", [WHOLE, PARTIAL])
@pytest.mark.parametrize("dimension", SHAPES)
def test_an_ignored_voxel_has_no_vote(dimension, weight):
    shape = SHAPES[dimension]
    image, one, other = smooth(shape, 0), atlas(shape, 1, weight), atlas(shape, 2)
    inside = np.zeros((*shape, 1))
    inside[:5] = 1
    part = one._replace(label=np.where(inside[..., 0] > 0, one.label, 3).astype(np.int32))
    found = with_atlases(segment, register, [part, other])(image)
    voxels = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"))
    places = voxels + np.moveaxis(register(one.image, image), -1, 0)
    anatomy = np.eye(4)[part.label][..., :3] if weight == WHOLE else anatomy_by_hand(one) * inside
    channels = np.moveaxis(np.concatenate([anatomy, inside], -1), -1, 0)
    *vote, share = (map_coordinates(x, places, order=1, mode="nearest") for x in channels)
    vote = np.stack(vote, -1) + (1 - share[..., None]) * segment(image)
    expected = segment(image) / 2 + (vote + warped_by_hand(other, image)) / 4
    np.testing.assert_allclose(found, expected, atol=2e-5)
    nobody = one._replace(label=np.full(shape, 3, np.int32))
    np.testing.assert_allclose(with_atlases(segment, register, [nobody])(image), segment(image), atol=1e-6)


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


@pytest.mark.parametrize("n_atlases", [0, 1, 2])
@pytest.mark.parametrize("dimension", SHAPES)
def test_templates_vote_by_what_network_and_atlases_say_of_them(dimension, n_atlases):
    shape = SHAPES[dimension]
    image, atlases = smooth(shape, 0), [atlas(shape, 1), atlas(shape, 2, PARTIAL)][:n_atlases]
    templates = [smooth(shape, seed) for seed in (4, 5, 6)]
    found = with_templates(segment, register, atlases, templates)(image)
    votes = [warped_by_hand(one, image) for one in atlases]
    for template in templates:
        anatomy = segment(template)
        if atlases:
            anatomy = anatomy / 2 + np.mean([warped_by_hand(one, template) for one in atlases], axis=0) / 2
        votes.append(moved_by_hand(anatomy, template, image))
    expected = segment(image) / 4 + 3 / 4 * np.mean(votes, axis=0)
    np.testing.assert_allclose(found, expected, atol=3e-3)  # anatomies are kept in 255 steps
    np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-5)
    assert found.dtype == np.float32


def test_no_scan_is_its_own_template_and_without_templates_the_atlases_vote():
    one, images = atlas((14, 12), 1), [smooth((14, 12), seed) for seed in (2, 3)]
    itself, other = (with_templates(segment, register, [one], some)(images[0]) for some in (images, images[1:]))
    np.testing.assert_array_equal(itself, other)
    assert np.abs(itself - with_templates(segment, register, [one], images[:1])(images[1])).max() > 0.1
    alone = with_templates(segment, register, [one], [])(images[0])
    np.testing.assert_array_equal(alone, with_atlases(segment, register, [one])(images[0]))
