"""Displacement fields against SimpleITK and closed forms, on grids that are flipped, permuted, oblique, anisotropic."""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from deepatlas_tf.apply.fields import Field, invert, jacobian, read_field, warp_labels, warp_volume, write_field
from deepatlas_tf.apply.points import apply_affine, sample, voxels
from deepatlas_tf.types import DataError

FLIPPED = np.array([[-1.5, 0, 0, 40], [0, 2.0, 0, -20], [0, 0, 2.5, 5], [0, 0, 0, 1]], float)
PERMUTED = np.array([[0, 0, 2.0, -30], [-1.6, 0, 0, 45], [0, 2.2, 0, -8], [0, 0, 0, 1]], float)
OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = Rotation.from_euler("xyz", [12, -8, 15], degrees=True).as_matrix() * [1.4, 2.1, 1.8]
OBLIQUE[:3, 3] = -20, -15, -12
SHAPE = (28, 24, 20)


def smooth(seed, shape, scale):
    """Random, smooth over 3 voxels, of standard deviation ``scale``; the last axis is not smoothed."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=shape), (3, 3, 3, 0)[: len(shape)])
    return (scale * noise / noise.std()).astype(np.float32)


def centred(affine, shape, centre=(3.0, -2.0, 4.0)):
    """The affine with the middle of the volume at ``centre`` mm."""
    moved = affine.copy()
    moved[:3, 3] = np.array(centre) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return moved


def field_on(affine, scale=2.0):
    return Field(smooth(1, (*SHAPE, 3), scale), centred(affine, SHAPE))


def sitk_transform(path):
    return sitk.DisplacementFieldTransform(sitk.ReadImage(str(path), sitk.sitkVectorFloat64))


@pytest.mark.parametrize("affine", [FLIPPED, PERMUTED, OBLIQUE])
@pytest.mark.parametrize("other", [PERMUTED, OBLIQUE])
def test_itk_applies_our_field_and_gets_our_image(affine, other, tmp_path, write_nifti):
    field, shape = field_on(affine), (26, 30, 22)
    other = centred(other, shape, (6, 0, 0))
    moving, label = smooth(2, shape, 100), np.random.default_rng(0).integers(0, 5, shape).astype(np.uint8)
    write_field(tmp_path / "field.nii.gz", field)
    grid = sitk.ReadImage(str(write_nifti(tmp_path / "fixed.nii", np.zeros(SHAPE, np.float32), field.affine)))
    found = {}
    for name, volume, way in (("image", moving, sitk.sitkLinear), ("label", label, sitk.sitkNearestNeighbor)):
        image = sitk.ReadImage(str(write_nifti(tmp_path / f"{name}.nii", volume, other)))
        warped = sitk.Resample(image, grid, sitk_transform(tmp_path / "field.nii.gz"), way, 0.0)
        found[name] = sitk.GetArrayFromImage(warped).T
    ours = warp_volume(moving, other, field)
    apart = np.abs(ours - found["image"])
    assert (ours != 0).mean() > 0.3
    # a voxel on the very border may be in for one and out for the other
    assert (apart > 0.05).mean() < 1e-3 and np.median(apart) < 1e-3
    labels = warp_labels(label.astype(np.int32), other, field)
    assert labels.dtype == np.uint8 and (labels != found["label"]).mean() < 2e-3


@pytest.mark.parametrize("affine", [FLIPPED, PERMUTED, OBLIQUE])
def test_a_field_that_itk_wrote_is_read(affine, tmp_path):
    field = field_on(affine)
    write_field(tmp_path / "ours.nii.gz", field)
    sitk.WriteImage(sitk.ReadImage(str(tmp_path / "ours.nii.gz")), str(tmp_path / "itk.nii.gz"))
    for name in ("ours", "itk"):
        found = read_field(tmp_path / f"{name}.nii.gz")
        np.testing.assert_allclose(found.vectors, field.vectors, atol=1e-5)
        np.testing.assert_allclose(found.affine, field.affine, atol=1e-4)


def test_the_standards_displacements_are_right_anterior_superior(tmp_path):
    """Intent 1006 of NIfTI, which ITK turns to LPS when it reads it."""
    field = field_on(FLIPPED)
    image = nib.Nifti1Image(field.vectors[:, :, :, None], field.affine)
    image.header.set_intent(1006)
    nib.save(image, tmp_path / "field.nii.gz")
    np.testing.assert_allclose(read_field(tmp_path / "field.nii.gz").vectors, field.vectors, atol=1e-6)
    by_itk = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "field.nii.gz"))).transpose(2, 1, 0, 3)
    np.testing.assert_allclose(by_itk, field.vectors * [-1, -1, 1], atol=1e-6)


@pytest.mark.parametrize("affine", [FLIPPED, PERMUTED, OBLIQUE])
def test_jacobian_is_that_of_itk(affine):
    """ITK's filter leaves out the image's direction, so it gets the field with components along the grid's axes."""
    field = field_on(affine)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    along_axes = field.vectors @ (affine[:3, :3] / spacing)
    image = sitk.GetImageFromArray(along_axes.transpose(2, 1, 0, 3).astype(float), isVector=True)
    image.SetSpacing(spacing.tolist())
    theirs = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(image)).T
    inside = (slice(1, -1),) * 3  # ITK's differences at the border are others
    np.testing.assert_allclose(jacobian(field)[inside], theirs[inside], atol=1e-4)


