"""A synthetic knee: bones and cartilage of random size, shape and pose, drawn as a T1-weighted scan would show them.

It is no model of anatomy. It gives tests and the demo scans that differ as patients do, with exact labels. Solids are
signed distances in mm (negative inside), written in the subject's own frame: x to the right, y to the front, z up,
origin between the femur and the tibia. Cartilage is as thin as in life (3 mm) or 1.7 voxels, whichever is more.
"""

import dataclasses

import numpy as np
import scipy.ndimage

from deepatlas_tf.data.splines import smooth_field

CLASS_NAMES = ("background", "femur", "tibia", "femoral_cartilage", "tibial_cartilage")

# T1-weighted: fat and marrow bright, muscle and cartilage between, cortical bone, ligaments and fluid dark
_TISSUES = {
    "fat": 0.85,
    "muscle": 0.40,
    "marrow": 0.75,
    "cortex": 0.15,
    "cartilage": 0.56,
    "ligament": 0.14,
    "fluid": 0.26,
    "scar": 0.50,
}


@dataclasses.dataclass(frozen=True)
class _Subject:
    """What distinguishes one subject's anatomy; factors are around 1, lengths in mm, angles in radians."""

    size: np.ndarray  # (3,) along x, y, z
    pose: np.ndarray  # (3,) angles about x, y, z
    shift: np.ndarray  # (3,)
    flexion: float
    tilt: float  # of the tibia in the coronal plane
    condyle: np.ndarray  # (2, 3) factors of the radii, medial and lateral
    shaft: float
    plateau: np.ndarray  # (3,)
    patella: np.ndarray  # (3,) shift
    thickness: float  # of cartilage, mm


