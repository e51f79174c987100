"""Synthetic knees: bones and cartilage of random size, shape and pose, as several scanners would show them.

They give tests and the demo scans that differ as patients do, with exact labels. Their poses differ by a few degrees
and millimetres, as after the affine registration that usually comes first. There are two families:

- :func:`knee`: each structure has a random shape of its own. The T1-like images of the demo; there is no one
  deformation that takes one subject to another.
- :func:`draw`: every subject is :func:`template` deformed, and the true deformation is known; the same seed shows the
  same anatomy in each contrast. T1-like, T2-like with suppressed fat, and projections (see ``projection``).
"""

import functools
from collections.abc import Sequence

import numpy as np

from deepatlas_tf.phantoms.deform import Phantom, bend, displacement, grid_points, swell
from deepatlas_tf.phantoms.knee_anatomy import (
    CLASS_NAMES,
    Field,
    Knee,
    cartilage_thickness,
    knee_label,
    knee_layers,
    knee_solids,
)
from deepatlas_tf.phantoms.projection import PROJECTIONS, detect
from deepatlas_tf.phantoms.shapes import Points, paint, rescaled, scan, texture, turn, vary, waves
from deepatlas_tf.types import DataError

__all__ = ["CLASS_NAMES", "CONTRASTS", "draw", "knee", "template"]

_TISSUES = {
    # fat and marrow bright, muscle and cartilage between, cortical bone, ligaments and fluid dark
    "t1": {
        "fat": 0.85,
        "muscle": 0.40,
        "marrow": 0.75,
        "cortex": 0.15,
        "cartilage": 0.56,
        "ligament": 0.14,
        "fluid": 0.26,
        "scar": 0.50,
    },
    # fat suppressed: fluid brightest, cartilage bright, muscle between, fat, marrow and cortical bone dark
    "t2": {
        "fat": 0.20,
        "muscle": 0.34,
        "marrow": 0.16,
        "cortex": 0.05,
        "cartilage": 0.60,
        "ligament": 0.08,
        "fluid": 0.92,
        "scar": 0.10,
    },
}
CONTRASTS = (*_TISSUES, *PROJECTIONS)
_MATERIALS = _TISSUES | PROJECTIONS
_RAY_STEP = 2.4  # mm
# Subjects differ by at most so much; results were measured with these, and a test holds them
_POSE, _FLEXION, _TILT = 3.0, 4.0, 3.0  # degrees
_SHIFT, _PATELLA_SHIFT = 2.0, 3.0  # mm
_TIBIA_BLEND = 8.0  # mm: over about so much above and below the joint the tibia's turn sets in


