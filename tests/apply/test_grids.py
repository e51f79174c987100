"""The network's grid for a whole scan, and tiles."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from deepatlas_tf.apply.grids import OVERLAP, apply_in_tiles, covering_transform, extent, split
from deepatlas_tf.runs.model import Grid
from deepatlas_tf.scans.grid import GridTransform
from deepatlas_tf.scans.nifti import Nifti

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


@pytest.mark.parametrize(
    ("shape", "most"), [((100, 120), 4000), ((70, 90, 80), 70**3), ((64, 64, 64), 10), ((9, 9), 99)]
)
def test_tiles_cover_the_image_and_overlap(shape, most):
    parts = split(shape, most)
    for n, (starts, size) in zip(shape, parts, strict=True):
        assert starts[0] == 0 and starts[-1] + size == n
        assert all(a + size - b >= OVERLAP - 1 for a, b in zip(starts, starts[1:], strict=False))
        assert size <= n and (len(starts) == 1 or size > OVERLAP)
    assert np.prod([size for _, size in parts]) <= most or max(size for _, size in parts) <= 2 * OVERLAP


def test_tiles_of_a_local_function_are_the_whole():
    image = np.random.default_rng(0).normal(size=(150, 110, 1)).astype(np.float32)

    def blur(x):
        calls.append(x.shape)
        return np.concatenate([gaussian_filter(x, (2, 2, 0), truncate=4), x], axis=-1)

    calls = []
    tiled = apply_in_tiles(blur, image, 5000)
    assert len(calls) > 3
    np.testing.assert_allclose(tiled[..., 1:], image, atol=1e-5)
    # only 8 voxels around a border of a tile are wrong, where it has the least weight
    np.testing.assert_allclose(tiled, blur(image), atol=0.05)
    calls.clear()
    np.testing.assert_array_equal(apply_in_tiles(blur, image, 10**6), blur(image))
    assert len(calls) == 2
