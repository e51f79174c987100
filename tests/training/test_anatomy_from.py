"""A stage whose registration network sees the anatomy that an earlier stage's segmentation network predicts."""

from types import SimpleNamespace

import numpy as np
import pytest

from deepatlas_tf.keras_stack import keras, tf
from deepatlas_tf.models.anatomy import set_anatomy_gain
from deepatlas_tf.models.networks import Networks
from deepatlas_tf.models.registration.learned_demons import LearnedDemons
from deepatlas_tf.models.registration.voxelmorph import VoxelMorphRegistration
from deepatlas_tf.models.segmentation.light import Light, light_unet
from deepatlas_tf.runs.folder import net_path
from deepatlas_tf.training.anatomy import begin_with_anatomy
from deepatlas_tf.training.build_method import build_method
from deepatlas_tf.training.experiment import Data, Experiment, Stage
from deepatlas_tf.types import SettingError
from tests.conformance.test_methods import make_sample

SHAPE, CLASSES = (16, 16), ("background", "one", "two")
DATASET = SimpleNamespace(shape=SHAPE, class_names=CLASSES, partial_labels=True, channel_names=("image",))
DEMONS = Networks(LearnedDemons(steps=(1, 1), width=4), Light((4, 8)))
JOINT = Stage("deepatlas", "deepatlas", steps=10, turns={"registration": 1, "segmentation": 1}, anatomy_from="first")


@pytest.fixture
def guide(tmp_path):
    """A segmentation network that the stage ``first`` has saved."""
    keras.utils.set_random_seed(1)
    net, path = light_unet(SHAPE, len(CLASSES), (4, 8)), net_path(tmp_path, "first", "segmentation")
    path.parent.mkdir(parents=True)
    net.save(path)
    return net


def values(net):
    return [weight.numpy() for weight in net.weights]


def test_the_network_within_is_not_trained(guide, tmp_path):
    """Its weights stay, also while the stage's own segmentation network changes."""
    method = build_method(JOINT, DEMONS, DATASET, tmp_path)
    registration = method.nets["registration"]
    set_anatomy_gain(registration, 0.3)
    within = next(layer for layer in registration.layers if layer.name == "segmentation")
    pair = {side: make_sample(SHAPE, seed, [(1, 1, 1)]) for side, seed in (("moving", 0), ("fixed", 1))}
    pair = tf.nest.map_structure(tf.constant, pair)
    started = values(registration), values(method.nets["segmentation"])
    for turn in ("registration", "segmentation"):
        method.update(turn, pair)
    for before, now in zip(values(guide), values(within), strict=True):
        np.testing.assert_array_equal(now, before)
    changed = [
        any((a != b).any() for a, b in zip(before, values(method.nets[name]), strict=True))
        for before, name in zip(started, ("registration", "segmentation"), strict=True)
    ]
    assert changed == [True, True]


def test_another_network_sees_the_images_alone_and_says_so(guide, tmp_path, capsys):
    networks = Networks(VoxelMorphRegistration((4, 4), (4, 4, 4)), Light((4, 8)))
    method = build_method(JOINT, networks, DATASET, tmp_path)
    assert "[deepatlas] the registration network sees the images alone" in capsys.readouterr().out
    assert all(layer.name != "segmentation" for layer in method.nets["registration"].layers)


class Scores:
    """A validation that finds the scores of a list, one after the other."""

    def __init__(self, *scores):
        self.scores = iter(scores)

    def registration(self):
        score = next(self.scores)
        return {} if score is None else {"val_registration_dice": score}


@pytest.mark.parametrize(
    ("scores", "gain"),
    [((0.5, 0.7, 0.6), 0.3), ((0.5, 0.6, 0.7), 0.7), ((0.7, 0.6, 0.5), 0), ((0.7, 0.7, 0.7), 0), ((None,) * 3, 0.3)],
)
def test_it_begins_with_the_gain_that_is_best_in_validation(guide, tmp_path, scores, gain, capsys):
    net = build_method(JOINT, DEMONS, DATASET, tmp_path).nets["registration"]
    begin_with_anatomy(net, Scores(*scores), tf.distribute.get_strategy(), "deepatlas")
    kernel = net.get_layer("level0").get_layer("level0_smooth").get_weights()[0]
    np.testing.assert_allclose(kernel[..., 2:4, :], gain * kernel[..., :2, :], rtol=1e-6)
    assert f"begins with {gain:g} of that of the images" in capsys.readouterr().out


def test_what_it_has_learned_is_not_set_again(guide, tmp_path):
    net = build_method(JOINT, DEMONS, DATASET, tmp_path).nets["registration"]
    set_anatomy_gain(net, 0.5)
    begin_with_anatomy(net, Scores(), tf.distribute.get_strategy(), "deepatlas")
    kernel = net.get_layer("level0").get_layer("level0_smooth").get_weights()[0]
    np.testing.assert_allclose(kernel[..., 2:4, :], 0.5 * kernel[..., :2, :], rtol=1e-6)


def test_what_cannot_be():
    with pytest.raises(SettingError, match="deepatlas starts from first, which is no earlier stage"):
        Experiment("e", Data("nifti"), (JOINT,))
    with pytest.raises(SettingError, match="segmentation has no registration network"):
        Stage("alone", "segmentation", steps=1, anatomy_from="first")
