"""A network's grid in the space of a reference: against SimpleITK, against the plain grid, and there and back."""

import itertools

import nibabel as nib
import numpy as np
import pytest
import scipy.ndimage
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from deepatlas_tf.scans.aligned_grid import AlignedGridTransform
from deepatlas_tf.scans.grid import GridTransform

SHAPE, GRID, SPACING = (26, 22, 30), (20, 24, 16), (1.3, 1.1, 1.6)
MAP = np.eye(4)  # mm of the reference to mm of the scan
MAP[:3, :3] = Rotation.from_euler("xyz", [14, -10, 21], degrees=True).as_matrix() @ np.diag([1.1, 0.93, 1.04])
MAP[:3, 3] = 3.0, -4.5, 2.0
ORIENTATIONS = list(itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)))


def scanner_affine(order, signs, size=0.9):
    affine = np.zeros((4, 4))
    for k, axis in enumerate(order):
        affine[axis, k] = signs[k] * size
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(SHAPE) - 1) / 2)
    affine[3, 3] = 1
    return affine


def reference_affine(shape=GRID, spacing=SPACING):
    affine = np.diag([*spacing, 1.0])
    affine[:-1, -1] = -np.array(spacing) * (np.array(shape) - 1) / 2
    return affine


def itk_resampled(tmp_path, volume, affine, placement, shape, method=sitk.sitkLinear):
    """By SimpleITK: a grid of the reference, its points taken to the scan by the map as an ITK transform."""
    nib.save(nib.Nifti1Image(volume.astype(np.float32), affine), tmp_path / "scan.nii")
    nib.save(nib.Nifti1Image(np.zeros(shape, np.float32), np.linalg.inv(MAP) @ placement), tmp_path / "grid.nii")
    scan, grid = (sitk.ReadImage(str(tmp_path / name)) for name in ("scan.nii", "grid.nii"))
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    matrix, transform = flip @ MAP @ flip, sitk.AffineTransform(3)
    transform.SetMatrix(matrix[:3, :3].ravel())
    transform.SetTranslation(matrix[:3, 3])
    found = sitk.Resample(scan, grid, transform, method, -1e6)
    return sitk.GetArrayFromImage(found).T


def test_images_agree_with_simpleitk_in_all_orientations(tmp_path):
    """On a grid as fine as the scan nothing is smoothed: the values are SimpleITK's."""
    rng = np.random.default_rng(0)
    spacing = (0.7, 0.8, 0.75)
    placement = MAP @ reference_affine(GRID, spacing)
    for order, signs in ORIENTATIONS:
        affine = scanner_affine(order, signs)
        volume = rng.normal(0, 1, SHAPE).astype(np.float32)
        transform = AlignedGridTransform(affine, SHAPE, GRID, spacing, placement)
        expected = itk_resampled(tmp_path, volume, affine, placement, GRID)
        inside = expected > -1e5
        assert inside.mean() > 0.5
        np.testing.assert_allclose(transform.image_to_network(volume)[inside], expected[inside], atol=5e-3)


def test_coarser_voxels_are_smoothed_first(tmp_path):
    affine = scanner_affine((2, 0, 1), (1, -1, 1))
    spacing = (2.2, 2.6, 2.4)
    placement = MAP @ reference_affine((10, 9, 10), spacing)
    volume = np.random.default_rng(0).normal(0, 1, SHAPE).astype(np.float32)
    transform = AlignedGridTransform(affine, SHAPE, (10, 9, 10), spacing, placement)
    # by hand: the size of a new voxel along each axis of the scan, in voxels of the scan
    widths = np.sqrt(((np.linalg.inv(affine) @ placement)[:3, :3] ** 2).sum(1))
    assert widths.min() > 2
    smooth = scipy.ndimage.gaussian_filter(volume, np.sqrt(widths**2 - 1) / 2.3548200450309493, mode="nearest")
    expected = itk_resampled(tmp_path, smooth, affine, placement, (10, 9, 10))
    inside = expected > -1e5
    np.testing.assert_allclose(transform.image_to_network(volume)[inside], expected[inside], atol=1e-3)


