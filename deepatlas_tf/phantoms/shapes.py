"""What the synthetic phantoms are drawn with: solids as signed distances, tissues painted one over another, a scanner.

Points are three arrays x, y, z in mm of one shape; a signed distance is negative inside.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import scipy.ndimage

from deepatlas_tf.ops.splines import smooth_field

Points = list[np.ndarray]


def turn(points: Points, plane: tuple[int, int], angle: np.ndarray | float) -> Points:
    """Points turned in the plane of two axes by ``angle``, in radians, one for all or one for each point."""
    a, b = plane
    turned = list(points)
    turned[a] = np.cos(angle) * points[a] - np.sin(angle) * points[b]
    turned[b] = np.sin(angle) * points[a] + np.cos(angle) * points[b]
    return turned


def ellipsoid(points: Points, centre: Sequence[float], radii: Sequence[float]) -> np.ndarray:
    """Signed distance to an ellipsoid, to first order from its surface; wrong within a thousandth of its middle."""
    scaled = [(p - c) / r for p, c, r in zip(points, centre, radii, strict=True)]
    norm = np.sqrt(sum(s**2 for s in scaled)) + 1e-6
    slope = np.sqrt(sum((s / r) ** 2 for s, r in zip(scaled, radii, strict=True))) + 1e-6
    return norm * (norm - 1) / slope


def rod(points: Points, start: Sequence[float], end: Sequence[float], radius: float) -> np.ndarray:
    """Signed distance to a rod with round ends from ``start`` to ``end``."""
    first, direction = np.array(start, float), np.subtract(end, start).astype(float)
    along = sum((p - s) * d for p, s, d in zip(points, first, direction, strict=True)) / (direction @ direction)
    along = np.clip(along, 0, 1)
    return np.sqrt(sum((p - s - along * d) ** 2 for p, s, d in zip(points, first, direction, strict=True))) - radius


def chain(points: Points, corners: Sequence[Sequence[float]], radius: float) -> np.ndarray:
    """Signed distance to rods from corner to corner."""
    return np.minimum.reduce([rod(points, a, b, radius) for a, b in zip(corners[:-1], corners[1:], strict=True)])


def join(*solids: np.ndarray, blend: float = 5.0) -> np.ndarray:
    """Union with rounded seams about ``blend`` mm wide."""
    joined = solids[0]
    for solid in solids[1:]:
        h = np.clip(0.5 + 0.5 * (joined - solid) / blend, 0, 1)
        joined = joined + (solid - joined) * h - blend * h * (1 - h)
    return joined


def texture(rng: np.random.Generator, shape: tuple[int, ...], points: int) -> np.ndarray:
    """Smooth field (*S,) of about unit variance from ``points`` random control points along each axis."""
    return 2.0 * smooth_field(rng.normal(size=[points] * len(shape)), shape)


def waves(points: Points, wavelength: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A fixed smooth function of the place, of about unit variance, and the length of its gradient, per mm.

    The mean of eight plane waves of ``wavelength`` mm in random directions: zero about every half wavelength.
    """
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(8, 3))
    directions *= 2 * np.pi / wavelength / np.linalg.norm(directions, axis=1, keepdims=True)
    value, gradient = np.zeros(points[0].shape), [np.zeros(points[0].shape)] * 3
    for direction, start in zip(directions, rng.uniform(0, 2 * np.pi, 8), strict=True):
        phase = start + sum(k * p for k, p in zip(direction, points, strict=True))
        value = value + 0.5 * np.sin(phase)
        swing = 0.5 * np.cos(phase)
        gradient = [g + k * swing for g, k in zip(gradient, direction, strict=True)]
    return value, np.sqrt(sum(g**2 for g in gradient))


def paint(layers: Iterable[tuple[np.ndarray, np.ndarray | float]], shape: tuple[int, ...], voxel: float) -> np.ndarray:
    """Image (*S,): each layer (signed distance, intensity) over those before, by the share of a voxel inside."""
    image = np.zeros(shape)
    for distance, value in layers:
        share = 1 / (1 + np.exp(np.clip(4 * distance / voxel, -30, 30)))
        image = image + share * (value - image)
    return image


def vary(rng: np.random.Generator, tissues: dict[str, float]) -> dict[str, float]:
    """Tissue intensities of one scan: each differs by about 8 %."""
    return {name: value * np.exp(rng.normal(0, 0.08)) for name, value in tissues.items()}


def scan(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """What a magnetic resonance scanner adds: blur, a bias field of about 10 %, noise; float32 in [0, 1]."""
    image = scipy.ndimage.gaussian_filter(image, 0.4)
    bias = np.exp(0.1 * texture(rng, image.shape, 5))
    return rescaled(np.abs(image * bias + rng.normal(0, 0.025, image.shape)))


def rescaled(image: np.ndarray) -> np.ndarray:
    """float32 in [0, 1]; the brightest half percent is clipped."""
    return np.clip(image / np.percentile(image, 99.5), 0, 1).astype(np.float32)
