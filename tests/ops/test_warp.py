"""Warp against its plain definition, SciPy and voxelmorph, in 2D and 3D, eagerly and in a graph."""

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from deepatlas_tf.keras_stack import tf, vxm
from deepatlas_tf.models.layers import SpatialTransformer
from deepatlas_tf.ops.warp import FEW_CHANNELS, plain_warp, warp

SHAPES = [(7, 9), (6, 7, 8)]


def _random(shape, channels=3, batch=2, size=2.0):
    rng = np.random.default_rng(0)
    image = rng.random((batch, *shape, channels), dtype=np.float32)
    u = rng.normal(scale=size, size=(batch, *shape, len(shape))).astype(np.float32)
    return image, u


def _scipy_warp(image, u, order):
    grid = np.stack(np.meshgrid(*map(np.arange, image.shape[1:-1]), indexing="ij"))
    result = np.empty_like(image)
    for b in range(image.shape[0]):
        location = grid + np.moveaxis(u[b], -1, 0)
        for c in range(image.shape[-1]):
            result[b, ..., c] = map_coordinates(image[b, ..., c], location, order=order, mode="nearest")
    return result


@pytest.mark.parametrize("in_graph", [False, True])
@pytest.mark.parametrize("interpolation", ["linear", "nearest"])
@pytest.mark.parametrize("shape", SHAPES)
def test_warp_equals_scipy(shape, interpolation, in_graph):
    image, u = _random(shape)
    function = tf.function(warp) if in_graph else warp
    expected = _scipy_warp(image, u, order=1 if interpolation == "linear" else 0)
    np.testing.assert_allclose(function(image, u, interpolation), expected, atol=2e-6)
    np.testing.assert_allclose(plain_warp(tf.constant(image), tf.constant(u), interpolation), expected, atol=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_layer_equals_voxelmorphs(shape):
    image, u = _random(shape)
    expected = vxm.layers.SpatialTransformer()([image, u])
    np.testing.assert_allclose(SpatialTransformer()([image, u]), expected, atol=2e-6)


def test_direction_is_that_of_the_field():
    image = tf.reshape(tf.range(5.0), (1, 5, 1, 1))
    u = tf.constant([1.0, 0.0]) * tf.ones((1, 5, 1, 2))
    assert warp(image, u)[0, :, 0, 0].numpy().tolist() == [1, 2, 3, 4, 4]


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_equal_finite_differences(shape):
    image, u = map(tf.constant, _random(shape, channels=2, batch=1, size=0.2))
    u += 0.05 * tf.sign(u)  # away from whole voxels, where linear interpolation has a kink
    rng = np.random.default_rng(1)
    weight, towards_image = rng.normal(size=(2, *image.shape)).astype(np.float32)
    towards_u = 0.04 * rng.uniform(-1, 1, u.shape).astype(np.float32)

    def slope(of_image, of_u):
        values = [warp(image + s * of_image * towards_image, u + s * of_u * towards_u) for s in (0.5, -0.5)]
        return tf.reduce_sum(weight * (values[0] - values[1]))

    grad_image, grad_u = _gradients(warp, image, u, weight)
    np.testing.assert_allclose(slope(1, 0), np.sum(grad_image * towards_image), rtol=1e-3)
    np.testing.assert_allclose(slope(0, 1), np.sum(grad_u * towards_u), rtol=1e-2)


def _gradients(transform, image, u, weight):
    with tf.GradientTape() as tape:
        tape.watch([image, u])
        total = tf.reduce_sum(weight * transform(image, u))
    return tape.gradient(total, [image, u])


# each number of channels has its own gradient; a graph and its branches call the same programs
@pytest.mark.parametrize(
    ("kind", "channels"),
    [*(("eager", n) for n in (1, FEW_CHANNELS, FEW_CHANNELS + 1)), ("graph", 1), ("branches", FEW_CHANNELS + 1)],
)
@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_equal_voxelmorphs_and_the_definition(shape, channels, kind):
    image, u = map(tf.constant, _random(shape, channels))
    weight = np.random.default_rng(1).normal(size=image.shape).astype(np.float32)

    def in_branches(yes):
        def in_branch(image, u):
            return tf.cond(yes, lambda: warp(image, u), lambda: image)

        return tf.cond(yes, lambda: _gradients(in_branch, image, u, weight), lambda: [image, u])

    found = {
        "eager": lambda: _gradients(warp, image, u, weight),
        "graph": lambda: tf.function(_gradients)(warp, image, u, weight),
        "branches": lambda: tf.function(in_branches)(tf.constant(True)),
    }[kind]()
    expected = _gradients(lambda *both: vxm.layers.SpatialTransformer()(both), image, u, weight)
    for ours, theirs, plain in zip(found, expected, _gradients(plain_warp, image, u, weight), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)
        np.testing.assert_allclose(ours, plain, atol=2e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_of_nearest_is_that_of_its_definition(shape):
    """Each voxel of the image has the sum of where it was read; the field has no gradient."""
    image, u = map(tf.constant, _random(shape))
    weight = np.random.default_rng(1).normal(size=image.shape).astype(np.float32)
    found, plain = (_gradients(lambda x, v, f=f: f(x, v, "nearest"), image, u, weight) for f in (warp, plain_warp))
    np.testing.assert_allclose(found[0], tf.convert_to_tensor(plain[0]), atol=1e-5)
    assert plain[1] is None and not np.any(found[1])


@pytest.mark.slow
@pytest.mark.parametrize("compile_what", ["gradient too", "forward", "forward, inside a function"])
@pytest.mark.parametrize("channels", [1, FEW_CHANNELS + 1])
def test_gradients_where_the_caller_compiles(channels, compile_what):
    image, u = map(tf.constant, _random((4, 5, 6), channels))
    weight = np.random.default_rng(1).normal(size=image.shape).astype(np.float32)
    forward = tf.function(lambda image, u: warp(image, u), jit_compile=True)
    gradients = {
        "gradient too": tf.function(lambda image, u: _gradients(warp, image, u, weight), jit_compile=True),
        "forward": lambda image, u: _gradients(forward, image, u, weight),
        "forward, inside a function": tf.function(lambda image, u: _gradients(forward, image, u, weight)),
    }[compile_what]
    for compiled, plain in zip(gradients(image, u), _gradients(warp, image, u, weight), strict=True):
        np.testing.assert_allclose(compiled, plain, atol=1e-5)


@pytest.mark.parametrize("channels", [1, FEW_CHANNELS + 1])
@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_of_a_half_precision_image(shape, channels):
    image, u = map(tf.constant, _random(shape, channels))
    weight = np.random.default_rng(1).normal(size=image.shape).astype(np.float32)
    halves = _gradients(lambda x, u: tf.cast(warp(x, u), tf.float32), tf.cast(image, tf.bfloat16), u, weight)
    expected = _gradients(warp, image, u, weight)
    assert [x.dtype for x in halves] == [tf.bfloat16, tf.float32]
    for half, whole in zip(halves, expected, strict=True):
        np.testing.assert_allclose(tf.cast(half, tf.float32), whole, atol=0.02 * np.abs(whole).max())


@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_of_field_is_slope_of_image(shape):
    slopes = np.arange(1.0, len(shape) + 1).astype(np.float32)
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1).astype(np.float32)
    ramp = tf.constant((grid @ slopes)[None, ..., None])
    u = tf.Variable(0.3 * tf.ones((1, *shape, len(shape))))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(warp(ramp, u))
    inside = (0, *([slice(0, -1)] * len(shape)))
    np.testing.assert_allclose(tape.gradient(total, u)[inside], np.broadcast_to(slopes, u[inside].shape), atol=1e-4)


def test_label_map_stays_a_label_map():
    label = tf.constant(np.random.default_rng(0).integers(0, 4, (1, 6, 6, 6, 1)))
    u = 0.5 * tf.random.stateless_normal((1, 6, 6, 6, 3), (0, 1))
    warped = warp(label, u, "nearest")
    assert warped.dtype == label.dtype and set(np.unique(warped)) <= set(range(4))


def test_wrong_calls_are_refused():
    image, u = _random((7, 9))
    with pytest.raises(ValueError, match="'linear' or 'nearest'"):
        warp(tf.constant(image), tf.constant(u), "cubic")
    with pytest.raises(ValueError, match="2 components, the image 3"):
        warp(tf.zeros((1, 4, 4, 4, 1)), tf.zeros((1, 4, 4, 4, 2)))
    with pytest.raises(ValueError, match="indexing"):
        SpatialTransformer(indexing="xy")
