from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from deepatlas_tf.scans import checks
from deepatlas_tf.scans.nifti import Nifti
from deepatlas_tf.types import DataError

PATH = Path("scans/s1.nii.gz")
IMAGE = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def with_value(value):
    image = IMAGE.copy()
    image[1, 2, 3] = value
    return image


@pytest.mark.parametrize(
    ("check", "arguments", "reason"),
    [
        (checks.check_voxel_sizes, (np.array([1.0, 0.0, 2.0]),), "1 x 0 x 2 mm"),
        (checks.check_voxel_sizes, (np.array([-1.0, 1.0, 2.0]),), "-1 x 1 x 2 mm"),
        (checks.check_voxel_sizes, (np.array([1.0, np.nan]),), "1 x nan mm"),
        (checks.check_type, (np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]),), "colours (R+G+B)"),
        (checks.check_type, (np.dtype(np.complex64),), "complex64"),
        (checks.check_grid, (IMAGE[0], np.eye(4)), "one 3D volume is needed"),
        (checks.check_grid, (np.zeros((3, 3, 3, 2)), np.eye(4)), "split it into one file for each"),
        (checks.check_grid, (IMAGE, np.eye(3), 2), "one 2D slice is needed"),
        (checks.check_grid, (np.zeros((3, 0)), np.eye(3), 2), "one 2D slice is needed"),
        (
            checks.check_grid,
            (IMAGE, np.array([[1.0, 2, 0, 0], [1, 2, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])),
            "voxel size",
        ),
        (checks.check_grid, (IMAGE, np.diag([1.0, 1.0, 0.0, 1.0])), "voxel size"),
        (checks.check_grid, (IMAGE, np.full((4, 4), np.nan)), "voxel size"),
        (checks.check_image, (with_value(np.nan),), "1 voxel that is NaN"),
        (checks.check_image, (with_value(np.inf),), "infinite"),
        (checks.check_image, (np.full((3, 3, 3), 5.0),), "constant (5"),
        (checks.whole_numbers, (with_value(1.5),), "1.5"),
        (checks.whole_numbers, (with_value(np.nan),), "not integers"),
        (checks.whole_numbers, (with_value(-np.inf),), "not integers"),
        (checks.check_not_negative, (np.array([0, 3, -4]),), "-4"),
        (checks.check_values, (np.array([0, 1, 2, 9, -4]), {0, 1, 2}), "-4, 9"),
        (checks.check_values, (np.arange(12), {0, 1}), ": 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"),
    ],
)
def test_bad_input_is_one_line_with_subject_and_file(check, arguments, reason):
    with pytest.raises(DataError) as error:
        check("s1", PATH, *arguments)
    message = str(error.value)
    assert "subject s1" in message and str(PATH) in message and reason in message and "\n" not in message


def test_good_input_passes():
    checks.check_voxel_sizes("s1", PATH, np.array([0.5, 1.0, 2.0]))
    checks.check_type("s1", PATH, np.dtype(np.int16))
    checks.check_type("s1", PATH, np.dtype(">f8"))
    checks.check_grid("s1", PATH, IMAGE, np.diag([-1.0, 2.0, 3.0, 1.0]))
    checks.check_grid("s1", PATH, IMAGE, np.diag([1e-4, 1e-4, 1e-4, 1.0]))  # a microscope's
    checks.check_grid("s1", PATH, IMAGE[0], np.diag([1.0, -2.0, 1.0]), 2)
    checks.check_image("s1", PATH, IMAGE)
    checks.whole_numbers("s1", PATH, IMAGE + 1e-5)
    checks.check_not_negative("s1", PATH, np.array([0, 2]))
    checks.check_values("s1", PATH, np.array([0, 2]), {0, 1, 2})


def moved(millimetres):
    affine = np.eye(4)
    affine[0, 3] = millimetres
    return affine


