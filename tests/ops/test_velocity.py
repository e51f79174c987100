"""Integration of a velocity field against voxelmorph, and what a flow is: its inverse is that of minus the velocity."""

import numpy as np
import pytest

from deepatlas_tf.keras_stack import tf, vxm
from deepatlas_tf.models.layers import VecInt
from deepatlas_tf.ops.velocity import integrate
from deepatlas_tf.ops.warp import warp

SHAPES = [(7, 9), (6, 7, 8)]


@pytest.mark.parametrize("shape", SHAPES)
def test_integration_equals_voxelmorphs(shape):
    velocity = np.random.default_rng(0).normal(size=(2, *shape, len(shape))).astype(np.float32)
    expected = vxm.layers.VecInt(method="ss", int_steps=5)(velocity)
    np.testing.assert_allclose(VecInt(5)(velocity), expected, atol=1e-5)
    np.testing.assert_allclose(tf.function(integrate)(velocity, 5), expected, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_integration_of_opposite_velocities_are_inverse(shape):
    shape = tuple(2 * n for n in shape)
    smooth = [np.sin(np.pi * np.arange(n) / (n - 1)) for n in shape]
    bump = np.prod(np.meshgrid(*smooth, indexing="ij"), axis=0)
    velocity = np.stack([bump] * len(shape), axis=-1)[None].astype(np.float32)
    forward, backward = integrate(velocity), integrate(-velocity)
    composed = backward + warp(forward, backward)
    assert np.abs(forward).max() > 0.9 and np.abs(composed).max() < 0.05


@pytest.mark.parametrize("shape", SHAPES)
def test_a_constant_velocity_is_its_own_displacement(shape):
    velocity = tf.fill((1, *shape, len(shape)), 0.7)
    np.testing.assert_allclose(integrate(velocity), velocity, atol=1e-5)