def test_jacobian_of_a_linear_map():
    matrix = np.array([[1.1, 0.1, 0], [0, 0.9, 0.05], [-0.1, 0, 1.2]])
    points = apply_affine(OBLIQUE, voxels((6, 7, 8), slice(0, 6)))
    field = Field((points @ (matrix - np.eye(3)).T).astype(np.float32), OBLIQUE)
    np.testing.assert_allclose(jacobian(field), np.linalg.det(matrix), atol=1e-4)
    with pytest.raises(DataError, match="two voxels"):
        jacobian(Field(np.zeros((6, 1, 8, 3), np.float32), OBLIQUE))


def test_inverse_of_a_linear_map():
    matrix = Rotation.from_euler("z", 30, degrees=True).as_matrix() * 1.1
    alignment = np.eye(4)
    alignment[:3, :3], alignment[:3, 3] = matrix, (200, -10, 30)
    affine = centred(FLIPPED, SHAPE)
    points = apply_affine(affine, voxels(SHAPE, slice(0, SHAPE[0])))
    field = Field((apply_affine(alignment, points) - points).astype(np.float32), affine)
    shape = (12, 14, 16)
    other = centred(PERMUTED, shape, alignment[:3, 3])
    targets = apply_affine(other, voxels(shape, slice(0, 12)))
    found = invert(field, other, shape, alignment)
    np.testing.assert_allclose(found.vectors, apply_affine(np.linalg.inv(alignment), targets) - targets, atol=1e-3)


@pytest.mark.parametrize("affine", [FLIPPED, OBLIQUE])
def test_a_field_and_its_inverse_are_the_identity(affine):
    """At points of the moving scan whose origin is well inside the fixed one, in mm; voxels are 1.4 mm and more."""
    field = field_on(affine, scale=1.5)
    assert jacobian(field).min() > 0.05
    inverse = invert(field, centred(PERMUTED, SHAPE), SHAPE)
    q = apply_affine(inverse.affine, voxels(SHAPE, slice(0, SHAPE[0])))
    p = q + inverse.vectors
    at = apply_affine(np.linalg.inv(field.affine), p)
    back = p + sample(field.vectors, at)
    inside = ((at > 0) & (at < np.array(SHAPE) - 1)).all(axis=-1)
    error = np.linalg.norm(back - q, axis=-1)[inside]
    assert inside.mean() > 0.4 and error.max() < 0.05
    assert np.linalg.norm(inverse.vectors, axis=-1)[inside].mean() > 1


@pytest.mark.parametrize(
    ("shape", "intent", "hint"),
    [((4, 5, 6), 0, "not a displacement field"), ((4, 5, 6, 3), 1007, "not a"), ((4, 5, 6, 1, 3), 0, "'vector'")],
)
def test_what_is_no_field_is_refused(shape, intent, hint, tmp_path):
    image = nib.Nifti1Image(np.zeros(shape, np.float32), np.eye(4))
    image.header.set_intent(intent)
    nib.save(image, tmp_path / "x.nii.gz")
    with pytest.raises(DataError, match=hint):
        read_field(tmp_path / "x.nii.gz")


def test_a_damaged_field_is_refused(tmp_path):
    write_field(tmp_path / "f.nii", Field(np.full((4, 5, 6, 3), np.nan, np.float32), np.eye(4)))
    with pytest.raises(DataError, match="NaN"):
        read_field(tmp_path / "f.nii")
    (tmp_path / "g.nii").write_bytes((tmp_path / "f.nii").read_bytes()[:500])
    with pytest.raises(DataError, match="cannot read .*g.nii"):
        read_field(tmp_path / "g.nii")
