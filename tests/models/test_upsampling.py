"""The convolution after an upsampling, against the three layers that it stands for."""

import numpy as np
import pytest

from deepatlas_tf.keras_stack import keras, tf, vxm
from deepatlas_tf.models.build import load_net
from deepatlas_tf.models.upsampling import UpsampledConvolution, fold_upsampling

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


@pytest.mark.parametrize("shape", [(16, 32), (16, 16, 32)])
def test_a_folded_voxelmorph_unet_gives_what_it_gave(shape, tmp_path):
    image = keras.Input((*shape, 2))
    start = keras.layers.Activation("linear")(image)
    original = vxm.networks.Unet(input_model=keras.Model(image, start), nb_features=[[4, 6], [6, 5, 3]])
    folded = keras.Model(image, fold_upsampling(original.output, start))
    folded.set_weights(original.get_weights())
    kinds = [type(layer).__name__ for layer in folded.layers]
    assert kinds.count("UpsampledConvolution") == 2 and not any("UpSampling" in kind for kind in kinds)
    x = tf.random.stateless_normal((1, *shape, 2), (0, 0))
    np.testing.assert_allclose(folded(x), original(x), rtol=1e-4, atol=1e-5)
    folded.save(tmp_path / "net.keras")
    np.testing.assert_array_equal(load_net(tmp_path / "net.keras")(x), folded(x))


@pytest.mark.parametrize(
    ("of_convolution", "of_upsampling"),
    [
        ({"strides": 2}, {}),
        ({"padding": "valid"}, {}),
        ({"activation": "relu"}, {}),
        ({"dilation_rate": 2}, {}),
        ({"kernel_size": 5}, {}),
        ({}, {"interpolation": "bilinear"}),
        ({}, {"size": (2, 4)}),
    ],
)
def test_what_is_something_else_is_not_folded(of_convolution, of_upsampling):
    image = keras.Input((8, 8, 3))
    start = keras.layers.Activation("linear")(image)
    low = keras.layers.MaxPooling2D(of_upsampling.get("size", 2))(start)
    both = keras.layers.Concatenate()([keras.layers.UpSampling2D(**{"size": 2, **of_upsampling})(low), start])
    settings = {"kernel_size": 3, "padding": "same", **of_convolution}
    original = keras.Model(image, keras.layers.Conv2D(2, **settings)(both))
    folded = keras.Model(image, fold_upsampling(original.output, start))
    folded.set_weights(original.get_weights())
    assert not any(isinstance(layer, UpsampledConvolution) for layer in folded.layers)
    x = tf.random.stateless_normal((1, 8, 8, 3), (0, 0))
    np.testing.assert_array_equal(folded(x), original(x))
