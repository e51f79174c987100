"""Synthetic heads with a folded cortex: every subject is one template deformed, and the true deformation is known.

It is no model of anatomy. Axes: x to the right, y to the front, z up, in mm, origin in the middle of the brain, near
the thalamus. A 2D phantom is an oblique coronal slice that cuts every structure.
"""

import functools

import numpy as np

from deepatlas_tf.phantoms.deform import Phantom, bend, displacement, grid_points, swell
from deepatlas_tf.phantoms.knee_anatomy import Field
from deepatlas_tf.phantoms.shapes import (
    Points,
    chain,
    ellipsoid,
    join,
    paint,
    rescaled,
    rod,
    scan,
    texture,
    turn,
    vary,
    waves,
)
from deepatlas_tf.types import DataError

CLASS_NAMES = (
    "background",
    "cerebral_cortex",
    "cerebral_white_matter",
    "lateral_ventricle",
    "thalamus",
    "caudate",
    "putamen",
    "cerebellum",
    "brain_stem",
)
_TISSUES = {
    # white matter brighter than grey, fluid dark, fat of the scalp brightest
    "t1": {
        "scalp": 0.95,
        "muscle": 0.40,
        "skull": 0.10,
        "fluid": 0.16,
        "cortex": 0.52,
        "white": 0.80,
        "thalamus": 0.68,
        "caudate": 0.56,
        "putamen": 0.61,
        "stem": 0.76,
    },
    # the other way round: fluid brightest, grey matter brighter than white; iron darkens the deep grey matter
    "t2": {
        "scalp": 0.55,
        "muscle": 0.22,
        "skull": 0.06,
        "fluid": 0.95,
        "cortex": 0.56,
        "white": 0.34,
        "thalamus": 0.42,
        "caudate": 0.48,
        "putamen": 0.40,
        "stem": 0.38,
    },
}
CONTRASTS = tuple(_TISSUES)
_SLICE = (-5.0, 0.75)  # mm, slope: the slice of a 2D phantom is y = -5 + 0.75 z
_SULCUS_DEPTH, _SULCUS_WIDTH, _FOLD = 15.0, 1.6, 44.0  # mm; sulci come about every half _FOLD


def draw(seed: int, shape: tuple[int, ...], spacing: tuple[float, ...], contrast: str) -> Phantom:
    """Synthetic subject ``seed``: its image, its label map, and its true deformation to ``template(shape, spacing)``.

    Args:
        seed: the same seed is the same anatomy in each contrast, with noise and brightness of its own.
        shape: voxels in (X, Y, Z), or in (X, Z) for a slice. spacing: mm, one for each axis.
        contrast: one of ``CONTRASTS``.

    Raises:
        DataError: for an unknown contrast.
    """
    _check(contrast)
    anatomy = np.random.default_rng([seed, len(shape), 1])
    scanner = np.random.default_rng([seed, len(shape), 2, CONTRASTS.index(contrast)])
    grid = grid_points(shape, spacing)
    points = _to_template(anatomy, grid)
    grain = functools.partial(texture, scanner, shape)
    image, label = _section(points, vary(scanner, _TISSUES[contrast]), grain, max(spacing))
    return Phantom(scan(scanner, image), label, displacement(grid, points, spacing))


def template(shape: tuple[int, ...], spacing: tuple[float, ...], contrast: str) -> tuple[np.ndarray, np.ndarray]:
    """Image (*S,) float32 and label (*S,) uint8 of the head that all subjects of :func:`draw` are deformed from.

    It has no noise, no bias field and no texture. Arguments and errors as for ``draw``.
    """
    _check(contrast)
    image, label = _section(grid_points(shape, spacing), _TISSUES[contrast], lambda knots: 0.0, max(spacing))
    return rescaled(image), label


def _check(contrast: str) -> None:
    if contrast not in CONTRASTS:
        raise DataError(f"phantom_brain has no contrast {contrast!r}; there are {', '.join(CONTRASTS)}")


