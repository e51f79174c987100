"""Displacement fields in millimetres between scans of different grids, and their files as ITK and ANTs have them.

A field ``d`` lies on the grid of the fixed scan: what is at the point ``p`` of the fixed scan is at ``p + d(p)`` of the
moving one, so ``warped(p) = moving(p + d(p))``. Here points and components are RAS, as in NIfTI; in files they are LPS,
as in ITK: the first two components change sign.
"""

from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np

from deepatlas_tf.apply.files import stem, writing_floats
from deepatlas_tf.apply.points import apply_affine, sample, transformed_voxels, voxels
from deepatlas_tf.messages import warn
from deepatlas_tf.metrics.blocks import by_blocks
from deepatlas_tf.metrics.deformation import jacobian_determinant
from deepatlas_tf.scans.checks import check_grid
from deepatlas_tf.scans.headers import check_size, form_problem, open_checked, set_forms
from deepatlas_tf.types import DataError

LPS = np.array([-1.0, -1.0, 1.0])
# Codes of the NIfTI standard: vectors of any kind, which ITK takes as LPS, and displacements, defined there as RAS
VECTOR, DISPLACEMENT = 1007, 1006
INVERSE_STEPS, INVERSE_TOLERANCE = 50, 0.01


class Field(NamedTuple):
    """vectors (X, Y, Z, 3) float32, mm towards right, anterior, superior; affine (4, 4) of their grid, voxels to mm."""

    vectors: np.ndarray
    affine: np.ndarray


def read_field(path: Path) -> Field:
    """A displacement field as ITK, ANTs and ``deepatlas register`` write it: NIfTI of shape (X, Y, Z, 1, 3), in mm.

    Raises DataError where it cannot be read or is something else.
    """
    try:
        image = open_checked(path, stem(path))
        check_size(path, stem(path), image)
        values = np.asarray(image.dataobj, np.float32)
    except DataError:
        raise
    except Exception as error:  # nibabel, gzip and zlib raise a dozen kinds for a damaged file
        raise DataError(f"cannot read the field {path} ({' '.join(str(error).split())}); write it again") from error
    code = int(image.header["intent_code"]) if isinstance(image.header, nib.Nifti1Header) else 0
    if values.ndim != 5 or values.shape[3:] != (1, 3) or code not in (VECTOR, DISPLACEMENT):
        raise DataError(
            f"{path} of shape {values.shape} is not a displacement field: ITK and ANTs write (X, Y, Z, 1, 3) with the "
            "intent 'vector'"
        )
    check_grid(stem(path), path, values[..., 0, 0], np.array(image.affine, np.float64))
    if not np.isfinite(values).all():
        raise DataError(f"the field {path} has values that are NaN or infinite; write it again")
    problem = form_problem(image)
    if problem:
        warn(f"{path} {problem}")
    signs = LPS if code == VECTOR else np.ones(3)
    return Field((values[:, :, :, 0] * signs).astype(np.float32), np.array(image.affine, np.float64))


def write_field(path: Path, field: Field, header: nib.Nifti1Header | None = None) -> None:
    """Write the field as ITK does; ``header`` of the scan on whose grid it lies keeps the codes of space."""
    with writing_floats(path) as temporary:
        nib.save(field_image(field, header), temporary)


def field_image(field: Field, header: nib.Nifti1Header | None = None) -> nib.Nifti1Image:
    """The field as an image (X, Y, Z, 1, 3) of vectors in mm, left-posterior-superior as ITK has them."""
    values = np.asarray(field.vectors, np.float32)[:, :, :, None] * LPS.astype(np.float32)
    image = nib.Nifti1Image(values, field.affine, header)
    image.set_data_dtype(np.float32)
    image.header.set_slope_inter(1, 0)
    image.header.set_intent(VECTOR, name="displacement")
    set_forms(image, field.affine, header)
    return image


def warp_volume(volume: np.ndarray, affine: np.ndarray, field: Field, nearest: bool = False) -> np.ndarray:
    """``volume`` (X, Y, Z) of the moving scan's grid ``affine``, on the field's grid; linear, or nearest for labels.

    0 outside of the moving scan, which ends half a voxel beyond the centres of its outer voxels, as in ITK.
    """
    to_voxels = np.linalg.inv(affine)
    shape = field.vectors.shape[:3]

    def warp(rows: slice) -> np.ndarray:
        at = transformed_voxels(to_voxels @ field.affine, shape, rows) + field.vectors[rows] @ to_voxels[:3, :3].T
        warped = sample(volume, at, order=0 if nearest else 1)
        for axis, n in enumerate(volume.shape):
            warped[(at[..., axis] < -0.5) | (at[..., axis] >= n - 0.5)] = 0
        return warped

    return by_blocks(warp, shape)


