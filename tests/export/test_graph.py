"""The rescaling of intensities inside the exported graph."""

import numpy as np
import pytest

from deepatlas_tf.export.card import model_card
from deepatlas_tf.export.graph import Served, rescale
from deepatlas_tf.keras_stack import keras, tf
from deepatlas_tf.scans import intensity

RNG = np.random.default_rng(0)
OUTLIER = RNG.gamma(2, 100, (9, 8, 7)).astype(np.float32)
OUTLIER[4, 4, 4] = 5e5
SKULL_STRIPPED = np.where(RNG.random((30, 20, 11)) < 0.6, 0, RNG.gamma(3, 80, (30, 20, 11))).astype(np.float32)


@pytest.mark.parametrize(
    "image",
    [
        RNG.normal(size=(13, 11, 5)).astype(np.float32) * 300 - 700,
        OUTLIER,
        SKULL_STRIPPED,
        np.zeros((4, 5, 6), np.float32),
        np.full((4, 5, 6), 7.0, np.float32),
        np.where(np.arange(120).reshape(4, 5, 6) == 50, 3, 0).astype(np.float32),  # one voxel that is not 0
        np.where(np.arange(120).reshape(4, 5, 6) < 60, -2, 0).astype(np.float32),  # the percentiles coincide
        RNG.random((37, 41)).astype(np.float32),
        RNG.integers(0, 4096, (128, 128, 70)).astype(np.float32),
        np.exp(8 * RNG.normal(size=(20, 21, 22))).astype(np.float32),  # over 24 orders of magnitude
    ],
)
def test_it_is_that_of_the_data(image):
    np.testing.assert_allclose(rescale(image[None, ..., None]).numpy()[0, ..., 0], intensity.rescale(image), atol=1e-5)


def test_each_image_of_a_batch_for_itself():
    images = np.stack([SKULL_STRIPPED, np.zeros_like(SKULL_STRIPPED), 50 - 2 * SKULL_STRIPPED])
    expected = np.stack([intensity.rescale(image) for image in images])
    np.testing.assert_allclose(rescale(images[..., None]).numpy()[..., 0], expected, atol=1e-5)


def test_each_channel_for_itself():
    image = np.stack([OUTLIER, 7 - OUTLIER, np.zeros_like(OUTLIER)], axis=-1)
    expected = np.stack([intensity.rescale(image[..., k]) for k in range(3)], axis=-1)
    np.testing.assert_allclose(rescale(image[None]).numpy()[0], expected, atol=1e-5)


@pytest.fixture(scope="module")
def signatures(tmp_path_factory):
    """Of saved networks of two channels, as a server has them."""
    image, moving, fixed = (keras.Input((None, None, None, 2)) for _ in range(3))
    segmentation = keras.Model(image, keras.layers.Conv3D(3, 1, activation="softmax")(image))
    pair = keras.layers.Concatenate()([moving, fixed])
    registration = keras.Model([moving, fixed], keras.layers.Conv3D(3, 1)(pair))
    served, folder = Served(3, segmentation, registration), str(tmp_path_factory.mktemp("served"))
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(served, folder, signatures=served.functions, options=options)
    return tf.saved_model.load(folder).signatures


def ask(signatures, name, *images):
    names = ["image"] if "segment" in name else ["moving", "fixed"]
    return signatures[name](**{one: tf.constant(image, tf.float32) for one, image in zip(names, images, strict=True)})


GOOD = RNG.random((1, 6, 5, 4, 2))


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["", "_rescaled"])
@pytest.mark.parametrize("shape", [(1, 6, 5, 4, 1), (1, 6, 5, 4, 3), (6, 5, 4, 2), (6, 5, 4), (), (1, 1, 6, 5, 4, 2)])
def test_a_request_of_another_form_is_refused(signatures, suffix, shape):
    needed = r"5 axes \(batch, x, y, z, channel\) with 2 channels are needed; the shape given is\] \["
    shown = " ".join(map(str, shape))
    bad = np.zeros(shape)
    for name, images, given in (
        ("image", [bad], "segment"),
        ("moving", [bad, GOOD], "register"),
        ("fixed", [GOOD, bad], "register"),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match=rf"\[{name}: {needed}{shown}\]"):
            ask(signatures, given + suffix, *images)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["", "_rescaled"])
def test_a_pair_of_two_shapes_is_refused(signatures, suffix):
    message = r"moving and fixed: images of one shape are needed; the shapes given are\] \[1 5 5 4 2\] \[1 6 5 4 2\]"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        ask(signatures, f"register{suffix}", GOOD[:, 1:], GOOD)


@pytest.mark.slow
def test_what_has_to_be_rescaled_is_not_taken_for_rescaled(signatures):
    for bad in (100 * GOOD, GOOD - 0.5):
        assert ask(signatures, "segment", bad)["labels"].shape == (1, 6, 5, 4)
        with pytest.raises(tf.errors.InvalidArgumentError, match="image: values from 0 to 1.* segment rescales others"):
            ask(signatures, "segment_rescaled", bad)
        with pytest.raises(tf.errors.InvalidArgumentError, match="fixed: values from 0 to 1.* register rescales other"):
            ask(signatures, "register_rescaled", GOOD, bad)
    ask(signatures, "register_rescaled", GOOD, np.clip(2 * GOOD, -5e-4, 1 + 5e-4))


def test_the_card_has_the_measured_numbers():
    dice = {"mean": 0.81234, "per_class": {"femur": 0.9, "tibia": None}}
    distance = {"mean": 2.5, "per_class": {"femur": 2.0, "tibia": 3.0}}
    about = {
        "class_names": ["background", "femur", "tibia"],
        "shape": [40, 48, 40],
        "spacing": [3.0, 3.0, 3.5],
        "orientation": "RAS",
        "dataset": "hippocampus",
        "synthetic": False,
        "training_labels": 5,
        "labels_used": "5 of 40 training subjects",
        "trial": False,
        "stages": {"segmentation": "deepatlas", "registration": None},
        "measured": {"segmentation": {"dice": dice, "hd95_mm": distance}},
        "model_version": 2,
        "deepatlas_tf_version": "1.0",
        "versions": {"tensorflow": "2.15.1", "voxelmorph": "0.2"},
    }
    card = model_card(about)
    assert "| femur | 0.900 | 2.000 |\n| tibia | - | 3.000 |\n| mean | 0.812 | 2.500 |" in card
    assert "Input: one channel, voxels" in card
    assert "Specks" not in card
    assert "- Specks of tibia, components of less than 0.2 of" in model_card({**about, "without_specks": [2]})
    assert "Input: 2 channels on the last axis, t1, t2 in this order," in model_card(
        {**about, "channel_names": ["t1", "t2"]}
    )
    assert (
        "3 x 3 x 3.5 mm" in card
        and "with label maps of 5 of 40 training subjects" in card
        and "trial" not in card
        and "synthetic" not in card
    )
    assert "registration" not in card.split("##")[0]
    assert "give 40 x 48 x 40 voxels" in card and "NaN or infinite are refused" in card
    assert "deepatlas segment` writes" not in card  # 0, 1 and 2, as in an export of an earlier version
    own = model_card({**about, "class_numbers": [0, 17, 4]})
    assert (
        "`deepatlas segment` writes have those of the label files of training: 0 background, 17 femur, 4 tibia." in own
    )
    assert model_card({**about, "class_numbers": [0, 1, 2]}) == model_card({**about, "class_numbers": None}) == card
    unmeasured = model_card({**about, "measured": {}, "synthetic": True, "trial": True})
    assert "Not measured" in unmeasured and "nothing is known of its results on real scans" in unmeasured
