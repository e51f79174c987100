import dataclasses

import numpy as np
import pytest
import scipy.ndimage

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.streams import augment as module
from deepatlas_tf.streams.augment import Augmentation, augment, augment_geometry, augment_intensity

SHAPES = [(20, 14), (16, 12, 10)]
OFF = Augmentation(
    **{f.name: 0 for f in dataclasses.fields(Augmentation) if f.name not in ("flip_axes", "control_points")}
)


def make_sample(shape, seed=0):
    rng = np.random.RandomState(seed)
    return {
        "image": tf.constant(rng.rand(*shape, 1), tf.float32),
        "label": tf.constant(rng.randint(0, 4, shape), tf.int32),
        "label_weight": tf.constant(0.5),
        "subject": tf.constant("a"),
    }


def ramp_sample(shape, axis):
    """The label is the voxel's index along ``axis``, the image the same index scaled to [0, 1]."""
    index = np.indices(shape)[axis]
    return {
        **make_sample(shape),
        "image": tf.constant(index[..., None] / (shape[axis] - 1), tf.float32),
        "label": tf.constant(index, tf.int32),
    }


@pytest.mark.parametrize("shape", SHAPES)
def test_everything_off_returns_the_very_same_tensors(shape):
    sample = make_sample(shape)
    changed = augment(sample, OFF, tf.constant([1, 2]))
    assert all(changed[name] is sample[name] for name in sample)


@pytest.mark.parametrize("shape", SHAPES)
def test_affine_agrees_with_scipy(shape):
    rng = np.random.RandomState(1)
    rank, sample = len(shape), make_sample(shape)
    matrix, offset = np.eye(rank) + 0.2 * rng.randn(rank, rank), rng.uniform(-2, 2, rank)
    positions = module.affine_positions(shape, tf.constant(matrix, tf.float32), tf.constant(offset, tf.float32))
    image, label = module.resample(sample["image"], sample["label"], positions)

    centre = (np.array(shape) - 1) / 2
    scipy_offset = centre - matrix @ centre + offset
    options = {"offset": scipy_offset, "mode": "nearest"}
    expected = scipy.ndimage.affine_transform(sample["image"].numpy()[..., 0], matrix, order=1, **options)
    np.testing.assert_allclose(image.numpy()[..., 0], expected, atol=2e-5)
    expected = scipy.ndimage.affine_transform(sample["label"].numpy(), matrix, order=0, **options)
    np.testing.assert_array_equal(label, expected)


@pytest.mark.parametrize("rank", [2, 3])
def test_random_affine_stays_within_its_settings(rank):
    turns = dataclasses.replace(OFF, rotation_degrees=30.0)
    scales = dataclasses.replace(OFF, scale=0.2)
    shifts = dataclasses.replace(OFF, translation_voxels=3.0)
    factors, traces, offsets = [], [], []
    for i in range(40):
        matrix, offset = module.random_affine(rank, turns, tf.constant([i, 0]))
        np.testing.assert_allclose(matrix @ tf.transpose(matrix), np.eye(rank), atol=1e-5)
        assert np.linalg.det(matrix) == pytest.approx(1, abs=1e-5)
        assert not np.any(offset)
        traces.append(np.trace(matrix))
        matrix, _ = module.random_affine(rank, scales, tf.constant([i, 0]))
        np.testing.assert_allclose(matrix, np.diag(np.diag(matrix)))
        factors.append(1 / np.diag(matrix))
        matrix, offset = module.random_affine(rank, shifts, tf.constant([i, 0]))
        np.testing.assert_allclose(matrix, np.eye(rank))
        offsets.append(offset)
    if rank == 2:  # the trace of a rotation in the plane is twice the cosine
        assert 2 * np.cos(np.radians(30)) - 1e-5 <= min(traces) < 2 * np.cos(np.radians(20))
    assert 0.8 <= np.min(factors) < 0.85 and 1.15 < np.max(factors) <= 1.2
    assert 2.5 < np.abs(offsets).max() <= 3.0


@pytest.mark.parametrize("shape", SHAPES)
def test_flip_mirrors_image_and_label_along_the_chosen_axis_only(shape):
    sample = make_sample(shape)
    settings = dataclasses.replace(OFF, flip_axes=(1,))
    seen = set()
    for i in range(12):
        changed = augment(sample, settings, tf.constant([i, 3]))
        for flipped, axes in ((False, ()), (True, (1,))):
            if np.array_equal(changed["label"], np.flip(sample["label"], axes)):
                np.testing.assert_allclose(changed["image"], np.flip(sample["image"], axes), atol=1e-6)
                seen.add(flipped)
    assert seen == {False, True}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("axis", [0, 1])