def warp_values(volume: np.ndarray, affine: np.ndarray, field: Field) -> np.ndarray:
    """Warps a map with missing (not finite) values, where :func:`warp_volume` would spread them.

    The other values are interpolated without them; where the missing ones have the larger weight, the result is NaN.
    """
    missing = ~np.isfinite(volume)
    if not missing.any():
        return warp_volume(volume, affine, field)
    share = warp_volume(missing.astype(np.float32), affine, field)
    known = warp_volume(np.where(missing, np.float32(0), volume), affine, field)
    return np.where(share > 0.5, np.float32(np.nan), known / np.maximum(1 - share, 0.5))


def warp_labels(label: np.ndarray, affine: np.ndarray, field: Field) -> np.ndarray:
    """A label map warped with nearest neighbours, in the smallest integer type that holds its numbers."""
    low, high = int(label.min()), int(label.max())
    fitting = (kind for kind in (np.uint8, np.int16, np.int32, np.int64) if np.iinfo(kind).min <= low)
    kind = next(kind for kind in fitting if high <= np.iinfo(kind).max)
    return warp_volume(label, affine, field, nearest=True).astype(kind)


def jacobian(field: Field) -> np.ndarray:
    """Determinant of the Jacobian of ``p + d(p)``, (X, Y, Z) float32: 1 keeps the volume, 0 or less is a fold.

    Raises DataError where an axis of the grid has one voxel only.
    """
    if min(field.vectors.shape[:3]) < 2:
        raise DataError(f"a field of shape {field.vectors.shape[:3]} has no Jacobian: two voxels an axis are needed")
    return jacobian_determinant(field.vectors @ np.linalg.inv(field.affine[:3, :3]).T).astype(np.float32)


def invert(field: Field, affine: np.ndarray, shape: tuple[int, ...], alignment: np.ndarray | None = None) -> Field:
    """The field of the inverse map on another grid, that of the moving scan: ``affine``, ``shape``.

    With ``p + d(p) = B(p + w(p))``, where ``B`` is the affine part of the map, the point that comes to ``q`` is the
    fixed point of ``p = B^-1 q - w(p)`` (Chen et al., Medical Physics 35(1), 2008). It is found to a hundredth of a
    voxel wherever ``w`` does not fold. Outside of the field's grid its border values are continued.

    Args:
        field: to be inverted.
        affine: (4, 4), voxels of the other grid to mm.
        shape: of the other grid.
        alignment: ``B`` (4, 4), from mm to mm; None is the identity.
    """
    back = np.eye(4) if alignment is None else np.linalg.inv(alignment)
    to_voxels = np.linalg.inv(field.affine)
    grid = field.vectors.shape[:3]

    def without_alignment(rows: slice) -> np.ndarray:
        points = apply_affine(field.affine, voxels(grid, rows))
        return (apply_affine(back, points + field.vectors[rows]) - points).astype(np.float32)

    w = by_blocks(without_alignment, grid)
    tolerance = INVERSE_TOLERANCE * np.linalg.norm(field.affine[:3, :3], axis=0).min()

    def solve(rows: slice) -> np.ndarray:
        targets = apply_affine(affine, voxels(shape, rows))
        return (_fixed_points(w, to_voxels, apply_affine(back, targets), tolerance) - targets).astype(np.float32)

    return Field(by_blocks(solve, shape), np.asarray(affine, np.float64))


def _fixed_points(w: np.ndarray, to_voxels: np.ndarray, targets: np.ndarray, tolerance: float) -> np.ndarray:
    """Points ``p (..., 3)`` with ``p + w(p) = targets``; only those that still move are computed again."""
    goals = targets.reshape(-1, 3)
    points, moving = goals.copy(), np.arange(len(goals))
    for _ in range(INVERSE_STEPS):
        new = goals[moving] - sample(w, apply_affine(to_voxels, points[moving]))
        far = np.abs(new - points[moving]).max(axis=-1) > tolerance
        points[moving] = new
        moving = moving[far]
        if not moving.size:
            break
    return points.reshape(targets.shape)
