"""The true deformation of a synthetic subject: where each of its voxels lies in the template.

A subject is drawn by evaluating the template's solids at the deformed points, so its anatomy *is* the template's at
``x + u(x)``, exactly but for sampling on the grid. By the package's convention ``warp(template, u)`` is the subject.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.ndimage

from deepatlas_tf.phantoms.shapes import Points, texture


class Phantom(NamedTuple):
    """image (*S,) float32 in [0, 1]; label (*S,) uint8; deformation (*S, D) float32 in voxels, to the template."""

    image: np.ndarray
    label: np.ndarray
    deformation: np.ndarray


def grid_points(shape: Sequence[int], spacing: Sequence[float]) -> Points:
    """The places x, y, z, each (*S,), of the voxels in mm from the middle of the grid; for a slice (X, Z), y is 0."""
    axes = [(np.arange(n) - (n - 1) / 2) * step for n, step in zip(shape, spacing, strict=True)]
    points = list(np.meshgrid(*axes, indexing="ij"))
    if len(shape) == 2:
        points.insert(1, np.zeros(shape))
    return points


def bend(rng: np.random.Generator, points: Points, millimetres: float, control_points: int) -> Points:
    """Points moved by a smooth random field of about so many mm along each axis; in a slice within its plane."""
    shape = points[0].shape
    axes = range(3) if len(shape) == 3 else (0, 2)
    moved = list(points)
    for axis in axes:
        moved[axis] = points[axis] + millimetres * texture(rng, shape, control_points)
    return moved


def swell(
    points: Points,
    centre: Sequence[float],
    radii: Sequence[float],
    stretch: Sequence[float] | np.ndarray,
    shift: Sequence[float] | np.ndarray = (0.0, 0.0, 0.0),
) -> Points:
    """Move points smoothly about a centre: ``p`` goes to ``p + w (stretch (p - centre) + shift)``.

    The weight ``w = exp(-|(p - centre) / radii|^2)`` falls off within about ``radii``.

    ``stretch`` and ``shift`` have one value for each axis. In a slice the second coordinate stays as it is. No fold
    arises where |stretch| is under 0.5 and ``shift`` under half of ``radii``.
    """
    offset = [p - c for p, c in zip(points, centre, strict=True)]
    weight = np.exp(-sum((o / r) ** 2 for o, r in zip(offset, radii, strict=True)))
    moved = [p + weight * (a * o + b) for p, o, a, b in zip(points, offset, stretch, shift, strict=True)]
    return moved if points[0].ndim == 3 else [moved[0], points[1], moved[2]]


def displacement(subject: Points, template: Points, spacing: Sequence[float]) -> np.ndarray:
    """Displacement field (*S, D) float32 in voxels from where each voxel lies to its place in the template."""
    axes = range(3) if len(spacing) == 3 else (0, 2)
    fields = [(template[a] - subject[a]) / step for a, step in zip(axes, spacing, strict=True)]
    return np.stack(fields, axis=-1).astype(np.float32)


def registration_error(u: np.ndarray, moving: np.ndarray, fixed: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """How far a registration errs at each voxel of the fixed subject, (*S,) in mm, measured in the template.

    The voxel ``x`` of the fixed subject belongs to the template's ``x + fixed(x)``; the registration takes it to
    ``y = x + u(x)`` in the moving subject, which belongs to ``y + moving(y)``. The error is the distance of these two;
    NaN where ``y`` is outside the grid.

    Args:
        u: displacement field (*S, D) in voxels that warps the moving image onto the fixed one.
        moving, fixed: the stored true deformations (*S, D) of the two subjects.
        spacing: (*S) mm.
    """
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in u.shape[:-1]], indexing="ij"), axis=-1)
    target = np.moveaxis(grid + u, -1, 0)
    there = [scipy.ndimage.map_coordinates(moving[..., a], target, order=1, cval=np.nan) for a in range(len(spacing))]
    return np.linalg.norm((u + np.stack(there, axis=-1) - fixed) * spacing, axis=-1)
