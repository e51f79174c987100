"""From a field in the network's voxels to millimetres between two scans, with stand-ins for the network."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from deepatlas_tf.apply import register as register_module
from deepatlas_tf.apply.fields import warp_volume
from deepatlas_tf.apply.points import apply_affine, sample, transformed_voxels, voxels
from deepatlas_tf.apply.register import register_scans
from deepatlas_tf.runs.model import Grid
from deepatlas_tf.scans.grid import GridTransform
from deepatlas_tf.scans.nifti import Nifti

GRID = Grid(("background", "a"), (24, 24, 24), (2.0, 2.0, 2.0))
AFFINE = np.array([[-1.5, 0, 0, 20], [0, 0, 2.0, -30], [0, 1.8, 0, 12], [0, 0, 0, 1]])
INSIDE = (slice(3, -3),) * 3


def blobs(shape=(30, 28, 22), seed=0):
    return (1000 * gaussian_filter(np.random.default_rng(seed).random(shape), 3)).astype(np.float32)


def no_displacement(moving, fixed):
    return np.zeros((*fixed.shape[:-1], 3), np.float32)


def test_the_same_scan_stored_otherwise_is_not_moved():
    """Axes permuted and one flipped, as another program would store it: the same points in space."""
    fixed = Nifti(blobs(), AFFINE)
    moving = Nifti(np.ascontiguousarray(fixed.volume[:, ::-1].transpose(1, 2, 0)), AFFINE)
    # moving[i, j, k] = fixed[k, 27 - i, j]
    moving = moving._replace(affine=AFFINE @ np.array([[0, 0, 1, 0], [-1, 0, 0, 27], [0, 1, 0, 0], [0, 0, 0, 1.0]]))
    found = register_scans(no_displacement, GRID, moving, fixed)
    np.testing.assert_allclose(found.field.vectors, 0, atol=1e-4)
    np.testing.assert_allclose(warp_volume(moving.volume, moving.affine, found.field), fixed.volume, atol=1e-2)


def test_scans_are_brought_together_at_their_centres():
    fixed = Nifti(blobs(), AFFINE)
    away = AFFINE.copy()
    away[:3, 3] += (300, -20, 55)
    found = register_scans(no_displacement, GRID, Nifti(fixed.volume, away), fixed)
    np.testing.assert_allclose(
        found.field.vectors, np.broadcast_to((300, -20, 55), (*fixed.volume.shape, 3)), atol=1e-3
    )
    np.testing.assert_allclose(warp_volume(fixed.volume, away, found.field), fixed.volume, atol=1e-2)


def test_a_known_deformation_is_undone():
    """moving(p + d(p)) = fixed(p) for a d given in voxels of the network, which run towards RAS."""
    seen = []

    def displace(moving, fixed):
        seen.append(fixed.shape)
        x = voxels(fixed.shape[:3], slice(0, fixed.shape[0]))
        return np.stack([np.sin(x[..., 1] / 6), 0.1 * x[..., 0] - 1, np.cos(x[..., 2] / 5)], axis=-1).astype(np.float32)

    fixed = Nifti(blobs(), AFFINE)
    found = register_scans(displace, GRID, fixed, fixed)
    at = apply_affine(np.linalg.inv(found.transform.affine) @ AFFINE, voxels(fixed.volume.shape, slice(0, 30)))
    expected = 2.0 * np.stack([np.sin(at[..., 1] / 6), 0.1 * at[..., 0] - 1, np.cos(at[..., 2] / 5)], axis=-1)
    assert seen == [(24, 24, 26, 1)]  # the fixed scan is 45 x 44 x 50.4 mm
    np.testing.assert_allclose(found.field.vectors[INSIDE], expected[INSIDE], atol=0.05)


@pytest.mark.parametrize("shape", [(14, 15, 13), (8, 20, 13)])
@pytest.mark.parametrize(
    "affine",
    [
        np.diag([2.0, 2, 2, 1]),
        [[-2, 0, 0, 20], [0, 2, 0, -30], [0, 0, -2, 12], [0, 0, 0, 1]],
        [[0, 0, -2, 20], [2, 0, 0, -30], [0, 2, 0, 12], [0, 0, 0, 1]],
        [[-1.5, 0, 0, 20], [0, 0, 2.0, -30], [0, 1.8, 0, 12], [0, 0, 0, 1]],
        np.diag([2.0, 2, 4, 1]),
    ],
    ids=["same", "flipped", "permuted", "resampled", "every second voxel"],
)
def test_the_field_goes_where_the_network_says(affine, shape):
    """The definition point by point; with equal voxels nothing is interpolated, outside its grid the border goes on."""
    rng, affine = np.random.default_rng(0), np.array(affine, float)
    fixed = Nifti(np.zeros(shape, np.float32), affine)
    transform = GridTransform(affine, shape, (12, 16, 14), GRID.spacing)
    u = rng.normal(size=(*transform.shape, 3)).astype(np.float32)
    alignment = np.eye(4)
    alignment[:3] += 0.1 * rng.normal(size=(3, 4))
    at = apply_affine(np.linalg.inv(transform.affine) @ affine, voxels(shape, slice(0, shape[0])))
    expected = apply_affine(alignment @ transform.affine, at + sample(u, at)) - apply_affine(transform.affine, at)
    found = register_module.to_field(u, transform, fixed, alignment)
    np.testing.assert_allclose(found.vectors, expected, atol=1e-5)


def test_an_alignment_comes_before_the_network():
    """The moving scan is the fixed one, turned and shifted; with the true alignment the network sees it twice."""
    fixed = Nifti(blobs((36, 36, 30)), AFFINE)
    alignment = np.eye(4)
    alignment[:3, :3] = Rotation.from_euler("xyz", [10, 20, -15], degrees=True).as_matrix()
    alignment[:3, 3] = 40, -25, 60
    moving = Nifti(fixed.volume, alignment @ fixed.affine)
    images = []

    def remember(moving_image, fixed_image):
        images.extend([moving_image, fixed_image])
        return no_displacement(moving_image, fixed_image)

    found = register_scans(remember, GRID, moving, fixed, alignment)
    assert np.abs(images[0] - images[1])[INSIDE].mean() < 0.03 and images[1].std() > 0.1
    np.testing.assert_allclose(
        warp_volume(moving.volume, moving.affine, found.field)[INSIDE], fixed.volume[INSIDE], atol=1
    )


def test_a_scan_that_is_too_large_is_cropped_as_in_training(monkeypatch, capsys):
    monkeypatch.setattr(register_module, "MAX_VOXELS", 24**3)
    fixed = Nifti(blobs((60, 30, 30)), np.diag([2.0, 2, 2, 1]))
    shift = np.array([1.0, 0, -2])
    found = register_scans(lambda m, f: no_displacement(m, f) + shift.astype(np.float32), GRID, fixed, fixed)
    assert found.transform.shape == GRID.shape
    np.testing.assert_allclose(found.field.vectors, np.broadcast_to(2 * shift, (60, 30, 30, 3)), atol=1e-4)
    register_module._report_crop(found.transform, GRID)
    assert "48 x 48 x 48 mm" in capsys.readouterr().out


@pytest.mark.parametrize("order", [0, 1])
def test_sample_is_the_volume_at_its_voxels(order):
    volume = np.random.default_rng(0).normal(size=(4, 5, 6, 2))
    np.testing.assert_allclose(sample(volume, voxels((4, 5, 6), slice(1, 3)), order), volume[1:3])
    middle = np.array([[1.5, 2.0, 3.0]])
    if order == 1:
        np.testing.assert_allclose(sample(volume, middle)[0], (volume[1, 2, 3] + volume[2, 2, 3]) / 2)
    np.testing.assert_allclose(sample(volume, np.array([[-7.0, 9, 3]]), order)[0], volume[0, 4, 3])


def test_transformed_voxels_are_the_voxels_transformed():
    matrix = np.random.default_rng(0).normal(size=(4, 4))
    found = transformed_voxels(matrix, (5, 6, 7), slice(2, 4))
    np.testing.assert_allclose(found, apply_affine(matrix, voxels((5, 6, 7), slice(2, 4))), atol=1e-12)
