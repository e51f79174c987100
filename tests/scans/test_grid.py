import itertools

import nibabel as nib
import numpy as np
import pytest
import scipy.ndimage
import SimpleITK as sitk

from deepatlas_tf.scans.grid import GridTransform

SHAPE = (13, 10, 16)


def axis_affine(order, signs, zooms=(1.0, 1.0, 1.0), shift=(5.0, -7.0, 11.0)):
    """Affine whose voxel axis k runs along world axis order[k], with sign and size."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for k, axis in enumerate(order):
        affine[axis, k] = signs[k] * zooms[k]
    affine[:3, 3] = shift
    return affine


def oblique_affine():
    turn = scipy.spatial.transform.Rotation.from_euler("xyz", [12, -8, 15], degrees=True).as_matrix()
    affine = axis_affine((1, 2, 0), (1, -1, -1), (0.9, 2.0, 1.4))
    affine[:3, :3] = turn @ affine[:3, :3]
    return affine


AFFINES = {
    "plain": axis_affine((0, 1, 2), (1, 1, 1), (1.2, 1.2, 1.2)),
    "flipped": axis_affine((0, 1, 2), (-1, -1, 1), (1.0, 1.5, 2.5)),
    "permuted": axis_affine((2, 0, 1), (-1, 1, -1), (0.8, 1.1, 3.0)),
    "oblique": oblique_affine(),
}


def random_volume(shape=SHAPE):
    return np.random.default_rng(0).normal(0, 1, shape).astype(np.float32)


def itk_resample(tmp_path, volume, affine, transform):
    """The volume on the network's grid by SimpleITK, and where the scan reaches."""
    for name, array, matrix in (
        ("from", volume, affine),
        ("to", np.zeros(transform.shape, np.float32), transform.affine),
    ):
        nib.save(nib.Nifti1Image(array, matrix), tmp_path / f"{name}.nii")
    source, target = (sitk.ReadImage(str(tmp_path / f"{name}.nii")) for name in ("from", "to"))
    nowhere = -1e6
    found = sitk.GetArrayFromImage(sitk.Resample(source, target, sitk.Transform(), sitk.sitkLinear, nowhere)).T
    inside = sitk.GetArrayFromImage(sitk.Resample(source * 0, target, sitk.Transform(), sitk.sitkLinear, -1.0)).T == 0
    return found, inside


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
@pytest.mark.parametrize("spacing", [(0.5, 0.6, 0.7), (0.4, 0.4, 0.4)])
def test_upsampling_agrees_with_simpleitk(tmp_path, affine, spacing):
    transform = GridTransform(affine, SHAPE, (18, 17, 19), spacing)
    volume = random_volume()
    expected, inside = itk_resample(tmp_path, volume, affine, transform)
    assert inside.mean() > 0.7
    np.testing.assert_allclose(transform.image_to_network(volume)[inside], expected[inside], atol=2e-3)


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_downsampling_is_a_gaussian_then_simpleitk(tmp_path, affine):
    shape, spacing = (40, 36, 30), np.array([4.0, 4.5, 5.0])
    transform = GridTransform(affine, shape, (9, 9, 9), tuple(spacing))
    volume = random_volume(shape)
    world_axis = np.abs(nib.io_orientation(affine)[:, 0]).astype(int)
    ratio = spacing[world_axis] / nib.affines.voxel_sizes(affine)  # along the scanner's own axes
    assert ratio.min() > 1
    smooth = scipy.ndimage.gaussian_filter(volume, np.sqrt(ratio**2 - 1) / 2.3548200450309493, mode="nearest")
    expected, inside = itk_resample(tmp_path, smooth, affine, transform)
    assert inside.any()
    np.testing.assert_allclose(transform.image_to_network(volume)[inside], expected[inside], atol=1e-3)


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
@pytest.mark.parametrize(("shape", "spacing"), [((15, 15, 15), (0.6, 0.7, 0.5)), ((6, 6, 6), (1.9, 1.8, 2.1))])
def test_world_coordinates_are_kept(affine, shape, spacing):
    """A scan whose value is a linear function of the world position keeps it, under the network grid's affine."""
    source = (30, 28, 26)
    slope = np.array([0.3, -0.2, 0.5])

    def ramp(matrix, size):
        points = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), -1)
        return nib.affines.apply_affine(matrix, points) @ slope

    transform = GridTransform(affine, source, shape, spacing)
    np.testing.assert_allclose(nib.affines.voxel_sizes(transform.affine), spacing, rtol=1e-9)
    found, expected = transform.image_to_network(ramp(affine, source)), ramp(transform.affine, shape)
    to_source = np.linalg.inv(affine) @ transform.affine
    points = nib.affines.apply_affine(to_source, np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1))
    inside = ((points > 5) & (points < np.array(source) - 6)).all(-1)  # smoothing bends a ramp at the border
    assert inside.sum() > 20
    np.testing.assert_allclose(found[inside], expected[inside], atol=1e-3)


ORIENTATIONS = list(itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)))


