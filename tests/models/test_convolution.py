"""Convolutions with gradients of our own, against Keras' layers."""

import numpy as np
import pytest

from deepatlas_tf.keras_stack import keras, tf
from deepatlas_tf.models import convolution

SHAPES = [(6, 5), (4, 5, 6)]
SETTINGS = [
    {"filters": 2},  # to fewer channels: the gradient of the kernel is turned
    {"filters": 7},
    {"filters": 16},  # a bias by TensorFlow's kernel
    {"filters": 2, "use_bias": False},
    {"filters": 2, "kernel_size": 1},
    {"filters": 2, "kernel_size": 5},
    {"filters": 2, "kernel_size": 4},  # zeros around that are not the same on both sides
    {"filters": 2, "strides": 2},
    {"filters": 2, "dilation_rate": 2},
    {"filters": 2, "padding": "valid"},
    {"filters": 2, "activation": "tanh"},
]


def both_layers(shape, settings):
    """Ours and Keras', with the same weights, and an input of 4 channels."""
    settings = {"kernel_size": 3, "padding": "same", "bias_initializer": "ones", **settings}
    name = f"Conv{len(shape)}D"
    ours, keras_layer = getattr(convolution, name)(**settings), getattr(keras.layers, name)(**settings)
    x = tf.constant(np.random.default_rng(0).normal(size=(2, *shape, 4)), tf.float32)
    ours(x), keras_layer(x)
    ours.set_weights(keras_layer.get_weights())
    return ours, keras_layer, x


def value_and_gradients(layer, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = layer(x)
    return value, *tape.gradient(value, [x, *layer.trainable_variables], output_gradients=tf.sin(value))


def assert_same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=2e-5)


# in a graph and compiled, both forms of either gradient
@pytest.mark.parametrize(
    ("settings", "mode"),
    [*((s, "eager") for s in SETTINGS), *((s, m) for s in (SETTINGS[0], SETTINGS[2]) for m in ("graph", "compiled"))],
    ids=str,
)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients_are_those_of_keras(shape, settings, mode):
    ours, keras_layer, x = both_layers(shape, settings)
    run = value_and_gradients if mode == "eager" else tf.function(value_and_gradients, jit_compile=mode == "compiled")
    assert_same(run(ours, x), value_and_gradients(keras_layer, x))


@pytest.mark.parametrize("filters", [2, 16])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients_are_those_of_the_definition(shape, filters):
    g = np.random.default_rng(0)
    sizes = (2, *shape, 4), (*[3] * len(shape), 4, filters), (filters,)
    inputs = [tf.constant(g.normal(size=size), tf.float32) for size in sizes]

    def with_gradients(convolve, add_bias):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            x, kernel, bias = inputs
            value = add_bias(convolve(x, kernel), bias)
        return value, *tape.gradient(value, inputs, output_gradients=tf.sin(value))

    found = with_gradients(convolution.convolve, convolution.add_bias)
    assert_same(found, with_gradients(convolution.plain_convolve, convolution.plain_add_bias))


@pytest.mark.parametrize("settings", [{"filters": 2}, {"filters": 2, "kernel_size": 1}], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sizes_may_be_known_only_when_it_runs(shape, settings):
    ours, keras_layer, x = both_layers(shape, settings)
    spec = tf.TensorSpec((None, *[None] * len(shape), 4))
    run = tf.function(lambda x: value_and_gradients(ours, x), input_signature=[spec])
    assert_same(run(x), value_and_gradients(keras_layer, x))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_on_a_gpu_it_is_tensorflows_own(shape, monkeypatch):
    monkeypatch.setattr(convolution, "on_gpu", lambda: True)
    ours, keras_layer, x = both_layers(shape, {"filters": 2})
    graph = tf.function(lambda x: value_and_gradients(ours, x)).get_concrete_function(x).graph
    assert not any(op.type == "ReverseV2" for op in graph.get_operations())
    assert_same(value_and_gradients(ours, x), value_and_gradients(keras_layer, x))


def test_few_channels_are_not_the_output_of_the_kernels_gradient():
    """The reason for all this: a kernel computes as many channels at a time as a vector holds."""
    ours, _, x = both_layers((4, 5, 6), {"filters": 2})
    graph = tf.function(lambda x: value_and_gradients(ours, x)).get_concrete_function(x).graph
    (gradient,) = (op for op in graph.get_operations() if op.type == "Conv3DBackpropFilterV2")
    assert gradient.outputs[0].shape == (3, 3, 3, 2, 4)


def test_half_precision_stays():
    layer = convolution.Conv3D(2, 3, padding="same", dtype="mixed_bfloat16")
    value, *gradients = value_and_gradients(layer, tf.ones((1, 4, 4, 4, 4)))
    assert value.dtype == tf.bfloat16 and [g.dtype for g in gradients[1:]] == [tf.float32] * 2


def test_a_saved_network_has_it_again(tmp_path):
    image = keras.Input((6, 5, 4))
    net = keras.Model(image, convolution.Conv2D(2, 3, padding="same")(image))
    net.save(tmp_path / "net.keras")
    again = keras.models.load_model(tmp_path / "net.keras")
    assert type(again.layers[-1]) is convolution.Conv2D
    x = tf.random.stateless_normal((1, 6, 5, 4), (0, 0))
    np.testing.assert_array_equal(again(x), net(x))
