from pathlib import Path

import numpy as np
import pytest

from deepatlas_tf.data import checks
from deepatlas_tf.data.nifti import Nifti
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
        (checks.check_grid, (IMAGE[0], np.eye(4)), "3D"),
        (checks.check_grid, (np.zeros((3, 3, 3, 2)), np.eye(4)), "3D"),
        (checks.check_grid, (IMAGE, np.diag([1.0, 1.0, 0.0, 1.0])), "voxel size"),
        (checks.check_grid, (IMAGE, np.full((4, 4), np.nan)), "voxel size"),
        (checks.check_image, (with_value(np.nan),), "1 voxels that are NaN"),
        (checks.check_image, (with_value(np.inf),), "infinite"),
        (checks.check_image, (np.full((3, 3, 3), 5.0),), "constant (5"),
        (checks.check_integers, (with_value(1.5),), "1.5"),
        (checks.check_integers, (with_value(np.nan),), "not integers"),
        (checks.check_integers, (with_value(-np.inf),), "not integers"),
        (checks.check_values, (np.array([0, 1, 2, 9, -4]), {0, 1, 2}), "-4, 9"),
    ],
)
def test_bad_input_is_one_line_with_subject_and_file(check, arguments, reason):
    with pytest.raises(DataError) as error:
        check("s1", PATH, *arguments)
    message = str(error.value)
    assert "subject s1" in message and str(PATH) in message and reason in message and "\n" not in message


def test_good_input_passes():
    checks.check_voxel_sizes("s1", PATH, np.array([0.5, 1.0, 2.0]))
    checks.check_grid("s1", PATH, IMAGE, np.diag([-1.0, 2.0, 3.0, 1.0]))
    checks.check_image("s1", PATH, IMAGE)
    checks.check_integers("s1", PATH, IMAGE + 1e-5)
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
        (Nifti(IMAGE, moved(0.5)), "different affines (up to 0.5 mm"),
        (Nifti(IMAGE, rotated(1)), "different affines"),
    ],
)
def test_image_and_label_on_different_grids(label, reason):
    with pytest.raises(DataError) as error:
        checks.check_same_grid("s1", (PATH, Nifti(IMAGE, np.eye(4))), (Path("labels/s1.nii"), label))
    message = str(error.value)
    assert "subject s1" in message and "labels/s1.nii" in message and reason in message and "\n" not in message


def test_affines_may_differ_by_rounding():
    label = Nifti(IMAGE, moved(1e-5))
    assert checks.check_same_grid("s1", (PATH, Nifti(IMAGE, np.eye(4))), (PATH, label)) is None


def test_subject_twice():
    known = {"s1": Path("s1.nii")}
    checks.check_new("s2", PATH, known)
    with pytest.raises(DataError, match="s1 occurs twice: s1.nii and"):
        checks.check_new("s1", PATH, known)
