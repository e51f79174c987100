"""Affine pre-alignment of phantoms with a known transform."""

import sys

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from deepatlas_tf.apply.affine import affine_registration
from deepatlas_tf.apply.points import apply_affine, sample, voxels
from deepatlas_tf.scans.nifti import Nifti
from deepatlas_tf.types import DataError

SHAPE = (44, 40, 36)


def head():
    """An asymmetric body of three ellipsoids in air."""
    x = (voxels(SHAPE, slice(0, SHAPE[0])) - (np.array(SHAPE) - 1) / 2) / np.array(SHAPE) * 2
    volume = 300.0 * (np.linalg.norm(x / (0.7, 0.8, 0.75), axis=-1) < 1)
    volume += 400 * (np.linalg.norm((x - (0.25, 0.2, 0.1)) / (0.3, 0.2, 0.35), axis=-1) < 1)
    volume -= 200 * (np.linalg.norm((x - (-0.3, -0.2, -0.2)) / (0.2, 0.35, 0.25), axis=-1) < 1)
    return gaussian_filter(volume, 0.7).astype(np.float32)


def test_a_known_affine_map_is_found():
    affine = np.array([[-2.0, 0, 0, 30], [0, 0, 2.0, -40], [0, 1.9, 0, 10], [0, 0, 0, 1]])
    fixed = Nifti(head(), affine)
    truth = np.eye(4)
    truth[:3, :3] = Rotation.from_euler("xyz", [12, -9, 20], degrees=True).as_matrix() @ np.diag([1.06, 0.95, 1.0])
    truth[:3, 3] = 70, -30, 45
    # the moving scan lies on a grid of its own, so that it is not the same array
    centre = apply_affine(truth @ affine, (np.array(SHAPE) - 1) / 2)
    grid = np.diag([2.2, 2.2, 2.2, 1.0])
    grid[:3, 3] = centre - 2.2 * 24
    at = apply_affine(np.linalg.inv(truth @ affine), apply_affine(grid, voxels((49, 49, 49), slice(0, 49))))
    found = affine_registration(Nifti(sample(fixed.volume, at), grid), fixed)
    body = apply_affine(affine, voxels(SHAPE, slice(0, SHAPE[0]))[fixed.volume > 100])
    error = np.linalg.norm(apply_affine(found, body) - apply_affine(truth, body), axis=-1)
    assert error.mean() < 1.0 and error.max() < 2.0  # mm; voxels are 2 mm


def test_without_simpleitk_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(DataError, match=r"pip install 'deepatlas_tf\[itk\]'"):
        affine_registration(None, None)
