"""Disagreement of the two directions of a registration. Each loss returns one value for each example, ``(B,)`` float32.

The displacement field ``u_ab`` warps B's image onto A's grid and ``u_ba`` the reverse; ``phi(x) = x + u(x)``. Both
losses are zero if one map is the inverse of the other.
"""

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.ops.compiled import compiled
from deepatlas_tf.ops.differences import squared_differences
from deepatlas_tf.ops.warp import warp
from deepatlas_tf.types import Tensor


def inverse_consistency_error(u_ab: Tensor, u_ba: Tensor) -> Tensor:
    """``phi_ab(phi_ba(x)) - x = u_ba(x) + u_ab(x + u_ba(x))``, 0 where the maps are inverse to each other.

    Outside the grid ``u_ab`` has the value of the nearest voxel.

    Args:
        u_ab: displacement field ``(B, *S, D)`` in voxels.
        u_ba: displacement field ``(B, *S, D)`` in voxels of the other direction.

    Returns:
        ``(B, *S, D)`` in voxels.
    """
    return u_ba + warp(u_ab, u_ba)


def inverse_consistency(u_ab: Tensor, u_ba: Tensor) -> Tensor:
    """Mean squared inverse-consistency error (ICON: Greer et al., ICCV 2021): ``1/|V| sum_x |e(x)|^2`` in voxels^2.

    ``e`` is the :func:`inverse_consistency_error`. ICON adds the losses of ``phi_ab o phi_ba`` and ``phi_ba o phi_ab``;
    this function gives the first.

    Args:
        u_ab: displacement field ``(B, *S, D)`` in voxels.
        u_ba: displacement field ``(B, *S, D)`` in voxels of the other direction.
    """
    return _mean_square(inverse_consistency_error(u_ab, u_ba))


def gradient_inverse_consistency(u_ab: Tensor, u_ba: Tensor) -> Tensor:
    """Mean squared gradient of the inverse-consistency error (GradICON: Tian et al., CVPR 2023).

    ``1/|V| sum_x |grad(phi_ab o phi_ba)(x) - 1|_F^2 = sum_i mean_x |e(x + n_i) - e(x)|^2`` with forward differences of
    one voxel along each axis ``i``. It is zero where ``phi_ab o phi_ba`` is a translation, and does not depend on the
    voxel size. The authors' code takes the mean over the components where the paper has the Frobenius norm: a weight
    ``lambda`` from there, such as 1.5, is ``lambda / D`` here.

    Args:
        u_ab: displacement field ``(B, *S, D)`` in voxels.
        u_ba: displacement field ``(B, *S, D)`` in voxels of the other direction.
    """
    return _mean_square_gradient(inverse_consistency_error(u_ab, u_ba))


@compiled
def _mean_square(error):
    axes = list(range(1, error.shape.rank - 1))
    return tf.reduce_sum(tf.reduce_mean(error * error, axis=axes), axis=-1)


@compiled
def _mean_square_gradient(error):
    return squared_differences(error, {(axis,): 1 for axis in range(error.shape[-1])})
