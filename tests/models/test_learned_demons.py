"""Learned demons: the force and the normalisation in NumPy, what it does before and after training, any size, files."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates, uniform_filter

from deepatlas_tf.keras_stack import graph_function, keras, tf
from deepatlas_tf.models.build import load_net
from deepatlas_tf.models.registration.learned_demons import (
    DemonsForce,
    LocalNormalisation,
    PoolField,
    learned_demons_net,
)
from deepatlas_tf.ops.warp import warp

SHAPES = [(13, 18), (9, 12, 7)]


def image(shape, seed=0, channels=1):
    return tf.random.stateless_uniform((2, *shape, channels), (seed, 0))


def small_net(shape, **settings):
    """One step at each of two levels, whose small networks correct by about a tenth of a voxel."""
    keras.utils.set_random_seed(0)
    net = learned_demons_net(shape, **{"steps": (1, 1), "width": 4, **settings})
    for layer in net.submodules:
        if layer.name.endswith("_residual"):
            layer.kernel.assign(tf.random.stateless_normal(layer.kernel.shape, (0, 1), stddev=0.1))
    return net


def shifted_textures(shift, n=4, size=32):
    """moving, fixed ``(n, size, size, 1)``: smooth random images, and the same moved along the second axis."""
    wide = gaussian_filter(np.random.default_rng(0).normal(size=(n, size, size + shift, 1)), [0, 3, 3, 0])
    wide = ((wide - wide.min()) / np.ptp(wide)).astype(np.float32)
    return wide[:, :, shift:], wide[:, :, :size]  # fixed(x) = moving(x - shift)


@pytest.mark.parametrize("shape", [(9, 8), (6, 7, 8)])
def test_the_normalisation_is_that_of_windows_inside_the_image(shape):
    x = np.random.default_rng(0).uniform(size=(1, *shape, 1)).astype(np.float32)
    inside = uniform_filter(np.ones(shape), 5, mode="constant")
    mean = uniform_filter(x[0, ..., 0].astype(float), 5, mode="constant") / inside
    variance = uniform_filter(x[0, ..., 0].astype(float) ** 2, 5, mode="constant") / inside - mean**2
    expected = (x[0, ..., 0] - mean) / np.sqrt(variance + 1e-3)
    np.testing.assert_allclose(LocalNormalisation(5)(x)[0, ..., 0], expected, atol=1e-4)


@pytest.mark.parametrize(("shape", "channels"), [((9, 8), 1), ((6, 7, 8), 3)])
def test_the_force_is_thirions_with_the_gradients_of_both_images(shape, channels):
    warped, fixed = (np.random.default_rng(seed).normal(size=(*shape, channels)) for seed in (0, 1))
    axes, inner = tuple(range(len(shape))), (slice(1, -1),) * len(shape)  # at the border np.gradient is one-sided
    gradients = zip(np.gradient(warped, axis=axes), np.gradient(fixed, axis=axes), strict=True)
    g = np.stack([(a + b) / 2 for a, b in gradients], axis=-1)
    d = fixed - warped
    size = (g**2).sum((-2, -1)) + (d**2 / 4 + 0.02).sum(-1)
    expected = (d[..., None] * g).sum(-2) / size[..., None]
    found = DemonsForce()([tf.constant(x[None], tf.float32) for x in (warped, fixed)]).numpy()[0]
    np.testing.assert_allclose(found[inner], expected[inner], atol=1e-4)
    assert np.linalg.norm(found, axis=-1).max() <= 1


def test_a_field_is_pooled_in_voxels_of_the_coarse_grid():
    field = np.random.default_rng(0).normal(size=(1, 4, 6, 2)).astype(np.float32)
    expected = field.reshape(1, 2, 2, 3, 2, 2).mean((2, 4)) / 2
    np.testing.assert_allclose(PoolField()(field), expected, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("shift", [3, 6])
def test_before_it_has_learned_anything_it_finds_a_shift(shift):
    moving, fixed = shifted_textures(shift)
    u = learned_demons_net((32, 32))([moving, fixed]).numpy()[:, 8:24, 12:24]
    np.testing.assert_allclose(u.mean((0, 1, 2)), [0, -shift], atol=0.15 * shift)


@pytest.mark.slow
def test_brightness_does_not_count_and_contrast_hardly():
    moving, fixed = shifted_textures(3)
    net = learned_demons_net((32, 32))
    same, brighter, stronger = (net([moving, x]).numpy() for x in (fixed, fixed + 5, 2 * fixed))
    assert np.abs(brighter - same).mean() < 0.01 * np.abs(same).mean()
    assert np.abs(stronger - same).mean() < 0.3 * np.abs(same).mean()


@pytest.mark.long
def test_it_learns():
    """Few steps that are too short at first: after some training the warped images are the fixed ones."""
    keras.utils.set_random_seed(0)
    moving, fixed = shifted_textures(6)
    net = learned_demons_net((32, 32), steps=(1, 1, 1))
    adam = keras.optimizers.Adam(5e-3)

    @graph_function
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(warp(moving, net([moving, fixed], training=True)) - fixed)[:, :, 8:])
        adam.apply_gradients(zip(tape.gradient(loss, net.trainable_variables), net.trainable_variables, strict=True))
        return loss

    losses = [float(step()) for _ in range(60)]
    assert losses[-1] < 0.5 * losses[0], (losses[0], losses[-1])


@pytest.mark.long
@pytest.mark.parametrize("shape", SHAPES)
def test_any_size_gives_a_field_of_that_size_and_gradients_reach_all_weights(shape):
    net, pair = small_net(shape), [image(shape), image(shape, 1)]

    @graph_function
    def gradients(moving, fixed):
        with tf.GradientTape() as tape:
            u = net([moving, fixed], training=True)
            loss = tf.reduce_mean(tf.square(warp(moving, u) - fixed))
        return u, tape.gradient(loss, net.trainable_variables)

    u, found = gradients(*pair)
    assert u.shape == (2, *shape, len(shape)) and u.dtype == tf.float32
    for variable, gradient in zip(net.trainable_variables, found, strict=True):
        assert gradient is not None and np.abs(gradient).max() > 0, variable.name
    any_size = small_net((None,) * len(shape))
    any_size.set_weights(net.get_weights())
    np.testing.assert_allclose(any_size(pair), u, atol=1e-5)


def test_a_step_is_composed_with_the_field_as_scipy_composes_them():
    net, pair = small_net((16, 24)), shifted_textures(4, 1, 24)
    pair = [x[:, :16] for x in pair]
    composition = net.get_layer("level0_0_compose")
    parts = [net.get_layer("finer1").output, composition.input[0], composition.output]
    u, step, composed = (x.numpy()[0] for x in keras.Model(net.inputs, parts)(pair))
    places = np.moveaxis(np.moveaxis(np.indices(u.shape[:-1]), 0, -1) + step, -1, 0)
    before = [map_coordinates(component, places, order=1, mode="nearest") for component in np.moveaxis(u, -1, 0)]
    assert np.abs(step).max() > 0.3
    np.testing.assert_allclose(composed, step + np.stack(before, axis=-1), atol=1e-4)


def test_saved_it_gives_what_it_gave(tmp_path):
    net, pair = small_net((13, 18)), [image((13, 18)), image((13, 18), 1)]
    net.save(tmp_path / "registration.keras", save_format="keras")
    np.testing.assert_array_equal(load_net(tmp_path / "registration.keras")(pair), net(pair))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_under_a_half_precision_policy_the_field_stays_float32_and_near(policy):
    net, pair = small_net((13, 18)), [image((13, 18)), image((13, 18), 1)]
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(policy)
    try:
        half = small_net((13, 18))
    finally:
        keras.mixed_precision.set_global_policy(before)
    half.set_weights(net.get_weights())
    found, expected = half(pair), net(pair)
    assert found.dtype == tf.float32
    assert 0 < np.abs(found - expected).mean() < 0.1 * np.abs(expected).mean()