def _to_template(rng: np.random.Generator, points: Points) -> Points:
    """Where each point of a subject lies in the template: one smooth map for pose, size and the shape of each part."""
    points = bend(rng, points, 2.5, 7)
    points = bend(rng, points, 1.0, 12)  # folds of the cortex differ
    shift, pose = rng.uniform(-4, 4, 3), np.radians(rng.uniform(-6, 6, 3))
    size = np.exp(rng.normal(0, 0.04) + rng.normal(0, 0.025, 3))
    points = [p - s for p, s in zip(points, shift, strict=True)]
    for plane, angle in zip([(1, 2), (0, 2), (0, 1)], pose, strict=True):
        if points[0].ndim == 3 or plane == (0, 2):  # a slice turns in its own plane only
            points = turn(points, plane, angle)
    points = [p / s for p, s in zip(points, size, strict=True)]
    ventricles = np.clip(rng.normal(0, 0.25), -0.45, 0.45)  # their size differs most between people
    for side in (-1, 1):
        widening = ventricles + rng.normal(0, 0.05)
        points = swell(points, (side * 12, -2, 17), (13, 44, 12), (widening, 0, widening))
    for side in (-1, 1):
        points = swell(points, (side * 20, 2, 4), (16, 22, 14), rng.normal(0, 0.07, 3), rng.normal(0, 1.2, 3))
    points = swell(points, (0, -48, -36), (42, 34, 24), rng.normal(0, 0.07, 3), rng.normal(0, 1.5, 3))
    return swell(points, (0, -18, -36), (14, 16, 40), rng.normal(0, 0.06, 3))


def _solids(points: Points, voxel: float) -> dict[str, np.ndarray]:
    """Signed distances (*S,) in mm of everything that is drawn; left and right are alike."""
    half = [np.abs(points[0]), points[1], points[2]]
    cerebellum = join(ellipsoid(half, (22, -50, -37), (27, 25, 20)), ellipsoid(half, (0, -52, -37), (14, 20, 18)))
    stem = join(
        rod(points, (0, -13, -8), (0, -27, -90), 9.5), ellipsoid(points, (0, -15, -30), (16, 13, 14)), blend=6.0
    )
    hull = join(ellipsoid(half, (20, -2, 15), (43, 82, 53)), ellipsoid(half, (44, 8, -14), (20, 40, 20)), blend=12.0)
    hull = np.maximum(hull, 2.0 - np.minimum(cerebellum, stem + 4.0))
    outside = _depth_below_surface(half, hull)
    cortex = cortex_thickness(voxel)
    horns = chain(half, [(9, 30, 10), (11, 12, 18), (14, -20, 19), (21, -46, 9)], 4.5)
    solids = {
        "head": join(
            ellipsoid(points, (0, -4, 6), (77, 97, 80)), rod(points, (0, -22, -45), (0, -28, -150), 46), blend=20.0
        ),
        "brain": np.minimum.reduce([hull, cerebellum, stem]) - 3.0,  # with the fluid around it
        "cerebral_cortex": np.maximum(outside, -outside - cortex),
        "cerebral_white_matter": outside + cortex,
        "third_ventricle": ellipsoid(points, (0, -8, 3), (2.2, 13, 9)),
        "lateral_ventricle": np.minimum(horns, chain(half, [(21, -46, 9), (31, -26, -8), (32, -8, -15)], 2.8)),
        "thalamus": ellipsoid(half, (11.5, -10, 5), (8.5, 15, 9)),
        "caudate": chain(half, [(13, 22, 4), (16, 14, 13), (20, -6, 20), (24, -24, 16)], 4.5),
        "putamen": ellipsoid(half, (28, 3, 2), (6.5, 19, 12)),
        "cerebellum": cerebellum,
        "brain_stem": stem,
    }
    solids["caudate"] = join(solids["caudate"], ellipsoid(half, (13, 20, 7), (6.5, 10, 9)))
    return solids


