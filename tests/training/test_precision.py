"""Networks that compute in 16 bits: everything else stays float32, they learn, and they are the same when reloaded."""

from types import SimpleNamespace

import numpy as np
import pytest

from deepatlas_tf.keras_stack import keras, tf
from deepatlas_tf.methods import base
from deepatlas_tf.models.build import build_net, load_net
from deepatlas_tf.models.networks import Networks
from deepatlas_tf.models.registration.cascade import Cascade
from deepatlas_tf.models.registration.pyramid import Pyramid
from deepatlas_tf.models.registration.voxelmorph import VoxelMorphRegistration
from deepatlas_tf.models.segmentation.light import Light
from deepatlas_tf.training.build_method import build_method
from deepatlas_tf.training.experiment import Stage
from deepatlas_tf.types import SettingError

CLASSES = ("background", "one", "two")
SHAPES = {"2D": (16, 16), "3D": (8, 8, 8)}


NARROW = VoxelMorphRegistration((4, 4), (4, 4, 4))


def networks(precision, registration=NARROW):
    return Networks(registration, Light((4, 8)), precision=precision)


def joint_method(precision, shape):
    keras.utils.set_random_seed(0)
    stage = Stage("joint", "deepatlas", 100, turns={"registration": 1, "segmentation": 1})
    return build_method(
        stage,
        networks(precision),
        SimpleNamespace(shape=shape, class_names=CLASSES, partial_labels=True, channel_names=("image",)),
        None,
    )


def pair(shape):
    """Two smooth images in which the label follows from the intensity."""
    ramps = np.meshgrid(*(np.linspace(0, 1, n, dtype=np.float32) for n in shape), indexing="ij")
    sides = {}
    for name, exponent in (("moving", 1.0), ("fixed", 1.5)):
        image = (sum(ramps) / len(shape)) ** exponent
        label = np.digitize(image, [0.4, 0.7]).astype(np.int32)
        sides[name] = {"image": image[None, ..., None], "label": label[None], "label_weight": np.ones((1, 3), "f")}
    return tf.nest.map_structure(tf.constant, sides)


@pytest.mark.long
@pytest.mark.parametrize("dimension", SHAPES)
def test_networks_in_bfloat16_learn_and_all_else_is_float32(dimension, tmp_path):
    shape = SHAPES[dimension]
    method, data = joint_method("mixed_bfloat16", shape), pair(shape)
    segmentation, registration = method.nets["segmentation"], method.nets["registration"]
    assert segmentation.get_layer("down0_conv0").compute_dtype == "bfloat16"
    assert registration.get_layer("unet_enc_conv_0_0").compute_dtype == "bfloat16"
    images = [data["moving"]["image"], data["fixed"]["image"]]
    outputs = [registration(images), segmentation(images[0]), method.warp([images[0], registration(images)])]
    terms = [*method.registration_terms(data).values(), *method.segmentation_terms(data).values()]
    assert {value.dtype for value in outputs + terms} == {tf.float32}

    losses = {"registration": [], "segmentation": []}
    for step in range(8):
        logs = method.train_step(data)
        turn = method.turn_at(step)
        losses[turn].append(float(logs[f"{turn}/loss"]))
        method.reset_metrics()
    assert all(values[-1] < values[0] for values in losses.values()), losses
    for name, net in method.nets.items():
        assert all(v.dtype == tf.float32 and np.isfinite(v).all() for v in net.trainable_variables)
        inputs = images[: len(net.inputs)]
        net.save(tmp_path / f"{name}.keras")
        loaded = load_net(tmp_path / f"{name}.keras")
        assert keras.mixed_precision.global_policy().name == "float32", "it is the network that remembers"
        np.testing.assert_array_equal(loaded(inputs), net(inputs))
        if dimension == "2D":
            net.export(tmp_path / name)
            exported = tf.saved_model.load(tmp_path / name)
            found = exported.serve(inputs if len(inputs) > 1 else inputs[0])
            np.testing.assert_allclose(found, net(inputs), atol=0.02)  # fused, it rounds elsewhere


def test_bfloat16_gives_about_what_float32_gives():
    data = pair(SHAPES["2D"])
    images = [data["moving"]["image"], data["fixed"]["image"]]
    exact, rounded = (joint_method(precision, SHAPES["2D"]) for precision in ("float32", "mixed_bfloat16"))
    for name, net in exact.nets.items():
        rounded.nets[name].set_weights(net.get_weights())
        inputs = images[: len(net.inputs)]
        difference = np.abs(rounded.nets[name](inputs) - net(inputs)).max()
        assert 0 < difference < 0.05, (name, difference)


@pytest.mark.slow
@pytest.mark.parametrize("registration", [Pyramid(), Cascade(), VoxelMorphRegistration(diffeomorphic=True)])
def test_every_registration_network_gives_a_float32_field(registration):
    net = build_net("registration", networks("mixed_bfloat16", registration), (16, 16), len(CLASSES))
    assert {tensor.dtype for tensor in net.outputs} == {tf.float32}
    assert any(layer.compute_dtype == "bfloat16" for layer in net.submodules if isinstance(layer, keras.layers.Conv2D))


def test_the_loss_is_scaled_for_float16():
    """In 2D: TensorFlow has no float16 pooling of volumes on a CPU."""
    shape = SHAPES["2D"]
    method, data = joint_method("mixed_float16", shape), pair(shape)
    optimizer = method.optimizers_by_net["registration"]
    assert float(base.scaled_loss(tf.constant(1.0), optimizer)) == 2.0**15
    flow = method.nets["registration"].get_layer("flow").kernel
    before = flow.numpy()
    method.update("registration", data)
    assert np.isfinite(flow).all() and not np.array_equal(before, flow)
    assert 0 < np.abs(flow - before).max() < 2e-3, "Adam's first step is the learning rate, whatever the scale"


def test_a_step_that_overflows_is_left_out():
    shape = SHAPES["2D"]
    method, data = joint_method("mixed_float16", shape), pair(shape)
    scaling = keras.mixed_precision.LossScaleOptimizer(keras.optimizers.Adam(1e-3), initial_scale=2.0**100)
    method.compile({"segmentation": scaling}, method.weights_by_turn)
    before = method.nets["segmentation"].get_weights()
    method.update("segmentation", data)
    for old, new in zip(before, method.nets["segmentation"].get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert float(scaling.loss_scale) == 2.0**99


def test_an_unknown_precision_is_refused():
    with pytest.raises(SettingError, match="networks.precision is one of float32, mixed_bfloat16, mixed_float16"):
        networks("float8")