def test_image_and_label_move_together(shape, axis):
    sample = ramp_sample(shape, axis)
    for i in range(3):
        settings = Augmentation(rotation_degrees=20, elastic_voxels=2.0)
        changed = augment_geometry(sample, settings, tf.constant([i, 0]))
        index = changed["image"].numpy()[..., 0] * (shape[axis] - 1)
        assert np.abs(index - sample["label"].numpy()).max() > 1  # it did move
        assert np.abs(index - changed["label"].numpy()).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("shape", [(33, 33), (33, 33, 17)])
def test_elastic_displacement_has_the_stated_size_and_is_smooth(shape):
    settings = dataclasses.replace(OFF, elastic_voxels=1.0)
    index = []
    for i in range(30):
        changed = augment_geometry(ramp_sample(shape, 0), settings, tf.constant([i, 0]))
        index.append(changed["image"].numpy()[..., 0] * (shape[0] - 1))
    displacement = (np.array(index) - np.indices(shape)[0])[:, 4:-4]  # away from the border, where it is clamped
    assert 0.25 < displacement.std() < 0.6
    assert np.abs(np.diff(displacement, axis=1)).max() < 0.5


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_same_seed_same_sample_eager_and_in_a_pipeline(shape):
    sample, settings = make_sample(shape), Augmentation()
    eager = augment(sample, settings, tf.constant([5, 6]))
    pipeline = tf.data.Dataset.from_tensors(sample).map(lambda s: augment(s, settings, tf.constant([5, 6])))
    graph = next(iter(pipeline))
    np.testing.assert_allclose(eager["image"], graph["image"], atol=1e-5)
    np.testing.assert_array_equal(eager["label"], graph["label"])
    assert pipeline.element_spec["image"].shape == (*shape, 1)
    assert eager["label"].dtype == tf.int32 and eager["label_weight"] == 0.5 and eager["subject"] == b"a"
    other = augment(sample, settings, tf.constant([5, 7]))
    assert np.abs(other["image"] - eager["image"]).mean() > 0.01


@pytest.mark.parametrize("part", ["gamma", "contrast", "brightness", "bias_field", "noise"])
@pytest.mark.parametrize("shape", SHAPES)
def test_each_intensity_part_alone_changes_the_image_within_bounds(shape, part):
    sample = make_sample(shape)
    settings = dataclasses.replace(OFF, **{part: 0.3})
    changed = augment(sample, settings, tf.constant([1, 2]))
    assert changed["label"] is sample["label"]
    assert np.abs(changed["image"] - sample["image"]).max() > 1e-3
    assert 0 <= np.min(changed["image"]) and np.max(changed["image"]) <= 1


def test_gamma_and_contrast_have_their_closed_forms():
    image = tf.fill((8, 8, 1), 0.5)
    for i in range(20):
        exponent = np.log(augment_intensity(image, dataclasses.replace(OFF, gamma=0.5), tf.constant([i, 0]))) / np.log(
            0.5
        )
        assert np.ptp(exponent) < 1e-5 and 1 / 1.5 <= exponent.mean() <= 1.5
        gain = augment_intensity(image, dataclasses.replace(OFF, contrast=0.2), tf.constant([i, 0])) / 0.5
        assert np.ptp(gain) < 1e-5 and 0.8 <= np.mean(gain) <= 1.2


def test_noise_is_white_and_at_most_as_strong_as_set():
    image = tf.fill((64, 64, 1), 0.5)
    settings = dataclasses.replace(OFF, noise=0.05)
    noise = [augment_intensity(image, settings, tf.constant([i, 0])).numpy()[..., 0] - 0.5 for i in range(20)]
    levels = np.std(noise, axis=(1, 2))
    assert levels.min() < 0.02 and 0.04 < levels.max() < 0.053
    neighbours = np.corrcoef(noise[0][1:].ravel(), noise[0][:-1].ravel())[0, 1]
    assert abs(neighbours) < 0.06


@pytest.mark.parametrize("shape", SHAPES)
def test_channels_move_together_and_change_their_intensities_each_for_itself(shape):
    one = make_sample(shape)
    soft = tf.constant(np.random.default_rng(0).dirichlet(np.ones(3), shape), tf.float32)
    twice = {**one, "image": tf.concat([one["image"]] * 2, axis=-1), "soft_label": soft}
    seed = tf.constant([3, 4])
    moved, alone = (augment_geometry(sample, Augmentation(), seed) for sample in (twice, one))
    np.testing.assert_allclose(moved["image"], tf.concat([alone["image"]] * 2, axis=-1), atol=1e-6)
    np.testing.assert_array_equal(moved["label"], alone["label"])
    assert moved["soft_label"].shape == (*shape, 3)
    changed = augment_intensity(twice["image"], Augmentation(), seed)
    seeds = tf.unstack(tf.random.split(seed, 2))
    expected = [augment_intensity(one["image"], Augmentation(), own) for own in seeds]
    np.testing.assert_allclose(changed, tf.concat(expected, axis=-1), atol=1e-6)
    assert np.abs(changed[..., 0] - changed[..., 1]).max() > 0.01