def cortex_thickness(voxel: float) -> float:
    """The thickness in mm: 3 as in life, or 1.3 voxels where that is more, at most 5 so that white matter is left."""
    return float(np.clip(1.3 * voxel, 3.0, 5.0))


def _depth_below_surface(half: Points, hull: np.ndarray) -> np.ndarray:
    """Signed distance (*S,) to the fluid around the cerebrum, which also fills the sulci and the cleft in the middle.

    Sulci are sheets where a smooth function of the direction from the middle of the hemisphere is zero, so that they
    go straight inward; they end ``_SULCUS_DEPTH`` under the hull.
    """
    x, y, z = half
    offset = [x - 14, y + 2, z - 8]
    radius = np.sqrt(sum(o**2 for o in offset)) + 1e-6
    fold, slope = waves([60 * o / radius for o in offset], _FOLD, 6)
    sheet = np.abs(fold) / (slope + 1e-3) * radius / 60
    too_deep = np.maximum(-hull - _SULCUS_DEPTH, 40 - radius)
    sulcus = np.hypot(sheet, np.clip(too_deep, 0, None)) - _SULCUS_WIDTH / 2
    bridge = ellipsoid(half, (0, -4, 8), (30, 44, 20))  # of white matter, from one hemisphere to the other
    cleft = np.maximum(x - 1.0, -bridge)
    return np.maximum.reduce([hull, -sulcus, -cleft])


def _label(solids: dict[str, np.ndarray]) -> np.ndarray:
    label = np.zeros(solids["brain"].shape, np.uint8)
    order = (*CLASS_NAMES[1:3], "thalamus", "putamen", "lateral_ventricle", "caudate", "cerebellum", "brain_stem")
    for name in order:  # as the layers are painted: what comes later lies over what came before
        if name == "thalamus":
            label[solids["third_ventricle"] <= 0] = 0
        label[solids[name] <= 0] = CLASS_NAMES.index(name)
    return label


def _section(points: Points, tissue: dict[str, float], grain: Field, voxel: float) -> tuple[np.ndarray, np.ndarray]:
    """Image (*S,) before the scanner and label (*S,) at points of the template; a slice is put where it lies."""
    if points[0].ndim == 2:
        points = [points[0], _SLICE[0] + _SLICE[1] * points[2], points[2]]
    solids = _solids(points, voxel)
    folia = 0.1 * np.sin(2 * np.pi * np.hypot(points[1] + 30, points[2] + 30) / 9)  # of the cerebellum
    white = tissue["white"] * (1 + 0.04 * grain(12))
    layers = [
        (solids["head"], tissue["scalp"] * (1 + 0.08 * grain(14))),
        (solids["head"] + 7, tissue["muscle"] * (1 + 0.12 * grain(14))),
        (np.maximum(solids["head"] + 6, -25 - points[2]), tissue["skull"]),
        (np.maximum(solids["head"] + 8, solids["brain"] - 5), tissue["skull"]),
        (solids["brain"], tissue["fluid"]),
        (solids["cerebral_cortex"], tissue["cortex"] * (1 + 0.05 * grain(14))),
        (solids["cerebral_white_matter"], white),
        (solids["third_ventricle"], tissue["fluid"]),
        (solids["thalamus"], tissue["thalamus"]),
        (solids["putamen"], tissue["putamen"]),
        (solids["lateral_ventricle"], tissue["fluid"]),
        (solids["caudate"], tissue["caudate"]),
        (solids["cerebellum"], tissue["cortex"] * (1 + folia)),
        (solids["cerebellum"] + 10, white),
        (solids["brain_stem"], tissue["stem"] * (1 + 0.04 * grain(10))),
    ]
    return paint(layers, points[0].shape, voxel), _label(solids)
