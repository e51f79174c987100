"""The convolution after an upsampling, against the three layers that it stands for."""

import numpy as np
import pytest

from deepatlas_tf.keras_stack import keras, tf
from deepatlas_tf.models.upsampling import UpsampledConvolution, plain_upsampled_convolution, upsampled_convolution

SHAPES = [(5, 4), (3, 4, 2)]


def three_layers(n_axes, filters, **settings):
    """A model ``[low, skip]`` of an upsampling, a concatenation and a convolution."""
    low, skip = keras.Input((*[None] * n_axes, 3)), keras.Input((*[None] * n_axes, 2))
    upsampled = getattr(keras.layers, f"UpSampling{n_axes}D")(2)(low)
    both = keras.layers.Concatenate()([upsampled, skip])
    conv = getattr(keras.layers, f"Conv{n_axes}D")(filters, 3, padding="same", name="conv", **settings)
    return keras.Model([low, skip], conv(both))


def low_and_skip(shape):
    g = np.random.default_rng(0)
    twice = [2 * n for n in shape]
    return [tf.constant(g.normal(size=(2, *s)), tf.float32) for s in ((*shape, 3), (*twice, 2))]


@pytest.mark.parametrize("in_graph", [False, True])
@pytest.mark.parametrize("use_bias", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_value_and_gradients_are_those_of_the_three_layers(shape, use_bias, in_graph):
    reference = three_layers(len(shape), 4, use_bias=use_bias, bias_initializer="ones")
    inputs = low_and_skip(shape)
    layer = UpsampledConvolution(4, use_bias=use_bias)
    layer(inputs)
    layer.set_weights(reference.get_weights())

    def value_and_gradients(function, weights):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            value = function(inputs)
        return value, *tape.gradient(value, [*inputs, *weights], output_gradients=tf.sin(value))

    run = tf.function(value_and_gradients) if in_graph else value_and_gradients
    expected = value_and_gradients(reference, reference.trainable_variables)
    for found, other in zip(run(layer, layer.trainable_variables), expected, strict=True):
        np.testing.assert_allclose(found, other, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_value_and_gradients_are_those_of_the_definition(shape):
    kernel = np.random.default_rng(1).normal(size=(*[3] * len(shape), 5, 4))
    inputs = [*low_and_skip(shape), tf.constant(kernel, tf.float32)]

    def value_and_gradients(function):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            value = function(*inputs)
        return value, *tape.gradient(value, inputs, output_gradients=tf.sin(value))

    expected = value_and_gradients(plain_upsampled_convolution)
    for found, other in zip(value_and_gradients(upsampled_convolution), expected, strict=True):
        np.testing.assert_allclose(found, other, rtol=1e-4, atol=5e-5)
