"""The U-Nets of voxelmorph's form, against voxelmorph 0.2's own classes with the same weights."""

import numpy as np
import pytest

from deepatlas_tf.keras_stack import keras, tf, vxm
from deepatlas_tf.models.build import network_class
from deepatlas_tf.models.network import interface
from deepatlas_tf.models.unet import unet_features

SHAPES = [(16, 24), (8, 16, 8)]
ENCODER, DECODER = (4, 6, 5), (6, 5, 4, 4, 3)


def with_weights(net, seed=0):
    """The network with random weights, also of its biases and its last convolution, so that no part is near zero."""
    g = np.random.default_rng(seed)
    sizes = [max(np.prod(weight.shape[:-1]), 10) for weight in net.get_weights()]
    drawn = [g.normal(0, n**-0.5, weight.shape) for n, weight in zip(sizes, net.get_weights(), strict=True)]
    net.set_weights([weight.astype(np.float32) for weight in drawn])
    return net


def values_and_gradients(net, inputs):
    """The displacement field, and the gradients towards the weights and the images."""
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        u = net(inputs)
    watched = [*net.trainable_variables, *inputs]
    return u, tape.gradient(u, watched, output_gradients=tf.sin(u))


@pytest.mark.slow
@pytest.mark.parametrize("diffeomorphic", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_registration_network_is_voxelmorphs(shape, diffeomorphic):
    settings = {"encoder": ENCODER, "decoder": DECODER, "diffeomorphic": diffeomorphic}
    network = network_class("registration", "voxelmorph")(**settings)
    ours = with_weights(network.build(shape, interface("registration", len(shape), 2)))
    reference = vxm.networks.VxmDense(
        shape, [list(ENCODER), list(DECODER)], int_steps=7 if diffeomorphic else 0, int_resolution=1
    )
    reference.set_weights(ours.get_weights())
    inputs = [tf.random.stateless_uniform((2, *shape, 1), (seed, 0)) for seed in range(2)]
    found, found_gradients = values_and_gradients(ours, inputs)
    field = keras.Model(reference.inputs, reference.references.pos_flow)
    expected, gradients = values_and_gradients(field, inputs)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    for one, other in zip(found_gradients, gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4 * np.abs(other).max())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_unet_is_voxelmorphs_with_the_names_of_its_weights(shape):
    image = keras.Input((*shape, 2))
    ours = with_weights(keras.Model(image, unet_features(image, ENCODER, DECODER)))
    reference = vxm.networks.Unet((*shape, 2), nb_features=[list(ENCODER), list(DECODER)])
    assert [weight.name for weight in ours.weights] == [weight.name for weight in reference.weights]
    reference.set_weights(ours.get_weights())
    x = tf.random.stateless_normal((1, *shape, 2), (0, 0))
    expected = reference(x)
    np.testing.assert_allclose(ours(x), expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
