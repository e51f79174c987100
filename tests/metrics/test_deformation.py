import numpy as np
import pytest
import SimpleITK as sitk

from deepatlas_tf.metrics import blocks
from deepatlas_tf.metrics.deformation import folds_percent, jacobian_determinant, regularity, sdlogj

SHAPES = [(12, 15), (10, 12, 9)]


def smooth_field(shape, scale=1.0):
    """A field with folds if the scale is large."""
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    phases = np.arange(1, len(shape) + 1)
    return scale * np.sin(grid @ np.random.RandomState(0).uniform(0.2, 0.7, (len(shape), len(shape))) + phases)


def affine_field(shape, matrix):
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    return grid @ (np.asarray(matrix) - np.eye(len(shape))).T + 3.0


@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_simpleitk_inside(shape):
    u = smooth_field(shape)
    # ITK's arrays have the axes reversed; its vector components have not
    image = sitk.GetImageFromArray(
        np.ascontiguousarray(np.moveaxis(u, range(len(shape)), reversed(range(len(shape))))), True
    )
    expected = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(image)).T
    inside = (slice(1, -1),) * len(shape)
    np.testing.assert_allclose(jacobian_determinant(u)[inside], expected[inside], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_affine_map_has_its_determinant_everywhere(shape):
    matrix = np.random.RandomState(1).uniform(-1, 1, (len(shape),) * 2) + np.eye(len(shape))
    found = jacobian_determinant(affine_field(shape, matrix).astype(np.float32))
    assert found.shape == shape and found.dtype == np.float64
    np.testing.assert_allclose(found, np.linalg.det(matrix), rtol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_regular_fields(shape):
    no_displacement = np.zeros((*shape, len(shape)))
    assert folds_percent(no_displacement) == sdlogj(no_displacement) == 0
    mirrored = affine_field(shape, np.diag([-1] + [1] * (len(shape) - 1)))
    assert folds_percent(mirrored) == 100
    np.testing.assert_allclose(sdlogj(affine_field(shape, 2 * np.eye(len(shape)))), 0, atol=1e-12)


def test_folds_are_counted_in_voxels():
    u = np.zeros((10, 4, 2))
    u[5, :, 0] = -2  # the central difference is 1 - 1 = 0 at x = 4 and 1 + 1 at x = 6
    assert folds_percent(u) == 10
    logs = np.zeros(10)
    logs[[4, 6]] = np.log(1e-9), np.log(2)
    np.testing.assert_allclose(sdlogj(u), logs.std())


def test_sdlogj_of_a_stretch():
    u = np.zeros((8, 6, 2))
    u[:, :, 0] = np.array([0, 0, 0, 0, 1, 2, 3, 4])[:, None]  # det 1, then 1.5 for one row, then 2
    expected = np.std(np.log([1, 1, 1, 1.5, 2, 2, 2, 2]))
    np.testing.assert_allclose(sdlogj(u), expected)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rows", [1, 4])
def test_slabs_are_the_whole(shape, rows, monkeypatch):
    u = smooth_field(shape, scale=2)
    whole = jacobian_determinant(u)
    monkeypatch.setattr(blocks, "BLOCK_VOXELS", rows * np.prod(shape[1:]))
    np.testing.assert_array_equal(jacobian_determinant(u), whole)
    assert regularity(u) == {"folds_percent": folds_percent(u), "sdlogj": sdlogj(u)} and folds_percent(u) > 0


@pytest.mark.parametrize("shape", [(5, 5, 3), (5, 5, 5, 2), (5, 1)])
def test_bad_shapes(shape):
    with pytest.raises(ValueError, match="displacement field"):
        jacobian_determinant(np.zeros(shape))
