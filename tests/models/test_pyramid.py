"""The residual pyramid against its recursion in NumPy, and dropout."""

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from deepatlas_tf.keras_stack import keras, tf
from deepatlas_tf.models.build import load_net
from deepatlas_tf.models.layers import Dropout
from deepatlas_tf.models.registration.pyramid import pyramid_net, split_levels

SHAPES = {"2D": (13, 10), "3D": (9, 6, 7)}


def lively(shape, widths=(4, 4, 4)):
    """A small pyramid with fields that are felt."""
    keras.utils.set_random_seed(0)
    net = pyramid_net(shape, widths)
    for k in range(len(widths)):
        kernel = net.get_layer(f"residual{k}").kernel
        kernel.assign(tf.random.stateless_normal(kernel.shape, (k, 1), stddev=0.3))
    return net


def images(shape):
    rng = np.random.default_rng(0)
    return [tf.constant(rng.random((2, *shape, 1)), tf.float32) for _ in range(2)]


def upsampled(field):
    """Twice the field, linearly interpolated at the centres of voxels of half the size."""
    spatial = field.shape[:-1]
    grid = np.meshgrid(*((np.arange(2 * n) - 0.5) / 2 for n in spatial), indexing="ij")
    parts = [map_coordinates(field[..., d], grid, order=1, mode="nearest") for d in range(field.shape[-1])]
    return 2 * np.stack(parts, axis=-1)


@pytest.mark.parametrize("dimension", SHAPES)
def test_each_field_is_twice_the_coarser_one_and_a_residual(dimension):
    shape = SHAPES[dimension]
    net = lively(shape)
    fields, residuals = split_levels(net)(images(shape), training=False)
    assert len(fields) == len(residuals) == 3
    np.testing.assert_array_equal(fields[0], residuals[0])
    assert np.abs(residuals[0]).max() > 0.1
    for k in (1, 2):
        for example in range(2):
            expected = upsampled(fields[k - 1].numpy()[example]) + residuals[k].numpy()[example]
            np.testing.assert_allclose(fields[k][example], expected, atol=1e-4)
    u = net(images(shape))
    assert u.shape == (2, *shape, len(shape))
    np.testing.assert_array_equal(u, fields[-1][(slice(None), *(slice(0, n) for n in shape))])


@pytest.mark.slow
@pytest.mark.parametrize("dimension", SHAPES)
def test_it_begins_near_the_identity_and_is_reloaded(dimension, tmp_path):
    shape = SHAPES[dimension]
    assert np.abs(pyramid_net(shape, (4, 4))(images(shape))).max() < 1e-2
    net = lively(shape)
    net.save(tmp_path / "registration.keras")
    np.testing.assert_array_equal(load_net(tmp_path / "registration.keras")(images(shape)), net(images(shape)))


def test_levels_share_the_weights_and_other_networks_have_one():
    net = lively((8, 8))
    levels = split_levels(net)
    net.get_layer("residual0").bias.assign([3.0, -3.0])
    np.testing.assert_allclose(levels(images((8, 8)), training=False)[0][-1], net(images((8, 8))), atol=1e-6)
    moving, fixed = keras.Input((8, 8, 1)), keras.Input((8, 8, 1))
    other = keras.Model([moving, fixed], keras.layers.Conv2D(2, 1)(fixed - moving))
    fields, residuals = split_levels(other)(images((8, 8)), training=True)
    assert len(fields) == len(residuals) == 1
    np.testing.assert_allclose(fields[0], other(images((8, 8))))


def test_dropout_follows_from_the_number_of_calls():
    layer, again = Dropout(0.25, name="d"), Dropout(0.25, name="d")
    x = tf.ones((4, 50, 50, 2))
    first = layer(x, training=True).numpy()
    second = layer(x, training=True).numpy()
    assert set(np.unique(first)) == {0, np.float32(1 / 0.75)} and abs((first == 0).mean() - 0.25) < 0.02
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(layer(x, training=False), x)
    again.build(x.shape)
    again.set_weights([np.int64(1)])
    np.testing.assert_array_equal(again(x, training=True), second)
