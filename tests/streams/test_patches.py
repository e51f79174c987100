"""Patches against plain NumPy, and how often each class is seen."""

import numpy as np
import pytest

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.streams.pairs import StreamSettings, sample_stream
from deepatlas_tf.streams.patches import Patches, random_patch, with_voxel_weight
from deepatlas_tf.types import SettingError

GRIDS = {"2D": ((20, 17), (7, 6)), "3D": (((14, 9, 12)), (5, 4, 12))}
UNKNOWN = 3  # one more than the classes


def make_sample(shape, weight=(1, 1, 1)):
    """An image of the voxels' numbers; many voxels of class 1, few of class 2, some that are not known."""
    number = np.arange(np.prod(shape)).reshape(shape)
    label = np.where(number % 7 == 0, 1, 0)
    label.flat[[5, 40, 91]] = 2
    label.flat[100:120] = UNKNOWN
    image = number[..., None].astype(np.float32)
    return {"image": image, "label": label.astype(np.uint8), "label_weight": np.array(weight, np.float32)}


def drawn(sample, patches, n):
    """The patches of so many seeds, in a function of TensorFlow, as arrays with a first axis more."""
    sample = {name: tf.constant(value) for name, value in sample.items()}
    seeds = tf.data.Dataset.from_tensor_slices(tf.random.split([4, 2], n))
    found = seeds.map(lambda seed: random_patch(sample, patches, seed)).batch(n)
    return {name: value.numpy() for name, value in next(iter(found)).items()}


@pytest.mark.parametrize("balanced", [0.0, 1.0])
@pytest.mark.parametrize("dimension", GRIDS)
def test_a_patch_is_what_numpy_cuts(dimension, balanced):
    shape, size = GRIDS[dimension]
    sample = make_sample(shape)
    found = drawn(sample, Patches(shape=size, balanced=balanced), 200)
    corners = [np.unravel_index(int(image.flat[0]), shape) for image in found["image"]]
    for corner, image, label in zip(corners, found["image"], found["label"], strict=True):
        where = tuple(slice(start, start + n) for start, n in zip(corner, size, strict=True))
        np.testing.assert_array_equal(image, sample["image"][where])
        np.testing.assert_array_equal(label, sample["label"][where])
    assert found["label"].dtype == np.uint8
    for axis, (n, m) in enumerate(zip(shape, size, strict=True)):  # they reach both borders
        assert {corner[axis] for corner in corners} >= {0, n - m}


def test_eagerly_it_is_the_same():
    shape, size = GRIDS["3D"]
    sample, seed = make_sample(shape), tf.random.split([4, 2], 200)[0]
    eager = random_patch({k: tf.constant(v) for k, v in sample.items()}, Patches(shape=size), seed)
    np.testing.assert_array_equal(eager["image"], drawn(sample, Patches(shape=size), 200)["image"][0])


def test_classes_are_drawn_evenly_and_their_voxels_too():
    """With patches of one voxel. Bounds are five standard deviations of the counts."""
    sample, n = make_sample((20, 17)), 3000
    one = Patches(shape=(1, 1), balanced=1.0)
    found = drawn(sample, one, n)
    label, number = found["label"].ravel(), found["image"].ravel().astype(int)
    counts = np.bincount(label, minlength=4)
    assert counts[0] == counts[UNKNOWN] == 0
    assert abs(counts[1] - n / 2) < 5 * np.sqrt(n / 4)
    rare = np.bincount(number[label == 2], minlength=92)[[5, 40, 91]]
    assert rare.sum() == counts[2] and np.all(abs(rare - n / 6) < 5 * np.sqrt(n / 6))
    share = drawn(sample, Patches(shape=(1, 1), balanced=0.5), n)["label"].ravel() == 2
    expected = 0.5 * 0.5 + 0.5 * 3 / 340  # of either kind of patch
    assert abs(share.mean() - expected) < 5 * np.sqrt(expected * (1 - expected) / n)


def test_without_balance_all_places_are_equally_likely():
    sample = make_sample((20, 17))
    found = drawn(sample, Patches(shape=(18, 17), balanced=0.0), 1500)["image"][:, 0, 0, 0].astype(int) // 17
    assert np.all(abs(np.bincount(found, minlength=3) - 500) < 5 * np.sqrt(500))


def test_a_class_that_is_not_labelled_is_not_looked_for():
    labels = drawn(make_sample((20, 17), weight=(0, 1, 0)), Patches(shape=(1, 1), balanced=1.0), 100)["label"]
    assert np.all(labels == 1)
    nothing = drawn(make_sample((20, 17), weight=(0, 0, 0)), Patches(shape=(1, 1), balanced=1.0), 300)["label"]
    assert set(np.unique(nothing)) >= {0, 1}  # anywhere


def test_what_is_not_known_has_no_weight():
    sample = make_sample((14, 9, 12))
    found = with_voxel_weight({**sample, "label": tf.constant(sample["label"], tf.int32)})
    known = sample["label"] != UNKNOWN
    np.testing.assert_array_equal(found["voxel_weight"], known[..., None].astype(np.float32))
    np.testing.assert_array_equal(found["label"], np.where(known, sample["label"], 0))


def test_a_stream_of_patches_is_resumed_exactly():
    shape, size = GRIDS["3D"]
    one = make_sample(shape)
    both = {name: np.stack([value, value]) for name, value in one.items()} | {"subject": ["a", "b"]}
    settings = StreamSettings(batch_size=2, steps_per_epoch=2, seed=3, patches=Patches(shape=size))
    streams = [
        sample_stream(tf.data.Dataset.from_tensor_slices(both), ("a", "b"), ("a",), None, settings, epoch)
        for epoch in (0, 1)
    ]
    first, resumed = ([batch for batch in s.take(4).as_numpy_iterator()] for s in streams)
    assert first[0]["image"].shape == (2, *size, 1) and first[0]["voxel_weight"].shape == (2, *size, 1)
    assert first[0]["label"].dtype == np.int32 and first[0]["label"].max() < UNKNOWN
    for name in ("image", "label", "voxel_weight", "subject"):
        np.testing.assert_array_equal(first[2][name], resumed[0][name])
    assert not np.array_equal(first[0]["image"], first[2]["image"])


def test_the_shape_of_patches():
    assert Patches().fitted((48, 64, 48), (160, 200, 40)) == (48, 64, 40)
    assert Patches(shape=(32, 32, 32)).fitted((48, 64, 48), (160, 200, 40)) == (32, 32, 32)
    for shape in ((32, 32, 48), (32, 32), (0, 32, 32)):
        with pytest.raises(SettingError, match="a patch has at most the 160 x 200 x 40 voxels of the scans"):
            Patches(shape=shape).fitted((48, 64, 48), (160, 200, 40))
    with pytest.raises(SettingError, match="between 0 and 1"):
        Patches(balanced=2.0)
    with pytest.raises(SettingError, match="one value for each axis"):
        Patches(spacing=1.0)