@pytest.mark.parametrize("shape", [(20, 21, 18), (12, 24, 9), (7, 9, 10)], ids=["pad", "pad and crop", "crop"])
def test_without_resampling_the_way_back_is_exact(shape):
    rng = np.random.default_rng(1)
    for order, signs in ORIENTATIONS:
        affine = axis_affine(order, signs)
        transform = GridTransform(affine, SHAPE, shape, (1.0, 1.0, 1.0))
        image, label = rng.normal(0, 1, SHAPE).astype(np.float32), rng.integers(0, 4, SHAPE)
        reached = transform.label_to_source(np.ones(shape, np.uint8), 2).astype(bool)
        assert reached.sum() == np.prod([min(a, b) for a, b in zip(transform.canonical_shape, shape, strict=True)])
        np.testing.assert_array_equal(
            transform.label_to_source(transform.label_to_network(label, 4), 4), label * reached
        )
        np.testing.assert_array_equal(transform.image_to_source(transform.image_to_network(image)), image * reached)


def test_canonical_order_agrees_with_nibabel():
    volume = random_volume()
    for order, signs in ORIENTATIONS:
        affine = axis_affine(order, signs, (1.0, 2.0, 3.0))
        canonical = nib.as_closest_canonical(nib.Nifti1Image(volume, affine))
        transform = GridTransform(affine, SHAPE, canonical.shape, canonical.header.get_zooms())
        np.testing.assert_array_equal(transform.image_to_network(volume), canonical.dataobj)
        np.testing.assert_allclose(transform.affine, canonical.affine)


def test_padding_continues_the_image_and_is_background_in_the_label():
    transform = GridTransform(np.eye(4), (4, 5, 6), (8, 9, 10), (1, 1, 1))
    volume = random_volume((4, 5, 6))
    np.testing.assert_array_equal(transform.image_to_network(volume), np.pad(volume, 2, mode="edge"))
    label = np.ones((4, 5, 6), np.uint8)
    np.testing.assert_array_equal(transform.label_to_network(label, 2), np.pad(label, 2))


def test_labels_are_never_interpolated_on_their_indices():
    points = np.indices((24, 24, 24)) - 11.3
    label = np.where((points**2).sum(0) < 8.2**2, 3, 0).astype(np.uint8)
    transform = GridTransform(np.eye(4), label.shape, (10, 10, 10), (2.4, 2.4, 2.4))
    small = transform.label_to_network(label, 4)
    assert set(np.unique(small)) == {0, 3}
    back = transform.label_to_source(small, 4)
    assert set(np.unique(back)) == {0, 3}
    dice = 2 * ((back == 3) & (label == 3)).sum() / ((back == 3).sum() + (label == 3).sum())
    assert dice > 0.85


def test_tiny_difference_in_spacing_does_not_resample():
    affine = np.diag([0.7000001, 0.6999998, 0.7, 1.0])
    transform = GridTransform(affine, SHAPE, SHAPE, (0.7, 0.7, 0.7))
    volume = random_volume()
    np.testing.assert_array_equal(transform.image_to_network(volume), volume)


def test_slices_agree_with_simpleitk(tmp_path):
    """2D: a slice of a volume that does not change along z, on every orientation of its axes."""
    shape, spacing = (14, 15), (0.6, 0.7)
    image = np.random.default_rng(0).normal(0, 1, (13, 10)).astype(np.float32)
    for order in itertools.permutations(range(2)):
        for signs in itertools.product((1, -1), repeat=2):
            affine = np.eye(3)
            affine[:2, :2] = 0
            for k, axis in enumerate(order):
                affine[axis, k] = signs[k] * (0.9, 1.3)[k]
            affine[:2, 2] = (5, -7)
            full = np.eye(4)
            full[:2, :2], full[:2, 3] = affine[:2, :2], affine[:2, 2]
            transform, volume = (
                GridTransform(affine, image.shape, shape, spacing),
                np.repeat(image[:, :, None], 3, axis=2),
            )
            deep = GridTransform(full, volume.shape, (*shape, 3), (*spacing, 1.0))
            expected, inside = itk_resample(tmp_path, volume, full, deep)
            np.testing.assert_allclose(transform.affine[:2, :2], deep.affine[:2, :2])
            np.testing.assert_allclose(transform.affine[:2, 2], deep.affine[:2, 3])
            found = transform.image_to_network(image)
            np.testing.assert_allclose(found[inside[..., 1]], expected[..., 1][inside[..., 1]], atol=2e-3)


def test_the_way_back_is_exact_in_2d():
    label = np.random.default_rng(1).integers(0, 4, (7, 9))
    for affine in (np.diag([-1.0, 1.0, 1.0]), np.array([[0.0, -1, 3], [1, 0, 4], [0, 0, 1]])):
        transform = GridTransform(affine, label.shape, (12, 11), (1.0, 1.0))
        network = transform.label_to_network(label, 4)
        assert network.shape == (12, 11)
        np.testing.assert_array_equal(transform.label_to_source(network, 4), label)
