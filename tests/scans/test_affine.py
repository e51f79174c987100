"""Rigid and affine registration of synthetic bodies with a known map, and what cannot be an alignment."""

import sys

import numpy as np
import pytest
from nibabel.affines import apply_affine
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial.transform import Rotation

from deepatlas_tf.phantoms.knee import knee
from deepatlas_tf.scans.affine import Alignment, failure, register_affine
from deepatlas_tf.scans.nifti import Nifti
from deepatlas_tf.types import DataError, SettingError

SHAPE = (44, 40, 36)
AFFINES = {
    3: np.array([[-2.0, 0, 0, 30], [0, 0, 2.0, -40], [0, 1.9, 0, 10], [0, 0, 0, 1]]),
    2: np.array([[0, 1.5, -20], [-1.4, 0, 30], [0, 0, 1.0]]),
}


def points(shape):
    return np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).astype(float)


def body(n_axes):
    """An asymmetric body of ellipsoids in air, as bright as a scanner likes."""
    shape = np.array(SHAPE[:n_axes])
    x = (points(shape) - (shape - 1) / 2) / shape * 2
    volume = 300.0 * (np.linalg.norm(x / np.array((0.7, 0.8, 0.75))[:n_axes], axis=-1) < 1)
    middle, radii = np.array((0.25, 0.2, 0.1))[:n_axes], np.array((0.3, 0.2, 0.35))[:n_axes]
    volume += 400 * (np.linalg.norm((x - middle) / radii, axis=-1) < 1)
    volume -= 200 * (np.linalg.norm((x + 0.25) / np.array((0.2, 0.35, 0.25))[:n_axes], axis=-1) < 1)
    return gaussian_filter(volume, 0.7).astype(np.float32)


def truth(n_axes, scales):
    turn = Rotation.from_euler("xyz", [12, -9, 20], degrees=True).as_matrix()
    turn = turn if n_axes == 3 else Rotation.from_euler("z", 17, degrees=True).as_matrix()[:2, :2]
    matrix = np.eye(n_axes + 1)
    matrix[:-1, :-1] = turn @ np.diag(scales[:n_axes])
    matrix[:-1, -1] = (70, -30, 45)[:n_axes]
    return matrix


@pytest.mark.parametrize("n_axes", [2, 3])
@pytest.mark.parametrize(("kind", "scales"), [("affine", (1.06, 0.95, 1.0)), ("rigid", (1.0, 1.0, 1.0))])
def test_a_known_map_is_found(n_axes, kind, scales):
    affine, known = AFFINES[n_axes], truth(n_axes, scales)
    fixed = Nifti(body(n_axes), affine)
    # the moving scan lies on a grid of its own, so that it is not the same array, and is a hundred times as bright
    centre = apply_affine(known @ affine, (np.array(fixed.volume.shape) - 1) / 2)
    grid = np.diag([2.2] * n_axes + [1.0])
    grid[:-1, -1] = centre - 2.2 * 24
    at = apply_affine(np.linalg.inv(known @ affine) @ grid, points((49,) * n_axes))
    moving = 100 * map_coordinates(fixed.volume, np.moveaxis(at, -1, 0), order=1)
    found = register_affine(Nifti(moving, grid), fixed, kind)
    inside = apply_affine(affine, points(fixed.volume.shape)[fixed.volume > 100])
    error = np.linalg.norm(apply_affine(found.matrix, inside) - apply_affine(known, inside), axis=-1)
    assert error.mean() < 1.0 and error.max() < 2.0  # mm, half a voxel and one
    assert found.gain > 0.1 and failure(found) is None
    if kind == "rigid":
        np.testing.assert_allclose(found.matrix[:-1, :-1] @ found.matrix[:-1, :-1].T, np.eye(n_axes), atol=1e-6)


def test_the_same_scan_stays_where_it_is():
    scan = Nifti(body(3), AFFINES[3])
    found, again = (register_affine(scan, scan) for _ in range(2))
    np.testing.assert_array_equal(found.matrix, again.matrix)  # to the last bit
    corners = apply_affine(AFFINES[3], points((2, 2, 2)) * (np.array(SHAPE) - 1))
    assert np.abs(apply_affine(found.matrix, corners) - corners).max() < 0.5  # mm, a quarter of a voxel


def test_a_scan_that_lies_best_at_the_start_is_no_failure():
    """The optimum is where it starts, and the search ends a little beside it."""
    image, _ = knee(1, (40, 48, 40), (3.0, 3.0, 3.0))
    scan = Nifti(image.astype(np.float32), np.diag([3.0, 3.0, 3.0, 1.0]))
    found = register_affine(scan, scan)
    assert found.gain == 0 and failure(found) is None
    np.testing.assert_allclose(found.matrix, np.eye(4), atol=1e-9)


@pytest.mark.parametrize(
    ("change", "gain", "text"),
    [
        (np.diag([1.0, -1.0, 1.0, 1.0]), 0.1, "reflection"),
        (np.diag([1.0, 2.5, 1.0, 1.0]), 0.1, "scales by 1 to 2.5"),
        (np.diag([0.4, 1.0, 1.0, 1.0]), 0.1, "scales by 0.4 to 1"),
        (np.eye(4) * np.nan, 0.1, "not finite"),
        (np.eye(4), -0.01, "fit less"),
        (np.eye(4), 0.0, None),
    ],
)
def test_what_cannot_be_right_is_named(change, gain, text):
    found = failure(Alignment(change, gain))
    assert found is None if text is None else text in found


def test_scans_that_cannot_be_aligned():
    volume, piece = Nifti(body(3), AFFINES[3]), Nifti(body(2), AFFINES[2])
    with pytest.raises(DataError, match="2 axes to a scan of 3"):
        register_affine(piece, volume)
    with pytest.raises(SettingError, match="rigid or affine"):
        register_affine(volume, volume, "similar")


def test_without_simpleitk_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(DataError, match=r"pip install -e '.\[itk\]'"):
        register_affine(Nifti(body(2), AFFINES[2]), Nifti(body(2), AFFINES[2]))