def knee(seed: int, shape: tuple[int, ...], spacing: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Synthetic image (*S,) float32 in [0, 1] and label (*S,) uint8 (index in ``CLASS_NAMES``) of subject ``seed``.

    shape: voxels in (X, Y, Z), or in (X, Z) for a coronal slice. spacing: voxel size in mm, one for each axis.
    """
    rng = np.random.default_rng([seed, len(shape)])
    subject = _draw_subject(rng, max(spacing))
    points = _subject_points(rng, subject, shape, spacing)
    solids = _solids(points, subject, _texture(rng, shape, 9))
    label = _label(solids)
    return _image(rng, solids, points, shape, max(spacing)), label


def _draw_subject(rng: np.random.Generator, voxel: float) -> _Subject:
    return _Subject(
        size=np.exp(rng.normal(0, 0.05) + rng.normal(0, 0.03, 3)),
        pose=np.radians(rng.uniform(-7, 7, 3)),
        shift=rng.uniform(-5, 5, 3),
        flexion=np.radians(rng.uniform(-8, 8)),
        tilt=np.radians(rng.uniform(-3, 3)),
        condyle=np.exp(rng.normal(0, 0.06, (2, 3))),
        shaft=np.exp(rng.normal(0, 0.1)),
        plateau=np.exp(rng.normal(0, 0.06, 3)),
        patella=rng.uniform(-3, 3, 3),
        thickness=max(3.0, 1.7 * voxel) * np.exp(rng.normal(0, 0.08)),
    )


def _subject_points(rng, subject: _Subject, shape, spacing) -> list[np.ndarray]:
    """Where each voxel lies in the subject's frame: x, y, z in mm, each (*S,)."""
    axes = [(np.arange(n) - (n - 1) / 2) * step for n, step in zip(shape, spacing, strict=True)]
    points = np.meshgrid(*axes, indexing="ij")
    points = [p + 2.5 * _texture(rng, shape, 7) for p in points]  # bends of about 2.5 mm
    if len(shape) == 2:
        points.insert(1, np.zeros(shape))
    points = [p - s for p, s in zip(points, subject.shift, strict=True)]
    for plane, angle in zip([(1, 2), (0, 2), (0, 1)], subject.pose, strict=True):
        if len(shape) == 3 or plane == (0, 2):  # a slice turns in its own plane only
            points = _turn(points, plane, angle)
    return [p / s for p, s in zip(points, subject.size, strict=True)]


def _turn(points: list[np.ndarray], plane: tuple[int, int], angle: float) -> list[np.ndarray]:
    a, b = plane
    turned = list(points)
    turned[a] = np.cos(angle) * points[a] - np.sin(angle) * points[b]
    turned[b] = np.sin(angle) * points[a] + np.cos(angle) * points[b]
    return turned


def _ellipsoid(points, centre, radii) -> np.ndarray:
    """Signed distance to an ellipsoid, to first order."""
    scaled = [(p - c) / r for p, c, r in zip(points, centre, radii, strict=True)]
    norm = np.sqrt(sum(s**2 for s in scaled)) + 1e-6
    slope = np.sqrt(sum((s / r) ** 2 for s, r in zip(scaled, radii, strict=True))) + 1e-6
    return norm * (norm - 1) / slope


def _rod(points, start, end, radius: float) -> np.ndarray:
    """Signed distance to a rod with round ends from ``start`` to ``end``."""
    start, direction = np.array(start, float), np.subtract(end, start).astype(float)
    along = sum((p - s) * d for p, s, d in zip(points, start, direction, strict=True)) / (direction @ direction)
    along = np.clip(along, 0, 1)
    return np.sqrt(sum((p - s - along * d) ** 2 for p, s, d in zip(points, start, direction, strict=True))) - radius


def _join(*solids: np.ndarray, blend: float = 5.0) -> np.ndarray:
    """Union with rounded seams about ``blend`` mm wide."""
    joined = solids[0]
    for solid in solids[1:]:
        h = np.clip(0.5 + 0.5 * (joined - solid) / blend, 0, 1)
        joined = joined + (solid - joined) * h - blend * h * (1 - h)
    return joined


def _solids(points, subject: _Subject, thickness_texture: np.ndarray) -> dict[str, np.ndarray]:
    """Signed distances (*S,) in mm of everything that is drawn."""
    x, y, z = points
    thickness = subject.thickness * (1 + 0.15 * thickness_texture)
    half_gap = subject.thickness + 0.5
    below = _turn(_turn(points, (1, 2), subject.flexion), (0, 2), subject.tilt)  # the tibia's frame
    solids = _femur(points, subject, half_gap, thickness) | _tibia(below, subject, half_gap, thickness)
    patella = [p - s for p, s in zip(points, subject.patella, strict=True)]
    solids["patella"] = _ellipsoid(patella, (0, 46, 20), (18, 9, 19))
    solids["patellar_cartilage"] = np.maximum(
        _ellipsoid(patella, (0, 44, 20), (17, 9 + subject.thickness, 16)), -solids["patella"]
    )
    tendon = _rod(patella, (0, 49, 36), (0, 44, 80), 5.0)
    solids["tendon"] = np.minimum(tendon, _rod(patella, (0, 49, 6), (0, 36, -42), 4.5))
    solids["cruciate"] = np.minimum(
        _rod(points, (6, -14, 16), (-3, 8, -10), 4.0), _rod(points, (-5, -6, 12), (2, -26, -14), 4.5)
    )
    solids["collateral"] = np.minimum(
        _rod(points, (-43, -2, 24), (-41, 2, -40), 2.5), _rod(points, (43, -6, 22), (41, -16, -32), 2.5)
    )
    ring = np.sqrt((np.abs(x) - 22) ** 2 + (y + 3) ** 2)  # a meniscus around each compartment
    solids["meniscus"] = np.maximum(np.hypot(ring - 21, z * 0.9) - 5.0, 6 - np.abs(x))
    solids["fluid"] = _ellipsoid(points, (0, 0, 0), (40, 32, half_gap + 4))
    return solids


def _femur(points, subject: _Subject, half_gap: float, thickness) -> dict[str, np.ndarray]:
    x, y, z = points
    condyles = [
        _ellipsoid(points, (side * 22, -4, half_gap + 21 * f[2]), (19 * f[0], 29 * f[1], 21 * f[2]))
        for side, f in zip((-1, 1), subject.condyle, strict=True)
    ]
    flare = _ellipsoid(points, (0, 6, half_gap + 28), (33, 22, 22))
    shaft = _rod(points, (0, 4, half_gap + 30), (0, 2, 150), 14.0 * subject.shaft)
    notch = _ellipsoid(points, (0, -16, half_gap + 2), (8, 24, 15))
    bone = np.maximum(_join(*condyles, flare, shaft, blend=8.0), -notch)
    # cartilage covers the condyles below and behind, and rises in front where the patella glides
    covered = np.maximum(z - half_gap - 18 - 0.25 * y, 7.5 - np.abs(x) - 0.8 * np.clip(y, 0, None))
    cartilage = np.maximum.reduce([bone - thickness, -bone, covered])
    scar = np.maximum(np.abs(z - half_gap - 26 - 0.004 * x**2) - 1.2, bone + 2)
    return {"femur": bone, "femoral_cartilage": cartilage, "femoral_scar": scar}


def _tibia(points, subject: _Subject, half_gap: float, thickness) -> dict[str, np.ndarray]:
    x, y, z = points
    rx, ry, rz = subject.plateau * (40, 27, 20)
    dish = 0.006 * ((np.abs(x) - 20) ** 2 + (y + 3) ** 2)  # each half of the plateau is slightly hollow
    spine = 5 * np.exp(-((x / 6) ** 2) - ((y + 3) / 10) ** 2)
    top = z + half_gap + 1 - np.minimum(dish, 2) - spine
    head = np.maximum(_ellipsoid(points, (0, -3, -half_gap - 12), (rx, ry, rz)), top)
    shaft = _rod(points, (0, 0, -half_gap - 30), (0, -4, -150), 14.5 * subject.shaft)
    tuberosity = _ellipsoid(points, (0, 22, -half_gap - 34), (9, 11, 12))
    bone = _join(head, shaft, tuberosity, blend=10.0)
    covered = np.maximum(6 - np.abs(x), _ellipsoid(points, (0, -3, -half_gap), (rx - 2, ry - 2, 15)))
    cartilage = np.maximum.reduce([top - thickness, -top, -bone, covered])
    scar = np.maximum(np.abs(z + half_gap + 18 + 0.003 * x**2) - 1.2, bone + 2)
    fibula = _rod(points, (35, -20, -half_gap - 24), (37, -18, -150), 6.5)
    return {"tibia": bone, "tibial_cartilage": cartilage, "tibial_scar": scar, "fibula": fibula}


def _label(solids: dict[str, np.ndarray]) -> np.ndarray:
    label = np.zeros(solids["femur"].shape, np.uint8)
    for index in (4, 3, 2, 1):  # where two solids meet, the one painted last stays: bone over cartilage
        label[solids[CLASS_NAMES[index]] <= 0] = index
    return label


def _texture(rng: np.random.Generator, shape: tuple[int, ...], points: int) -> np.ndarray:
    """Smooth field (*S,) of about unit variance from ``points`` random control points along each axis."""
    return 2.0 * smooth_field(rng.normal(size=[points] * len(shape)), shape)


def _paint(image: np.ndarray, distance: np.ndarray, value, voxel: float) -> np.ndarray:
    """``image`` with a solid of intensity ``value`` painted over it, by the share of each voxel that lies inside."""
    share = 1 / (1 + np.exp(np.clip(4 * distance / voxel, -30, 30)))
    return image + share * (value - image)


def _image(rng, solids, points, shape, voxel: float) -> np.ndarray:
    """Paint the tissues from the outside in, then add what a scanner adds: blur, bias field, noise."""
    tissue = {name: value * np.exp(rng.normal(0, 0.08)) for name, value in _TISSUES.items()}
    marrow = tissue["marrow"] * (1 + 0.08 * _texture(rng, shape, 12))
    image = _paint(np.zeros(shape), *_skin(rng, points, shape, tissue), voxel)
    image = _paint(image, *_muscle(rng, points, shape, tissue), voxel)
    image = _paint(image, solids["fluid"], tissue["fluid"], voxel)
    for name in ("tendon", "collateral", "cruciate", "meniscus"):
        image = _paint(image, solids[name], tissue["ligament"], voxel)
    for name in ("patellar_cartilage", "femoral_cartilage", "tibial_cartilage"):
        image = _paint(image, solids[name], tissue["cartilage"] * (1 + 0.06 * _texture(rng, shape, 12)), voxel)
    for name in ("femur", "tibia", "patella", "fibula"):
        image = _paint(image, solids[name], tissue["cortex"], voxel)
        image = _paint(image, solids[name] + 2.0, marrow, voxel)  # inside 2 mm of cortical bone
    for name in ("femoral_scar", "tibial_scar"):
        image = _paint(image, solids[name], tissue["scar"], voxel)
    image = scipy.ndimage.gaussian_filter(image, 0.4)
    bias = np.exp(0.1 * _texture(rng, shape, 5))
    noisy = np.abs(image * bias + rng.normal(0, 0.025, shape))
    return np.clip(noisy / np.percentile(noisy, 99.5), 0, 1).astype(np.float32)


def _leg(points) -> np.ndarray:
    x, y, _ = points
    return 60 * (np.hypot(x / 58, (y + 4) / 64) - 1)


def _skin(rng, points, shape, tissue) -> tuple[np.ndarray, np.ndarray]:
    distance = _leg(points) - 2.5 * _texture(rng, shape, 6)
    return distance, tissue["fat"] * (1 + 0.06 * _texture(rng, shape, 14))


def _muscle(rng, points, shape, tissue) -> tuple[np.ndarray, np.ndarray]:
    """Muscle behind and beside the bones, under 8 mm of fat; in front the fat pads stay."""
    _, y, z = points
    distance = 8 * _texture(rng, shape, 8) - 5 + 0.5 * np.clip(y, -14, 30) - 0.1 * np.abs(z)
    return np.maximum(_leg(points) + 8, distance), tissue["muscle"] * (1 + 0.12 * _texture(rng, shape, 14))
