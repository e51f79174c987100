"""The networks: any image size, in 2D and 3D, saved and loaded, and their layers against references."""

import subprocess
import sys

import numpy as np
import pytest

from deepatlas_tf.keras_stack import keras, tf
from deepatlas_tf.models.build import load_net
from deepatlas_tf.models.layers import CropLike, InstanceNormalization, LeakyReLU, PadToMultiple, Softmax
from deepatlas_tf.models.registration.voxelmorph import registration_net
from deepatlas_tf.models.segmentation.light import light_unet
from deepatlas_tf.models.segmentation.voxelmorph import voxelmorph_unet

SHAPES = [(13, 18), (9, 12, 7)]


def _image(shape, seed=0):
    return tf.random.stateless_uniform((2, *shape, 1), (seed, 0))


@pytest.mark.parametrize("make", [light_unet, voxelmorph_unet])
@pytest.mark.parametrize("shape", SHAPES)
def test_segmentation_gives_probabilities_for_any_size(make, shape):
    net = make(shape, 4)
    p = net(_image(shape))
    assert p.shape == (2, *shape, 4) and p.dtype == tf.float32
    np.testing.assert_allclose(tf.reduce_sum(p, -1), 1, atol=1e-5)


@pytest.mark.parametrize("diffeomorphic", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_registration_starts_at_the_identity_for_any_size(shape, diffeomorphic):
    net = registration_net(shape, (4, 4), (4, 4, 4), diffeomorphic=diffeomorphic)
    u = net([_image(shape), _image(shape, 1)])
    assert u.shape == (2, *shape, len(shape)) and u.dtype == tf.float32
    assert float(tf.reduce_max(tf.abs(u))) < 0.01


@pytest.mark.parametrize(
    "make", [lambda s: light_unet(s, 3, (4, 8)), lambda s: voxelmorph_unet(s, 3, (4, 4), (4, 4, 4))]
)
@pytest.mark.parametrize("shape", SHAPES)
def test_unknown_size_gives_what_the_known_size_gives(make, shape):
    known, unknown = make(shape), make((None,) * len(shape))
    unknown.set_weights(known.get_weights())
    np.testing.assert_allclose(unknown(_image(shape)), known(_image(shape)), atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_padding_is_kept_in_a_graph(shape):
    """TensorFlow's graph optimiser lost tf.pad in front of a 3D convolution: the eager result is the reference."""
    net = registration_net(shape, (4, 4), (4, 4, 4))
    flow = net.get_layer("flow")
    flow.kernel.assign(tf.random.stateless_normal(flow.kernel.shape, (0, 1)))
    pair = [_image(shape), _image(shape, 1)]
    np.testing.assert_allclose(tf.function(net)(pair), net(pair), atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["light", "voxelmorph", "displacement", "diffeomorphic"])
def test_a_saved_net_gives_the_same(tmp_path, shape, kind):
    nets = {
        "light": lambda: light_unet(shape, 3, (4, 8)),
        "voxelmorph": lambda: voxelmorph_unet(shape, 3, (4, 4), (4, 4, 4)),
        "displacement": lambda: registration_net(shape, (4, 4), (4, 4, 4)),
        "diffeomorphic": lambda: registration_net(shape, (4, 4), (4, 4, 4), diffeomorphic=True, int_steps=3),
    }
    net = nets[kind]()
    inputs = [_image(shape), _image(shape, 1)][: len(net.inputs)]
    net.save(tmp_path / "net.keras")
    np.testing.assert_array_equal(load_net(tmp_path / "net.keras")(inputs), net(inputs))


@pytest.mark.parametrize("in_graph", [False, True])
@pytest.mark.parametrize("shape", [(2, 6, 5, 3), (2, 4, 6, 5, 3)])
def test_normalisation_with_activation_has_the_gradients_of_both(shape, in_graph):
    x = 3 + 2 * tf.random.stateless_normal(shape, (0, 0))
    both, one = (
        keras.Sequential([InstanceNormalization(), keras.layers.LeakyReLU(0.1)]),
        InstanceNormalization(leak=0.1),
    )
    weights = [np.array([1.5, -1, 0.5]), np.array([0.2, 0, -0.3])]

    def value_and_gradients(layer):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = layer(x)
        return value, *tape.gradient(value, [x, *layer.trainable_variables], output_gradients=tf.sin(value))

    for layer in (both, one):
        layer.build(shape)
        layer.set_weights(weights)
    found = tf.function(value_and_gradients)(one) if in_graph else value_and_gradients(one)
    for a, b in zip(found, value_and_gradients(both), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("in_graph", [False, True])
@pytest.mark.parametrize("shape", [(2, 6, 5, 3), (2, 4, 6, 5, 3)])
@pytest.mark.parametrize(
    ("layer", "of_keras"),
    [
        (LeakyReLU(0.2), keras.layers.LeakyReLU(0.2)),
        (Softmax(), keras.layers.Softmax()),
        (Softmax(axis=1), keras.layers.Softmax(axis=1)),
    ],
)
def test_activations_have_the_values_and_gradients_of_keras(layer, of_keras, shape, in_graph):
    x = tf.random.stateless_normal(shape, (0, 0))

    def value_and_gradient(layer):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = layer(x)
        return value, tape.gradient(value, x, output_gradients=tf.sin(x))

    found = tf.function(value_and_gradient)(layer) if in_graph else value_and_gradient(layer)
    for a, b in zip(found, value_and_gradient(of_keras), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    assert layer.get_config() == {**of_keras.get_config(), "name": layer.name}


@pytest.mark.parametrize("shape", [(2, 6, 5, 3), (2, 4, 6, 5, 3)])
def test_instance_normalization_equals_keras(shape):
    x = 3 + 2 * tf.random.stateless_normal(shape, (0, 0))
    expected = keras.layers.GroupNormalization(groups=-1, epsilon=1e-5)(x)
    layer = InstanceNormalization()
    np.testing.assert_allclose(layer(x), expected, atol=1e-4)
    any_batch = tf.function(layer, input_signature=[tf.TensorSpec((None, *shape[1:]))])
    np.testing.assert_allclose(any_batch(x), expected, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_crop_undoes_padding(shape):
    x = _image(shape)
    padded = PadToMultiple(8)(x)
    assert all(n % 8 == 0 for n in padded.shape[1:-1])
    np.testing.assert_array_equal(CropLike()([padded, x]), x)
    assert float(tf.reduce_sum(padded)) == pytest.approx(float(tf.reduce_sum(x)), rel=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_crop_to_the_same_size_copies_nothing(shape):
    x = _image(shape)
    same = tf.function(lambda x: CropLike()([x, x])).get_concrete_function(x)
    np.testing.assert_array_equal(same(x), x)
    assert not [operation for operation in same.graph.get_operations() if "Slice" in operation.type]


@pytest.mark.long
def test_every_own_layer_is_known_to_keras_after_one_import():
    """In a process of its own, in which nothing else has imported the modules of the layers."""
    script = """
import pkgutil, importlib
from deepatlas_tf.models.build import import_layers
from deepatlas_tf.keras_stack import keras
import_layers()
known = set(keras.utils.get_custom_objects().values())
import deepatlas_tf.models as models
for info in pkgutil.walk_packages(models.__path__, "deepatlas_tf.models."):
    for value in vars(importlib.import_module(info.name)).values():
        if isinstance(value, type) and issubclass(value, keras.layers.Layer) and value.__module__ == info.name:
            print(value.__name__, value in known)
"""
    lines = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split(
        "\n"
    )
    found = dict(line.split() for line in lines if line)
    assert {"CropLike", "Recomputed", "MostProbable", "UpsampleField", "UpsampledConvolution", "Conv3D"} <= set(found)
    assert set(found.values()) == {"True"}, found
