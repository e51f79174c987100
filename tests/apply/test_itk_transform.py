"""The composite transform, as SimpleITK reads it: the map of the field, in which the affine part is a transform."""

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from deepatlas_tf.apply.fields import Field
from deepatlas_tf.apply.itk_transform import write_transform

OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = Rotation.from_euler("xyz", [12, -8, 15], degrees=True).as_matrix() * [1.4, 2.1, 1.8]
OBLIQUE[:3, 3] = -20, -15, -12
TURNED = np.eye(4)
TURNED[:3, :3] = Rotation.from_euler("zy", [20, 5], degrees=True).as_matrix() * [1.1, 0.9, 1.0]
TURNED[:3, 3] = 150, -7, 3


@pytest.mark.parametrize("alignment", [np.eye(4), TURNED])
@pytest.mark.parametrize("affine", [np.diag([-2.0, 1.0, 3.0, 1.0]), OBLIQUE])
def test_points_go_where_the_field_takes_them(affine, alignment, tmp_path):
    rng = np.random.default_rng(0)
    shape = (6, 5, 4)
    points = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1) @ affine[:3, :3].T + affine[:3, 3]
    moved = (points + rng.normal(size=(*shape, 3))) @ alignment[:3, :3].T + alignment[:3, 3]
    write_transform(tmp_path / "transform.h5", Field((moved - points).astype(np.float32), affine), alignment)
    found = sitk.ReadTransform(str(tmp_path / "transform.h5"))
    signs = np.array([-1, -1, 1])
    for index in [(0, 0, 0), (3, 2, 1), (5, 4, 3), (1, 4, 0)]:
        there = found.TransformPoint((points[index] * signs).tolist())
        np.testing.assert_allclose(there * signs, moved[index], atol=1e-3)
    linear = sitk.CompositeTransform(found).GetNthTransform(0)
    np.testing.assert_allclose(linear.TransformPoint((0, 0, 0)), alignment[:3, 3] * signs, atol=1e-9)
