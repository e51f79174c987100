"""Every method with networks from elsewhere: subclasses of ``keras.Model``, and functional models that hold one."""

from types import SimpleNamespace

import numpy as np
import pytest

from deepatlas_tf.keras_stack import keras, tf
from deepatlas_tf.methods import method_class, method_names
from deepatlas_tf.models.build import load_net
from deepatlas_tf.models.network import interface
from deepatlas_tf.models.networks import Networks
from deepatlas_tf.training import build_method as building
from deepatlas_tf.training.experiment import Stage

SHAPE, CLASSES = (8, 9), ("background", "one", "two")


@keras.utils.register_keras_serializable("tests")
class Foreign(keras.Model):
    """One convolution of an image, or of two beside each other."""

    def __init__(self, channels, activation=None, **kwargs):
        super().__init__(**kwargs)
        self.conv = keras.layers.Conv2D(channels, 3, padding="same", activation=activation)

    def get_config(self):
        return {"name": self.name, "channels": self.conv.filters, "activation": self.conv.get_config()["activation"]}

    def call(self, inputs, training=None):
        return self.conv(tf.concat(inputs, axis=-1) if isinstance(inputs, list) else inputs)


def foreign_net(role, shape, subclassed):
    """A network for one of the roles that a method has for them."""
    needed = interface(role, len(shape), len(CLASSES))
    two, size = needed.images == 2, (*shape, needed.channels)
    net = Foreign(needed.outputs, {"segmentation": "softmax", "generator": "sigmoid"}.get(role))
    if subclassed:
        net([tf.zeros((1, *size))] * 2 if two else tf.zeros((1, *size)))
        return net
    inputs = [keras.Input(size), keras.Input(size)] if two else keras.Input(size)
    return keras.Model(inputs, net(inputs))


def make_batch(stream):
    rng = np.random.default_rng(0)

    def sample(weight):
        return {
            "image": rng.random((2, *SHAPE, 1), dtype=np.float32),
            "label": rng.integers(0, len(CLASSES), (2, *SHAPE)).astype(np.int32),
            "label_weight": np.full((2, len(CLASSES)), weight, np.float32),
            "subject": np.array(["a", "b"]),
        }

    return sample(1) if stream == "samples" else {"moving": sample(1), "fixed": sample(0)}


@pytest.mark.parametrize("subclassed", [True, False], ids=["subclassed", "functional"])
@pytest.mark.parametrize("name", method_names())
def test_any_keras_model_can_be_a_network(name, subclassed, monkeypatch, tmp_path):
    monkeypatch.setattr(building, "build_net", lambda role, _, shape, *sizes: foreign_net(role, shape, subclassed))
    turns = dict.fromkeys((turn for turn, n in method_class(name).default_turns.items() if n), 1)
    stage = Stage("stage", name, steps=10, turns=turns)
    keras.utils.set_random_seed(0)
    method = building.build_method(
        stage,
        Networks(),
        SimpleNamespace(shape=SHAPE, class_names=CLASSES, partial_labels=True, channel_names=("image",)),
        None,
    )
    before = {net: method.nets[net].get_weights() for net in method.nets}
    batch = make_batch(method.stream)
    tf.config.run_functions_eagerly(True)  # to compile takes much longer
    try:
        for turn in method.turns:
            method.update(turn, batch)
    finally:
        tf.config.run_functions_eagerly(False)
    assert np.all(np.isfinite(list(method.get_metrics_result().values())))
    updated = {net for turn in method.turns for net in method.nets_of(turn)}
    for net, model in method.nets.items():
        changed = not all(map(np.array_equal, before[net], model.get_weights()))
        assert changed == (net in updated), net
        images = [batch.get("moving", batch)["image"]] * (2 if "registration" in net else 1)
        images = images if len(images) > 1 else images[0]
        model.save(tmp_path / f"{net}.keras")
        loaded = load_net(tmp_path / f"{net}.keras")
        np.testing.assert_array_equal(loaded(images), model(images, training=False))
