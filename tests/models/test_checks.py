"""What a method refuses before it trains, in one line: networks, optimizers, weights and batches of another form."""

import numpy as np
import pytest

from deepatlas_tf.keras_stack import keras, tf
from deepatlas_tf.methods.deepatlas import DeepAtlas
from deepatlas_tf.methods.seg_guided import SegGuided
from deepatlas_tf.methods.segmentation import Segmentation
from deepatlas_tf.methods.voxelmorph import VoxelMorph
from deepatlas_tf.models.registration.voxelmorph import registration_net
from deepatlas_tf.models.segmentation.light import light_unet
from deepatlas_tf.types import DataError, SettingError

SHAPE, N_CLASSES = (8, 9), 3


def registers():
    return registration_net(SHAPE, (4, 4), (4, 4, 4))


def segments():
    return light_unet(SHAPE, N_CLASSES, (4, 8))


def sample(**changed):
    """A batch of two; an entry that is None is left out."""
    entries = {
        "image": np.zeros((2, *SHAPE, 1), np.float32),
        "label": np.zeros((2, *SHAPE), np.int32),
        "label_weight": np.ones((2, N_CLASSES), np.float32),
    }
    return {name: value for name, value in {**entries, **changed}.items() if value is not None}


def batches(element):
    return tf.data.Dataset.from_tensors(element)


@pytest.fixture(scope="module")
def method():
    made = DeepAtlas(registers(), segments(), turns=("registration", "segmentation"))
    made.compile()
    return made


CHANGES = {
    "no weights": ({"label_weight": None}, r"label_weight of the batches is missing \(image, label are there\)"),
    "no image": ({"image": None}, "image of the batches is missing"),
    "float64": (
        {"image": np.zeros((2, *SHAPE, 1))},
        r"image of the batches is float64 \(2, 8, 9, 1\), and float32 \(B, \*S, K\) is needed; see docs/conventions",
    ),
    "no channel": ({"image": np.zeros((2, *SHAPE), np.float32)}, r"image .* is float32 \(2, 8, 9\)"),
    "a channel": ({"label": np.zeros((2, *SHAPE, 1), np.int32)}, r"label .* is int32 \(2, 8, 9, 1\), and int32"),
    "int64": ({"label": np.zeros((2, *SHAPE), np.int64)}, r"label .* is int64 .*, and int32 \(B, \*S\) is needed"),
    "one weight": ({"label_weight": np.ones(2, np.float32)}, r"label_weight .* float32 \(2,\), and float32 \(B, C\)"),
    "known": ({"known": np.ones((2, *SHAPE), np.float32)}, r"known .* and float32 \(B, \*S, 1\) is needed"),
}


@pytest.mark.parametrize(("changed", "text"), CHANGES.values(), ids=list(CHANGES))
@pytest.mark.parametrize("side", ["moving", "fixed"])
def test_a_pair_of_another_form_is_named(method, side, changed, text):
    pair = {"moving": sample(), "fixed": sample()} | {side: sample(**changed)}
    with pytest.raises(DataError, match=f"^{side} {text}") as found:
        method.fit(batches(pair), steps_per_epoch=1)
    assert "\n" not in str(found.value) and "docs/conventions.md#arrays" in str(found.value)


def test_what_is_no_pair_and_what_is_no_sample(method):
    with pytest.raises(DataError, match="pairs, dictionaries of the samples moving and fixed, and gives image, label"):
        method.fit(batches(sample()))
    with pytest.raises(DataError, match="and gives a tuple; see docs/conventions.md#arrays"):
        method.fit(batches((sample(), sample())))
    with pytest.raises(DataError, match="fixed has to be a dictionary of image, label, label_weight, not float32"):
        method.fit(batches({"moving": sample(), "fixed": np.zeros(3, np.float32)}))
    alone = Segmentation(segments())
    alone.compile()
    with pytest.raises(DataError, match=r"^image of the batches is missing \(moving, fixed are there\)"):
        alone.fit(batches({"moving": sample(), "fixed": sample()}))


def test_labels_are_needed_where_they_are_used():
    """Of images alone a registration is trained; with the anatomy's weight it takes label maps."""
    unlabelled = sample(label=None, label_weight=None)
    method = VoxelMorph(registers(), N_CLASSES)
    tf.config.run_functions_eagerly(True)  # to compile takes longer
    try:
        method.compile()
        method.fit(batches({"moving": unlabelled, "fixed": unlabelled}), steps_per_epoch=1, verbose=0)
    finally:
        tf.config.run_functions_eagerly(False)
    assert method.steps == 1
    method.compile(weights={"registration": {"anatomy": 1.0}})
    with pytest.raises(DataError, match="^moving label of the batches is missing"):
        method.fit(batches({"moving": unlabelled, "fixed": unlabelled}), steps_per_epoch=1)


class Foreign(keras.Model):
    """A network that knows what it takes once it was called."""

    def __init__(self):
        super().__init__()
        self.layer = keras.layers.Conv2D(2, 1)

    def call(self, inputs, training=None):
        return self.layer(tf.concat(inputs, axis=-1) if isinstance(inputs, list) else inputs)


def test_networks_in_each_others_place_are_refused():
    text = r"the registration network takes 1 image\(s\), 2 needed: DeepAtlas takes registration, segmentation, in this"
    with pytest.raises(SettingError, match=text):
        DeepAtlas(segments(), registers())
    with pytest.raises(SettingError, match=r"the label_registration network takes 1 image\(s\), 2 needed: SegGuided"):
        SegGuided(segments(), segments(), registers())
    with pytest.raises(SettingError, match=r"the segmentation network takes 2 image\(s\), 1 needed"):
        Segmentation(registers())
    called = Foreign()
    DeepAtlas(called, segments())  # which nobody can know yet
    called(tf.zeros((1, *SHAPE, 1)))
    with pytest.raises(SettingError, match="the registration network takes 1 image"):
        DeepAtlas(called, segments())


def test_a_registration_network_gives_a_component_for_each_axis():
    images = [keras.Input((*SHAPE, 1)), keras.Input((*SHAPE, 1))]
    field = keras.layers.Conv2D(3, 1)(keras.layers.Concatenate()(images))
    with pytest.raises(SettingError, match="gives 3 channels, and a displacement field of 2 axes has 2 components"):
        VoxelMorph(keras.Model(images, field), N_CLASSES)


def test_an_optimizer_and_weights_are_of_the_turns(method):
    with pytest.raises(SettingError, match="no turn 'segmentaton' for an optimizer; there are registration, segm"):
        method.compile({"segmentaton": keras.optimizers.Adam()})
    with pytest.raises(SettingError, match="the turn segmentation has nothing to learn"):
        method.compile(weights={"segmentation": {"anatomy": 0.0}})
    with pytest.raises(SettingError, match="unknown weight registration/anatomi"):
        method.compile(weights={"registration": {"anatomi": 1.0}})
