"""The network's grid for a whole scan, and the part of a scan that it is for."""

import numpy as np
import pytest

from deepatlas_tf.apply.grids import anatomy, covering_transform, cropped, extent
from deepatlas_tf.runs.model import Grid
from deepatlas_tf.scans.grid import GridTransform
from deepatlas_tf.scans.nifti import Nifti
from deepatlas_tf.types import DataError

GRID = Grid(("background", "a"), (24, 20, 16), (2.0, 2.0, 3.0))


def scan(shape, affine):
    return Nifti(np.zeros(shape, np.float32), np.asarray(affine, float))


def test_a_scan_inside_the_grid_is_padded_as_in_training():
    small = scan((20, 30, 10), np.diag([1.5, 1.2, 4, 1]))
    transform, training = (
        covering_transform(small, GRID),
        GridTransform(small.affine, (20, 30, 10), GRID.shape, GRID.spacing),
    )
    assert transform.shape == training.shape and transform.offsets == training.offsets


@pytest.mark.parametrize(
    "affine", [np.diag([1.3, 0.9, 1.7, 1]), [[0, 0, 2, 0], [-1.5, 0, 0, 9], [0, 1, 0, 0], [0, 0, 0, 1]]]
)
def test_a_larger_scan_is_held_whole(affine):
    large = scan((64, 50, 40), affine)
    transform = covering_transform(large, GRID)
    corners = transform.image_to_source(np.ones(transform.shape, np.float32))
    np.testing.assert_allclose(corners, 1, atol=1e-5)  # every voxel of the scan lies in the network's grid
    assert all(n >= m for n, m in zip(transform.shape, extent(large, GRID), strict=True))


def test_two_scans_get_one_shape():
    small, large = scan((20, 20, 20), np.eye(4)), scan((80, 30, 70), np.eye(4))
    assert covering_transform(small, GRID, large).shape == covering_transform(large, GRID, small).shape == (40, 20, 24)


@pytest.mark.parametrize("kind", ["black", "continued"])
@pytest.mark.parametrize(
    "affine", [np.diag([1.3, 0.9, 1.7, 1]), [[0, 0, 2, 0], [-1.5, 0, 0, 9], [0, 1, 0, 0], [0, 0, 0, 1]]]
)
def test_the_anatomy_is_the_scan_without_its_border(kind, affine):
    volume = np.random.default_rng(0).gamma(2, 100, (30, 18, 14)).astype(np.float32)
    widths, affine = [(5, 0), (40, 4), (4, 6)], np.asarray(affine, float)
    padded = np.pad(volume, widths, **({"mode": "edge"} if kind == "continued" else {}))
    shifted = affine.copy()
    shifted[:3, 3] -= affine[:3, :3] @ [before for before, _ in widths]
    whole = Nifti(padded, shifted)
    found = cropped(whole, anatomy(whole, GRID))
    np.testing.assert_array_equal(found.volume, volume)
    np.testing.assert_allclose(found.affine, affine)


def test_a_scan_in_air_is_cut_to_the_grid_along_its_own_axes():
    """Its second axis is the grid's first, of 24 voxels of 2 mm, which are 48 of the scan's."""
    ball = np.linalg.norm(np.moveaxis(np.indices((60, 80, 30)), 0, -1) - (30, 55, 15), axis=-1) < 7
    volume = np.where(ball, np.random.default_rng(0).random((60, 80, 30)) + 1, 0).astype(np.float32)
    permuted = Nifti(volume, np.array([[0, 1.0, 0, 0], [2.0, 0, 0, 0], [0, 0, 3.0, 0], [0, 0, 0, 1]]))
    found = anatomy(permuted, GRID)
    assert [part.stop - part.start for part in found] == [20, 48, 16]
    assert found == (slice(20, 40), slice(31, 79), slice(7, 23))


@pytest.mark.parametrize("size", [1e-38, 1e-3, 300.0])
def test_voxels_that_cannot_be_are_refused_at_once(size):
    with pytest.raises(DataError, match="voxel size in its header"):
        covering_transform(scan((40, 48, 40), np.diag([size, size, size, 1])), GRID)
