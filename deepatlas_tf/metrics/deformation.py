"""Regularity of a displacement field ``u (*S, D)`` in voxels; the map is ``x + u(x)``.

The Jacobian determinant has no unit: in voxels and in millimetres it is equal, as long as all images share one grid.
"""

import numpy as np
from numpy.typing import ArrayLike

from deepatlas_tf.metrics.blocks import by_blocks


def jacobian_determinant(u: ArrayLike) -> np.ndarray:
    """Determinant of the Jacobian of ``x + u(x)``, ``(*S,)`` float64.

    The differences are central inside and one-sided at the image's edge. A determinant of 1 keeps the volume, one of 0
    or less is a fold.

    Args:
        u: ``(*S, D)`` in voxels.

    Raises:
        ValueError: if ``u`` is not ``(X, Y, 2)`` or ``(X, Y, Z, 3)``, or an axis has fewer than two voxels.
    """
    u = np.asarray(u)
    if u.ndim not in (3, 4) or u.shape[-1] != u.ndim - 1:
        raise ValueError(f"a displacement field is (X, Y, 2) or (X, Y, Z, 3); got {u.shape}")

    def determinant_of_rows(rows):
        first = max(rows.start - 1, 0)  # a row more on each side for the central differences
        return _determinant(u[first : rows.stop + 1])[rows.start - first :][: rows.stop - rows.start]

    return by_blocks(determinant_of_rows, u.shape[:-1])


def regularity(u: ArrayLike) -> dict[str, float]:
    """:func:`folds_percent` and :func:`sdlogj` of ``u (*S, D)`` in voxels by name; the determinant is computed once.

    Raises ValueError as :func:`jacobian_determinant` does.
    """
    determinant = jacobian_determinant(u)
    return {"folds_percent": _folds_percent(determinant), "sdlogj": _sdlogj(determinant)}


def folds_percent(u: ArrayLike) -> float:
    """Percentage of voxels whose Jacobian determinant is zero or negative, of ``u (*S, D)`` in voxels.

    Raises ValueError as :func:`jacobian_determinant` does.
    """
    return _folds_percent(jacobian_determinant(u))


def sdlogj(u: ArrayLike) -> float:
    """Standard deviation over the voxels of the log of the Jacobian determinant of ``u (*S, D)`` in voxels.

    Determinants below 1e-9 count as 1e-9.

    The smoothness measure of the Learn2Reg challenge (Hering et al., IEEE TMI 2023), here over the whole image.
    Raises ValueError as :func:`jacobian_determinant` does.
    """
    return _sdlogj(jacobian_determinant(u))


def _determinant(u):
    """Determinant ``(*S,)`` of the Jacobian of ``x + u(x)``."""
    u = u.astype(np.float64)
    n_dims = u.shape[-1]
    # rows[i][j] = d(x_i + u_i) / dx_j
    rows = [list(np.gradient(u[..., i])) for i in range(n_dims)]
    for i in range(n_dims):
        rows[i][i] += 1
    if n_dims == 2:
        (a, b), (c, d) = rows
        return a * d - b * c
    (a, b, c), (d, e, f), (g, h, i) = rows
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)


def _folds_percent(determinant):
    return float(100 * np.mean(determinant <= 0))


def _sdlogj(determinant):
    return float(np.std(np.log(np.maximum(determinant, 1e-9))))
