"""Uniform cubic B-splines: the weights that turn a few control points into a smooth field."""

import functools

import numpy as np


@functools.cache
def spline_matrix(n_points: int, size: int) -> np.ndarray:
    """Weights of ``n_points`` control points at ``size`` positions, ``(n_points, size)`` float32.

    Each column sums to 1. The first and last position lie one interval inside the first and last control point.
    """
    positions = np.linspace(1.0, n_points - 2.0, size)
    distance = np.abs(positions - np.arange(n_points)[:, None])
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.clip(2 - distance, 0, None) ** 3 / 6
    return np.where(distance < 1, near, far).astype(np.float32)


def smooth_field(points: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Field ``(*S,)`` that the control points ``(*P,)`` span, with at least 4 of them along each axis.

    Args:
        points: values of the control points, as many axes as the field.
        shape: ``S``.
    """
    field = points
    for n_points, size in zip(points.shape, shape, strict=True):
        field = np.tensordot(field, spline_matrix(n_points, size), axes=(0, 0))  # the axis moves to the end
    return field
