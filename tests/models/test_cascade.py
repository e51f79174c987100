"""The cascade against SciPy's interpolation; the networks for any size, saved and loaded."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

from deepatlas_tf.keras_stack import keras, tf
from deepatlas_tf.models.build import load_net
from deepatlas_tf.models.label_maps import MostProbable, on_label_maps
from deepatlas_tf.models.layers import UpsampleField
from deepatlas_tf.models.registration.cascade import cascade_net
from deepatlas_tf.models.segmentation.light import light_unet

SHAPES = [(13, 18), (9, 12, 7)]
WIDTHS = ((4, 4), (4, 4, 4))


def image(shape, seed=0, channels=1):
    return tf.random.stateless_uniform((2, *shape, channels), (seed, 0))


def moving_net(shape, factors=(4, 2, 1), channels=1):
    """A cascade whose steps move by about a voxel."""
    keras.utils.set_random_seed(0)
    net = cascade_net(shape, *WIDTHS, factors, channels)
    for layer in net.submodules:
        if layer.name == "flow":
            layer.kernel.assign(tf.random.stateless_normal(layer.kernel.shape, (0, 1), stddev=0.3))
    return net


def scipy_warp(x, u):
    """``x (*S, C)`` at ``id + u``, with the nearest voxel outside."""
    places = np.moveaxis(np.indices(u.shape[:-1]), 0, -1) + u
    places = np.moveaxis(places, -1, 0)
    return np.stack([map_coordinates(c, places, order=1, mode="nearest") for c in np.moveaxis(x, -1, 0)], axis=-1)


@pytest.mark.parametrize("shape", [(6, 5), (4, 3, 5)])
@pytest.mark.parametrize("factor", [2, 4])
def test_a_field_is_upsampled_linearly_between_the_middles_of_the_pooled_voxels(shape, factor):
    field = np.random.default_rng(0).normal(size=(2, *shape, len(shape))).astype(np.float32)
    found = UpsampleField(factor)(field)
    fine = np.indices([n * factor for n in shape])
    places = (fine - (factor - 1) / 2) / factor
    expected = [[map_coordinates(c, places, order=1, mode="nearest") for c in np.moveaxis(f, -1, 0)] for f in field]
    np.testing.assert_allclose(found, factor * np.moveaxis(np.array(expected), 1, -1), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_steps_are_composed_as_scipy_composes_their_warps(shape):
    """Of a smooth image: warped once by the cascade's field it is as warped by one step after the other."""
    net = moving_net(shape, factors=(2, 1))
    rng = np.random.default_rng(0)
    moving, fixed = (gaussian_filter(rng.normal(size=(1, *shape, 1)), [0, *[3] * len(shape), 0]) for _ in range(2))
    moving, fixed = (np.float32((x - x.min()) / np.ptp(x)) for x in (moving, fixed))
    first = keras.Model(net.inputs, net.get_layer("step0_crop").output)([moving, fixed]).numpy()[0]
    warped = scipy_warp(moving[0], first)
    second = net.get_layer("step1")([warped[None].astype(np.float32), fixed]).numpy()[0]
    u = net([moving, fixed]).numpy()[0]
    np.testing.assert_allclose(u, second + scipy_warp(first, second), atol=1e-4)
    assert np.abs(first).mean() > 0.1 and np.abs(second).mean() > 0.1
    inside = tuple(slice(3, -3) for _ in shape)
    np.testing.assert_allclose(scipy_warp(moving[0], u)[inside], scipy_warp(warped, second)[inside], atol=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_any_size_and_known_size_give_the_same(shape):
    known, unknown = moving_net(shape), moving_net((None,) * len(shape))
    unknown.set_weights(known.get_weights())
    u = known([image(shape), image(shape, 1)])
    assert u.shape == (2, *shape, len(shape)) and u.dtype == tf.float32
    np.testing.assert_allclose(unknown([image(shape), image(shape, 1)]), u, atol=1e-4)


@pytest.mark.slow
def test_a_new_cascade_starts_at_the_identity():
    net = cascade_net((13, 18), *WIDTHS)
    assert float(tf.reduce_max(tf.abs(net([image((13, 18)), image((13, 18), 1)])))) < 0.01


def test_the_most_probable_class_is_one():
    probabilities = np.random.default_rng(0).dirichlet(np.ones(4), (2, 5, 6)).astype(np.float32)
    found = MostProbable()(probabilities).numpy()
    np.testing.assert_array_equal(found, np.eye(4)[probabilities.argmax(-1)])


@pytest.mark.long
@pytest.mark.parametrize("shape", SHAPES)
def test_images_are_registered_by_the_label_maps_that_two_frozen_networks_predict(shape, tmp_path):
    segmenters = [light_unet(shape, 3, (4, 8)) for _ in range(2)]
    inner = moving_net(shape, channels=3)
    net = on_label_maps(inner, *segmenters)
    images = [image(shape), image(shape, 1)]
    maps = [np.eye(3, dtype="f")[np.argmax(s(x), -1)] for s, x in zip(segmenters, images, strict=True)]
    expected = inner(maps)
    np.testing.assert_allclose(net(images), expected, atol=1e-5)
    assert len(net.trainable_variables) == len(inner.trainable_variables)
    net.save(tmp_path / "net.keras")
    loaded = load_net(tmp_path / "net.keras")
    np.testing.assert_array_equal(loaded(images), net(images))
    assert len(loaded.trainable_variables) == len(inner.trainable_variables)