def rotated(degrees):
    affine = np.eye(4)
    angle = np.radians(degrees)
    affine[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return affine


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        (Nifti(IMAGE[:, :2], np.eye(4)), "shape (2, 2, 4)"),
        (Nifti(IMAGE, moved(0.5)), "different affines (up to 0.5 mm or 0.5 voxels apart)"),
        (Nifti(IMAGE, rotated(5)), "different affines"),
        (Nifti(IMAGE, np.diag([-1.0, 1.0, 1.0, 1.0])), "different affines"),
    ],
)
def test_image_and_label_on_different_grids(label, reason):
    with pytest.raises(DataError) as error:
        checks.check_same_grid("s1", (PATH, Nifti(IMAGE, np.eye(4))), (Path("labels/s1.nii"), label))
    message = str(error.value)
    assert "subject s1" in message and "labels/s1.nii" in message and reason in message and "\n" not in message


def through_qform(affine):
    header = nib.Nifti1Header()
    header.set_qform(affine, 1)
    return header.get_qform()


SHAPE = (256, 256, 200)
ZOOMS = np.array([0.5, 0.5, 3.0])


def oblique(degrees, flips):
    """256 x 256 x 200 voxels, tilted about an axis that is none of the scanner's."""
    affine = np.eye(4)
    affine[:3, :3] = (
        Rotation.from_rotvec(degrees * np.array([0.6, -0.7, 0.39]), degrees=True).as_matrix() * flips * ZOOMS
    )
    affine[:3, 3] = (-60, 80, -110)
    return affine


def accepted(affine, other):
    volume = np.broadcast_to(np.float32(0), SHAPE)
    try:
        checks.check_same_grid("s1", (PATH, Nifti(volume, affine)), (PATH, Nifti(volume, other)))
    except DataError:
        return False
    return True


@pytest.mark.parametrize("degrees", [0, 3, 12, 30, 45])
@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, 1), (-1, -1, 1), (1, -1, -1)])
def test_what_a_header_rounds_is_accepted(degrees, flips):
    """A label map with only a qform, or with its voxel size written with four digits, fits an image with an sform."""
    affine = oblique(degrees, np.array(flips))
    assert accepted(affine, through_qform(affine)) and accepted(through_qform(affine), affine)
    assert accepted(affine, affine.astype(np.float32).astype(float))
    rounded = affine.copy()
    rounded[:3, :3] *= 1.0001
    assert accepted(affine, rounded)


@pytest.mark.parametrize("degrees", [0, 12])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_what_a_wrong_tool_makes_is_refused(degrees, axis):
    """Half a voxel (its corner for its centre), a voxel size that is a little off, an axis that is flipped."""
    affine = oblique(degrees, np.ones(3))
    half, size, flip = affine.copy(), affine.copy(), affine.copy()
    half[:3, 3] += affine[:3, axis] / 2
    size[:3, axis] *= 1.001
    flip[:3, 3] += flip[:3, axis] * (SHAPE[axis] - 1)
    flip[:3, axis] *= -1
    assert [accepted(affine, other) for other in (half, size, flip)] == [False] * 3


def test_tolerance_is_in_voxels():
    for zoom in (0.01, 1.0, 100.0):
        affine, other = np.diag([zoom, zoom, zoom, 1.0]), np.diag([zoom, zoom, zoom, 1.0])
        other[1, 3] = 0.09 * zoom
        assert accepted(affine, other)
        other[1, 3] = 0.11 * zoom
        assert not accepted(affine, other)


def test_distance_of_two_grids():
    affine, other = np.diag([2.0, 3.0, 1.0]), np.diag([2.0, 3.0, 1.0])
    other[0, 1], other[1, 2] = 0.1, 4.0  # the last voxel along y is 0.1 * 9 mm off in x, all are 4 mm off in y
    voxels, millimetres = checks.grid_distance(affine, other, (5, 10))
    np.testing.assert_allclose((voxels, millimetres), (4 / 3, np.hypot(0.9, 4)))


def test_subject_twice():
    known = {"s1": Path("s1.nii")}
    checks.check_new("s2", PATH, known)
    with pytest.raises(DataError, match="s1 occurs twice: s1.nii and"):
        checks.check_new("s1", PATH, known)