@pytest.mark.parametrize("n_axes", [2, 3])
def test_without_an_alignment_it_is_the_plain_grid(n_axes):
    affine = np.diag([-0.9, 1.2, 1.0][:n_axes] + [1.0])
    shape, grid, spacing = SHAPE[:n_axes], GRID[:n_axes], (1.0, 1.0, 1.3)[:n_axes]
    plain = GridTransform(affine, shape, grid, spacing)
    aligned = AlignedGridTransform(affine, shape, grid, spacing, plain.affine)
    rng = np.random.default_rng(0)
    image = rng.normal(0, 1, shape).astype(np.float32)
    label = (scipy.ndimage.gaussian_filter(rng.normal(0, 1, shape), 2) * 40).astype(int) % 4
    np.testing.assert_allclose(aligned.image_to_network(image), plain.image_to_network(image), atol=2e-3)
    found, expected = aligned.label_to_network(label, 4), plain.label_to_network(label, 4)
    inside = (slice(1, -1),) * n_axes  # beyond the scan's border a class ends half a voxel earlier or later
    assert (found[inside] == expected[inside]).mean() > 0.995
    small = rng.normal(0, 1, grid).astype(np.float32)
    within = aligned.image_to_source(np.ones(grid, np.float32)) > 0.999  # not in the last half voxel of the grid
    assert within.mean() > 0.3
    np.testing.assert_allclose(aligned.image_to_source(small)[within], plain.image_to_source(small)[within], atol=5e-3)


def anatomy(shape):
    """Three structures, one in another."""
    at = (np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1) - (np.array(shape) - 1) / 2) / shape
    label = np.zeros(shape, np.uint8)
    for index, radius in ((1, 0.38), (2, 0.24), (3, 0.14)):
        label[np.linalg.norm(at, axis=-1) < radius] = index
    return label


def dice(a, b):
    return np.mean([2 * ((a == c) & (b == c)).sum() / ((a == c).sum() + (b == c).sum()) for c in (1, 2, 3)])


@pytest.mark.parametrize("n_axes", [2, 3])
def test_label_maps_come_back_as_well_as_without_the_affine(n_axes):
    shape, grid, spacing = (60, 64, 56)[:n_axes], (48, 48, 48)[:n_axes], (1.5, 1.5, 1.5)[:n_axes]
    affine = np.diag([-1.0, 1.0, 1.0][:n_axes] + [1.0])
    affine[:-1, -1] = -affine[:-1, :-1] @ ((np.array(shape) - 1) / 2)
    turn = Rotation.from_euler("xyz", [8, -6, 15], degrees=True).as_matrix()
    turn = turn if n_axes == 3 else Rotation.from_euler("z", 15, degrees=True).as_matrix()[:2, :2]
    matrix = np.eye(n_axes + 1)
    matrix[:-1, :-1] = turn * 1.03
    label = anatomy(shape)
    plain = GridTransform(affine, shape, grid, spacing)
    aligned = AlignedGridTransform(affine, shape, grid, spacing, matrix @ reference_affine(grid, spacing))
    found = [dice(label, t.label_to_source(t.label_to_network(label, 4), 4)) for t in (plain, aligned)]
    assert found[0] > 0.9 and found[1] >= 0.98 * found[0]


def test_a_class_that_is_not_there_and_a_grid_that_is_elsewhere():
    affine = scanner_affine((0, 1, 2), (1, 1, 1))
    far = MAP @ reference_affine()
    far[:3, 3] += 500
    transform = AlignedGridTransform(affine, SHAPE, GRID, SPACING, far)
    assert not transform.label_to_network(np.ones(SHAPE, np.uint8), 3).any()
    assert not transform.label_to_source(np.ones(GRID, np.uint8), 3).any()
    assert not transform.image_to_source(np.ones(GRID, np.float32)).any()
