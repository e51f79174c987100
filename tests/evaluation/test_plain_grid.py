"""Predictions in the space of a reference, brought back: by hand, with maps that are known."""

import numpy as np
import pytest
from nibabel.affines import apply_affine
from scipy.ndimage import map_coordinates

from deepatlas_tf.evaluation.plain_grid import plain_field, plain_label


def points(shape):
    return np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).astype(float)


def near_identity(n_axes, seed):
    rng = np.random.default_rng(seed)
    matrix = np.eye(n_axes + 1)
    matrix[:-1, :-1] += rng.normal(0, 0.05, (n_axes, n_axes))
    matrix[:-1, -1] = rng.normal(0, 1, n_axes)
    return matrix


@pytest.mark.parametrize("n_axes", [2, 3])
def test_a_field_is_composed_with_both_maps(n_axes):
    shape = (14, 15, 16)[:n_axes]
    moving, fixed = near_identity(n_axes, 0), near_identity(n_axes, 1)
    u = np.random.default_rng(2).normal(0, 1, (*shape, n_axes)).astype(np.float32)
    found = plain_field(u, moving, fixed)
    x = points(shape)
    y = apply_affine(fixed, x)
    at = np.moveaxis(y, -1, 0)
    step = np.stack([map_coordinates(u[..., k], at, order=1, mode="nearest") for k in range(n_axes)], -1)
    expected = apply_affine(np.linalg.inv(moving), y + step) - x
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert found.dtype == np.float32


@pytest.mark.parametrize("n_axes", [2, 3])
def test_without_a_field_only_the_maps_are_left(n_axes):
    shape = (9, 8, 7)[:n_axes]
    moving, fixed = near_identity(n_axes, 0), near_identity(n_axes, 1)
    found = plain_field(np.zeros((*shape, n_axes), np.float32), moving, fixed)
    expected = apply_affine(np.linalg.inv(moving) @ fixed, points(shape)) - points(shape)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("n_axes", [2, 3])
def test_a_label_map_moves_by_whole_voxels(n_axes):
    shape = (12, 11, 10)[:n_axes]
    prediction = np.random.default_rng(0).integers(0, 3, shape)
    shift = np.eye(n_axes + 1)
    shift[:-1, -1] = (2, -3, 1)[:n_axes]  # the plain voxel x lies at x + shift
    found = plain_label(prediction, shift, 3)
    expected = np.zeros(shape, int)
    for x in np.ndindex(shape):
        y = np.array(x) + shift[:-1, -1].astype(int)
        if ((y >= 0) & (y < shape)).all():
            expected[x] = prediction[tuple(y)]
    np.testing.assert_array_equal(found, expected)
