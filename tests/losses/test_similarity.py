"""Similarities against formulas in NumPy and voxelmorph, in 2D and 3D, and what all of them promise."""

import numpy as np
import pytest

from deepatlas_tf.keras_stack import tf, vxm
from deepatlas_tf.losses.similarity import SIMILARITIES, local_ncc, mse, ncc, similarity_function

SHAPES = [(11, 12), (6, 7, 8)]
# What two constant images cost, where it is not 0
OF_CONSTANTS = {"ncc": 1}


def images(shape, dtype=np.float32):
    return np.random.default_rng(0).random((2, 2, *shape, 1)).astype(dtype)


@pytest.mark.parametrize("shape", SHAPES)
def test_ncc_is_one_minus_correlation(shape):
    a, b = images(shape)
    expected = [1 - np.corrcoef(x.ravel(), y.ravel())[0, 1] for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(ncc(a, b), expected, atol=1e-5)
    np.testing.assert_allclose(ncc(a, 3 * a + 1), 0, atol=1e-5)
    np.testing.assert_allclose(tf.function(ncc)(a, -a), 2, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("window", [5, 9])
def test_local_ncc_equals_voxelmorphs(shape, window):
    a, b = images(shape)
    reference = vxm.losses.NCC(win=window).loss(tf.constant(a), tf.constant(b))  # minus the mean
    expected = 1 + tf.reduce_mean(tf.reshape(reference, (2, -1)), axis=1)
    np.testing.assert_allclose(local_ncc(a, b, window), expected, atol=1e-5)


def test_the_default_window_is_voxelmorphs():
    a, b = images((11, 12))
    np.testing.assert_allclose(local_ncc(a, b), 1 + vxm.losses.NCC().loss(tf.constant(a), tf.constant(b)), atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_mse_equals_voxelmorphs(shape):
    a, b = images(shape)
    np.testing.assert_allclose(mse(a, b), ((a - b) ** 2).reshape(2, -1).mean(1), rtol=1e-5)
    reference = vxm.losses.MSE(image_sigma=0.05).loss(tf.constant(a), tf.constant(b))
    np.testing.assert_allclose(tf.reduce_mean(mse(a, b, image_sigma=0.05)), reference, rtol=1e-5)


@pytest.mark.parametrize("name", SIMILARITIES)
@pytest.mark.parametrize("shape", SHAPES)
def test_one_value_for_each_example(name, shape):
    loss = SIMILARITIES[name]
    a, b = images(shape)
    values = loss(a, b)
    assert values.shape == (2,) and values.dtype == tf.float32
    # The second example does not change the value of the first
    np.testing.assert_allclose(loss(a, np.stack([b[0], a[1]]))[0], values[0], rtol=1e-4)
    np.testing.assert_allclose(tf.function(lambda x, y: loss(x, y))(a, b), values, rtol=1e-5)
    assert np.all(loss(a, a) < values)


@pytest.mark.parametrize("name", SIMILARITIES)
def test_constant_images_and_patches_give_no_nan(name):
    loss = SIMILARITIES[name]
    flat, image = tf.fill((2, 11, 12, 1), 0.3), tf.constant(images((11, 12))[0])
    patch = tf.concat([image[:, :3], flat[:, 3:]], axis=1)  # a constant patch in one
    with tf.GradientTape() as tape:
        tape.watch([flat, image, patch])
        values = [loss(flat, flat), loss(image, flat), loss(flat, image), loss(patch, image), loss(patch, patch)]
    np.testing.assert_allclose(values[0], OF_CONSTANTS.get(name, 0), atol=1e-5)
    assert all(np.all(np.isfinite(g)) for g in tape.gradient(values, [flat, image, patch]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "shape"), [*((name, SHAPES[0]) for name in SIMILARITIES), *((n, SHAPES[1]) for n in ("ncc", "local_ncc"))]
)
def test_gradient_equals_finite_differences(name, shape):
    loss = SIMILARITIES[name]
    a, b = images(shape, np.float64)
    direction = np.random.default_rng(1).normal(size=a.shape)
    with tf.GradientTape() as tape:
        x = tf.constant(a)
        tape.watch(x)
        value = loss(x, b)
    slope = (loss(a + 1e-6 * direction, b) - loss(a - 1e-6 * direction, b)) / 2e-6
    gradient = tape.gradient(value, x).numpy()
    np.testing.assert_allclose((gradient * direction).reshape(2, -1).sum(1), slope, rtol=1e-4)


def test_similarity_function_sets_the_settings():
    a, b = images((11, 12))
    np.testing.assert_allclose(similarity_function("mse", {"image_sigma": 0.5})(a, b), 4 * mse(a, b), rtol=1e-6)
    np.testing.assert_allclose(similarity_function("ncc")(a, b), ncc(a, b))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [("nc", {}, "mutual_information or"), ("mse", {"sigma": 1}, "no setting 'sigma'; it has image_sigma")],
)
def test_unknown_similarities_and_settings_are_refused(name, settings, message):
    with pytest.raises(ValueError, match=message):
        similarity_function(name, settings)


@pytest.mark.slow
@pytest.mark.parametrize("name", SIMILARITIES)
@pytest.mark.parametrize("shape", SHAPES)
def test_channels_are_compared_one_by_one_and_summed_with_weights(name, shape):
    a, b = np.random.default_rng(0).random((2, 2, *shape, 3)).astype(np.float32)
    each = [SIMILARITIES[name](a[..., k : k + 1], b[..., k : k + 1]) for k in range(3)]
    for weights in (None, (0.5, 0.0, 2.0)):
        loss = similarity_function(name, weights and {"channel_weights": weights})
        expected = np.average(each, axis=0) if weights is None else np.tensordot(weights, each, axes=1)
        np.testing.assert_allclose(loss(a, b), expected, rtol=1e-5)
        np.testing.assert_allclose(tf.function(loss)(a, b), expected, rtol=1e-5)


def test_weights_of_channels_that_are_none():
    for weights in (0.5, (), (-1, 2), (0, 0), ("a", 1), [float("inf"), 1]):
        with pytest.raises(ValueError, match="channel_weights are numbers of 0 or more"):
            similarity_function("ncc", {"channel_weights": weights})
    a, b = images((11, 12))
    with pytest.raises(ValueError, match="channel_weights has 2 weights for images of 1 channels"):
        similarity_function("ncc", {"channel_weights": (1, 1)})(a, b)
