"""The solids of the synthetic knee and how its tissues lie over each other. It is no model of anatomy.

The knee's own frame: x to the right, y to the front, z up, in mm, origin between the femur and the tibia.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from deepatlas_tf.phantoms.shapes import Points, ellipsoid, join, rod, turn

Field = Callable[[int], np.ndarray | float]
CLASS_NAMES = ("background", "femur", "tibia", "femoral_cartilage", "tibial_cartilage")


@dataclasses.dataclass(frozen=True)
class Knee:
    """The shape of one knee; factors are around 1, lengths in mm, angles in radians.

    thickness: of cartilage. condyle: (2, 3) factors of the radii, medial and lateral. tilt: of the tibia in the coronal
    plane. plateau: (3,) factors. patella: (3,) shift.
    """

    thickness: float
    flexion: float = 0.0
    tilt: float = 0.0
    condyle: np.ndarray = dataclasses.field(default_factory=lambda: np.ones((2, 3)))
    shaft: float = 1.0
    plateau: np.ndarray = dataclasses.field(default_factory=lambda: np.ones(3))
    patella: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(3))


def cartilage_thickness(voxel: float) -> float:
    """The thickness in mm: 3 as in life, or 1.7 voxels where that is more: so Dice means something on a coarse grid."""
    return max(3.0, 1.7 * voxel)


def knee_solids(points: Points, knee: Knee, thickness_texture: np.ndarray | float = 0.0) -> dict[str, np.ndarray]:
    """Signed distances (*S,) in mm of everything that is drawn."""
    x, y, z = points
    thickness = knee.thickness * (1 + 0.15 * thickness_texture)
    half_gap = knee.thickness + 0.5
    below = turn(turn(points, (1, 2), knee.flexion), (0, 2), knee.tilt)  # the tibia's frame
    solids = _femur(points, knee, half_gap, thickness) | _tibia(below, knee, half_gap, thickness)
    patella = [p - s for p, s in zip(points, knee.patella, strict=True)]
    solids["patella"] = ellipsoid(patella, (0, 46, 20), (18, 9, 19))
    solids["patellar_cartilage"] = np.maximum(
        ellipsoid(patella, (0, 44, 20), (17, 9 + knee.thickness, 16)), -solids["patella"]
    )
    tendon = rod(patella, (0, 49, 36), (0, 44, 80), 5.0)
    solids["tendon"] = np.minimum(tendon, rod(patella, (0, 49, 6), (0, 36, -42), 4.5))
    solids["cruciate"] = np.minimum(
        rod(points, (6, -14, 16), (-3, 8, -10), 4.0), rod(points, (-5, -6, 12), (2, -26, -14), 4.5)
    )
    solids["collateral"] = np.minimum(
        rod(points, (-43, -2, 24), (-41, 2, -40), 2.5), rod(points, (43, -6, 22), (41, -16, -32), 2.5)
    )
    ring = np.sqrt((np.abs(x) - 22) ** 2 + (y + 3) ** 2)  # a meniscus around each compartment
    solids["meniscus"] = np.maximum(np.hypot(ring - 21, z * 0.9) - 5.0, 6 - np.abs(x))
    solids["fluid"] = ellipsoid(points, (0, 0, 0), (40, 32, half_gap + 4))
    return solids


def _femur(points: Points, knee: Knee, half_gap: float, thickness: np.ndarray | float) -> dict[str, np.ndarray]:
    x, y, z = points
    condyles = [
        ellipsoid(points, (side * 22, -4, half_gap + 21 * f[2]), (19 * f[0], 29 * f[1], 21 * f[2]))
        for side, f in zip((-1, 1), knee.condyle, strict=True)
    ]
    flare = ellipsoid(points, (0, 6, half_gap + 28), (33, 22, 22))
    shaft = rod(points, (0, 4, half_gap + 30), (0, 2, 150), 14.0 * knee.shaft)
    notch = ellipsoid(points, (0, -16, half_gap + 2), (8, 24, 15))
    bone = np.maximum(join(*condyles, flare, shaft, blend=8.0), -notch)
    # cartilage covers the condyles below and behind, and rises in front where the patella glides
    covered = np.maximum(z - half_gap - 18 - 0.25 * y, 7.5 - np.abs(x) - 0.8 * np.clip(y, 0, None))
    cartilage = np.maximum.reduce([bone - thickness, -bone, covered])
    scar = np.maximum(np.abs(z - half_gap - 26 - 0.004 * x**2) - 1.2, bone + 2)
    return {"femur": bone, "femoral_cartilage": cartilage, "femoral_scar": scar}


def _tibia(points: Points, knee: Knee, half_gap: float, thickness: np.ndarray | float) -> dict[str, np.ndarray]:
    x, y, z = points
    rx, ry, rz = knee.plateau * (40, 27, 20)
    dish = 0.006 * ((np.abs(x) - 20) ** 2 + (y + 3) ** 2)  # each half of the plateau is slightly hollow
    spine = 5 * np.exp(-((x / 6) ** 2) - ((y + 3) / 10) ** 2)
    top = z + half_gap + 1 - np.minimum(dish, 2) - spine
    head = np.maximum(ellipsoid(points, (0, -3, -half_gap - 12), (rx, ry, rz)), top)
    shaft = rod(points, (0, 0, -half_gap - 30), (0, -4, -150), 14.5 * knee.shaft)
    tuberosity = ellipsoid(points, (0, 22, -half_gap - 34), (9, 11, 12))
    bone = join(head, shaft, tuberosity, blend=10.0)
    covered = np.maximum(6 - np.abs(x), ellipsoid(points, (0, -3, -half_gap), (rx - 2, ry - 2, 15)))
    cartilage = np.maximum.reduce([top - thickness, -top, -bone, covered])
    scar = np.maximum(np.abs(z + half_gap + 18 + 0.003 * x**2) - 1.2, bone + 2)
    fibula = rod(points, (35, -20, -half_gap - 24), (37, -18, -150), 6.5)
    return {"tibia": bone, "tibial_cartilage": cartilage, "tibial_scar": scar, "fibula": fibula}


def knee_label(solids: dict[str, np.ndarray]) -> np.ndarray:
    """Class indices (*S,) uint8."""
    label = np.zeros(solids["femur"].shape, np.uint8)
    for index in (4, 3, 2, 1):  # where two solids meet, the one painted last stays: bone over cartilage
        label[solids[CLASS_NAMES[index]] <= 0] = index
    return label


def knee_layers(
    solids: dict[str, np.ndarray], points: Points, tissue: dict[str, float], grain: Field, wobble: Field
) -> list:
    """The (signed distance, intensity) of each tissue from the outside in, to be painted.

    Both fields are called with how many knots they have along each axis of the grid, about, and have unit variance:
    ``grain`` is the texture of a tissue, ``wobble`` the unevenness of skin and muscle.
    """
    _, y, z = points
    marrow = tissue["marrow"] * (1 + 0.08 * grain(12))
    leg = _leg(points)
    layers = [(leg - 2.5 * wobble(6), tissue["fat"] * (1 + 0.06 * grain(14)))]
    # muscle lies behind and beside the bones, under 8 mm of fat; in front the fat pads stay
    muscle = 8 * wobble(8) - 5 + 0.5 * np.clip(y, -14, 30) - 0.1 * np.abs(z)
    layers.append((np.maximum(leg + 8, muscle), tissue["muscle"] * (1 + 0.12 * grain(14))))
    layers.append((solids["fluid"], tissue["fluid"]))
    layers += [(solids[name], tissue["ligament"]) for name in ("tendon", "collateral", "cruciate", "meniscus")]
    for name in ("patellar_cartilage", "femoral_cartilage", "tibial_cartilage"):
        layers.append((solids[name], tissue["cartilage"] * (1 + 0.06 * grain(12))))
    for name in ("femur", "tibia", "patella", "fibula"):
        layers += [(solids[name], tissue["cortex"]), (solids[name] + 2.0, marrow)]  # inside 2 mm of cortical bone
    layers += [(solids[name], tissue["scar"]) for name in ("femoral_scar", "tibial_scar")]
    return layers


def _leg(points: Points) -> np.ndarray:
    x, y, _ = points
    return 60 * (np.hypot(x / 58, (y + 4) / 64) - 1)
