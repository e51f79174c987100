"""Generators and discriminators: any size in 2D and 3D, saved and loaded."""

import numpy as np
import pytest

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.models.build import load_net
from deepatlas_tf.models.discriminator.patchgan import discriminator
from deepatlas_tf.models.generator.resnet import generator

SHAPES = [(13, 18), (9, 12, 7)]


def image(shape):
    return tf.random.stateless_uniform((2, *shape, 1), (0, 0))


def small_generator(shape):
    return generator(shape, (4, 8), 2)


def small_discriminator(shape):
    return discriminator(shape, (4, 8, 8))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_generator_gives_an_image_of_the_same_size(shape):
    translated = small_generator(shape)(image(shape))
    assert translated.shape == (2, *shape, 1) and translated.dtype == tf.float32
    assert 0 <= float(tf.reduce_min(translated)) and float(tf.reduce_max(translated)) <= 1


@pytest.mark.parametrize("shape", SHAPES)
def test_a_discriminator_gives_a_score_for_each_patch(shape):
    score = small_discriminator(shape)(image(shape))
    assert score.shape == (2, *(-(-n // 4) for n in shape), 1) and score.dtype == tf.float32


def test_patches_of_the_published_discriminator_are_70_voxels_wide():
    """A patch's score has no gradient outside; widths are cut, which do not matter for it. Instance norm is undone."""
    net = discriminator((160, 16), (2, 2, 2, 2))
    convolutions = [layer for layer in net.layers if "conv" in layer.name or layer.name == "score"]
    x = image((160, 16))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = x
        for layer in convolutions:
            y = layer(y)
        one = y[0, y.shape[1] // 2, 0, 0]
    felt = np.abs(tape.gradient(one, x)[0, :, :, 0]).sum(axis=1) > 0
    assert np.flatnonzero(felt)[-1] - np.flatnonzero(felt)[0] + 1 == 70


@pytest.mark.parametrize("make", [small_generator, small_discriminator])
@pytest.mark.parametrize("shape", SHAPES)
def test_saved_and_of_unknown_size_it_gives_the_same(make, shape, tmp_path):
    net, unknown = make(shape), make((None,) * len(shape))
    unknown.set_weights(net.get_weights())
    np.testing.assert_allclose(unknown(image(shape)), net(image(shape)), atol=1e-4)
    net.save(tmp_path / "net.keras")
    np.testing.assert_array_equal(load_net(tmp_path / "net.keras")(image(shape)), net(image(shape)))
