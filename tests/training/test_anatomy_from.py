"""A stage whose registration network sees the anatomy that an earlier stage's segmentation network predicts."""

from types import SimpleNamespace

import numpy as np
import pytest

from deepatlas_tf.keras_stack import keras, tf
from deepatlas_tf.models.anatomy import ANATOMY, IMAGES, STEP, sees_anatomy
from deepatlas_tf.models.networks import Networks
from deepatlas_tf.models.registration.learned_demons import LearnedDemons
from deepatlas_tf.models.segmentation.light import Light, light_unet
from deepatlas_tf.runs.folder import net_path
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


@pytest.mark.long
def test_the_networks_within_are_not_trained(guide, tmp_path):
    """Their weights stay, also while the stage's own segmentation network changes; those of the new step change."""
    method = build_method(JOINT, DEMONS, DATASET, tmp_path)
    registration = method.nets["registration"]
    of_images, within, step = map(registration.get_layer, (IMAGES, ANATOMY, STEP))
    pair = {side: make_sample(SHAPE, seed, [(1, 1, 1)]) for side, seed in (("moving", 0), ("fixed", 1))}
    pair = tf.nest.map_structure(tf.constant, pair)
    started, kept = (values(step), values(method.nets["segmentation"])), values(of_images)
    for turn in ("registration", "segmentation"):
        method.update(turn, pair)
    for before, now in zip([*values(guide), *kept], [*values(within), *values(of_images)], strict=True):
        np.testing.assert_array_equal(now, before)
    changed = [
        any((a != b).any() for a, b in zip(before, values(net), strict=True))
        for before, net in zip(started, (step, method.nets["segmentation"]), strict=True)
    ]
    assert changed == [True, True]


@pytest.mark.slow
def test_a_later_stage_keeps_what_it_starts_from(guide, tmp_path):
    first = build_method(JOINT, DEMONS, DATASET, tmp_path)
    path = net_path(tmp_path, "deepatlas", "registration")
    path.parent.mkdir(parents=True)
    first.nets["registration"].save(path)
    start = {"registration": "deepatlas"}
    later = Stage("later", "deepatlas", steps=10, turns={"registration": 1, "segmentation": 0}, start_from=start)
    net = build_method(later, DEMONS, DATASET, tmp_path).nets["registration"]
    assert sees_anatomy(net)
    for before, now in zip(values(first.nets["registration"]), values(net), strict=True):
        np.testing.assert_array_equal(now, before)


def test_what_cannot_be():
    with pytest.raises(SettingError, match="deepatlas starts from first, which is no earlier stage"):
        Experiment("e", Data("nifti"), (JOINT,))
    with pytest.raises(SettingError, match="segmentation has no registration network"):
        Stage("alone", "segmentation", steps=1, anatomy_from="first")
