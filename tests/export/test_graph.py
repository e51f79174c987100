"""The rescaling of intensities inside the exported graph."""

import numpy as np
import pytest

from deepatlas_tf.export.card import model_card
from deepatlas_tf.export.graph import rescale
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