def knee(seed: int, shape: tuple[int, ...], spacing: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Synthetic T1-like image (*S,) float32 in [0, 1] and label (*S,) uint8 (index in ``CLASS_NAMES``).

    shape: voxels in (X, Y, Z), or in (X, Z) for a coronal slice. spacing: voxel size in mm, one for each axis.
    """
    rng = np.random.default_rng([seed, len(shape)])
    placement, subject = _random_placement(rng), _random_knee(rng, max(spacing))
    points = _place(bend(rng, grid_points(shape, spacing), 2.5, 7), *placement)
    field = functools.partial(texture, rng, shape)
    solids = knee_solids(points, subject, field(9))
    layers = knee_layers(solids, points, vary(rng, _TISSUES["t1"]), field, field)
    return scan(rng, paint(layers, shape, max(spacing))), knee_label(solids)


def draw(seed: int, shape: tuple[int, ...], spacing: tuple[float, ...], contrast: str) -> Phantom:
    """Synthetic subject ``seed``: its image, its label map, and its true deformation to ``template(shape, spacing)``.

    Args:
        seed: the same seed is the same anatomy in each contrast, in another position of noise, bias and brightness.
        shape: voxels in (X, Y, Z), or in (X, Z) for a coronal slice or a projection from the front.
        spacing: mm, one for each axis.
        contrast: one of ``CONTRASTS``; "xray" and "dxa" in 2D only.

    Raises:
        DataError: for an unknown contrast, or a projection in 3D.
    """
    _check(contrast, shape)
    anatomy = np.random.default_rng([seed, len(shape), 1])
    scanner = np.random.default_rng([seed, len(shape), 2, CONTRASTS.index(contrast)])
    grid = grid_points(shape, spacing)
    depth, points = np.exp(anatomy.normal(0, 0.06)), _to_template(anatomy, grid, max(spacing))
    tissue = vary(scanner, _MATERIALS[contrast])
    if contrast in PROJECTIONS:
        integral, label = _project(points, tissue, max(spacing))
        image = detect(integral * depth, contrast, scanner)
    else:
        image, label = _section(points, tissue, functools.partial(texture, scanner, shape), max(spacing))
        image = scan(scanner, image)
    return Phantom(image, label, displacement(grid, points, spacing))


def template(shape: tuple[int, ...], spacing: tuple[float, ...], contrast: str) -> tuple[np.ndarray, np.ndarray]:
    """Image (*S,) float32 and label (*S,) uint8 of the knee that all subjects of :func:`draw` are deformed from.

    It has no noise, no bias field and no texture. The deformation of a subject's projection is exact for the label map
    and for where things lie; the brightness varies with the depth of the leg. Arguments and errors as for ``draw``.
    """
    _check(contrast, shape)
    points, tissue = grid_points(shape, spacing), _MATERIALS[contrast]
    if contrast in PROJECTIONS:
        integral, label = _project(points, tissue, max(spacing))
        return detect(integral, contrast, None), label
    image, label = _section(points, tissue, _smooth, max(spacing))
    return rescaled(image), label


def _check(contrast: str, shape: Sequence[int]) -> None:
    if contrast not in CONTRASTS:
        raise DataError(f"phantom_knee has no contrast {contrast!r}; there are {', '.join(CONTRASTS)}")
    if contrast in PROJECTIONS and len(shape) != 2:
        raise DataError(f"phantom_knee/{contrast} is a projection: shape {tuple(shape)} must have two axes, (X, Z)")


def _random_placement(rng: np.random.Generator) -> tuple:
    """size (3,) factors, pose (3,) angles about x, y, z in radians, shift (3,) mm."""
    size = np.exp(rng.normal(0, 0.05) + rng.normal(0, 0.03, 3))
    return size, np.radians(rng.uniform(-_POSE, _POSE, 3)), rng.uniform(-_SHIFT, _SHIFT, 3)


def _random_knee(rng: np.random.Generator, voxel: float) -> Knee:
    return Knee(
        flexion=np.radians(rng.uniform(-_FLEXION, _FLEXION)),
        tilt=np.radians(rng.uniform(-_TILT, _TILT)),
        condyle=np.exp(rng.normal(0, 0.06, (2, 3))),
        shaft=np.exp(rng.normal(0, 0.1)),
        plateau=np.exp(rng.normal(0, 0.06, 3)),
        patella=rng.uniform(-_PATELLA_SHIFT, _PATELLA_SHIFT, 3),
        thickness=cartilage_thickness(voxel) * np.exp(rng.normal(0, 0.08)),
    )


def _place(points: Points, size: np.ndarray, pose: np.ndarray, shift: np.ndarray) -> Points:
    """Bring points from the scanner's frame to the knee's own."""
    points = [p - s for p, s in zip(points, shift, strict=True)]
    for plane, angle in zip([(1, 2), (0, 2), (0, 1)], pose, strict=True):
        if points[0].ndim == 3 or plane == (0, 2):  # a slice turns in its own plane only
            points = turn(points, plane, angle)
    return [p / s for p, s in zip(points, size, strict=True)]


def _to_template(rng: np.random.Generator, points: Points, voxel: float) -> Points:
    """Where each point of a subject lies in the template: one smooth map for pose, size and the shape of each part."""
    placement, knee_ = _random_placement(rng), _random_knee(rng, voxel)
    points = bend(rng, points, 2.2, 7)
    points = bend(rng, points, 0.5, 11)  # uneven thickness
    points = _place(points, *placement)
    if points[0].ndim == 2:
        points[1] = np.zeros_like(points[0])  # a slice of the template too
    below = 1 / (1 + np.exp(np.clip(points[2] / _TIBIA_BLEND, -30, 30)))  # 1 in the tibia, 0 in the femur
    if points[0].ndim == 3:
        points = turn(points, (1, 2), below * knee_.flexion)
    points = turn(points, (0, 2), below * knee_.tilt)
    for side, factors in zip((-1, 1), knee_.condyle, strict=True):
        points = swell(points, (side * 22, -4, 22), (20, 32, 20), np.log(factors))
    points = swell(points, (0, -3, -18), (44, 36, 14), np.log(knee_.plateau))
    points = swell(points, (0, 46, 20), (26, 18, 28), (0, 0, 0), knee_.patella)
    points = swell(points, (0, 0, 0), (80, 60, 10), (0, 0, np.log(knee_.thickness / cartilage_thickness(voxel))))
    shaft = 1 + np.log(knee_.shaft) / (1 + np.exp(np.clip((55 - np.abs(points[2])) / 6, -30, 30)))
    return [points[0] * shaft, points[1] * shaft, points[2]]


def _wobble(points: Points) -> Field:
    """Unevenness of skin and muscle as part of the template: a fixed function of the place in it."""
    return lambda knots: waves(points, 500 / knots, knots)[0]


def _smooth(knots: int) -> float:
    return 0.0


def _section(points: Points, tissue: dict[str, float], grain: Field, voxel: float) -> tuple[np.ndarray, np.ndarray]:
    solids = knee_solids(points, Knee(cartilage_thickness(voxel)))
    layers = knee_layers(solids, points, tissue, grain, _wobble(points))
    return paint(layers, points[0].shape, voxel), knee_label(solids)


def _project(points: Points, tissue: dict[str, float], voxel: float) -> tuple[np.ndarray, np.ndarray]:
    """Line integrals (X, Z) from front to back, and the class that each ray crosses on the longest path.

    Background is what crosses none. x and z of the points hold for the whole ray, so that a deformation within the
    plane is exact for the projection too.
    """
    integral, paths = np.zeros(points[0].shape), np.zeros((len(CLASS_NAMES), *points[0].shape))
    for y in np.arange(-72, 72, _RAY_STEP) + _RAY_STEP / 2:  # plane by plane: little memory
        plane = [points[0], np.full(points[0].shape, y), points[2]]
        solids = knee_solids(plane, Knee(cartilage_thickness(voxel)))
        layers = knee_layers(solids, plane, tissue, _smooth, _wobble(plane))
        integral = integral + _RAY_STEP * paint(layers, points[0].shape, voxel)
        label = knee_label(solids)
        paths += label == np.arange(len(CLASS_NAMES))[:, None, None]
    longest = 1 + np.argmax(paths[1:], axis=0)
    return integral, np.where(paths[1:].any(axis=0), longest, 0).astype(np.uint8)
