"""Regularity of a displacement field; 0 for a translation. Each returns a value for each example, ``(B,)`` float32."""

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.ops.compiled import compiled
from deepatlas_tf.ops.differences import squared_differences
from deepatlas_tf.ops.filters import difference
from deepatlas_tf.types import Tensor


@compiled
def bending_energy(u: Tensor) -> Tensor:
    """Mean squared second derivative of the field, mixed derivatives counted twice (Rueckert et al., TMI 1999).

    ``1/|V| sum_x sum_ij |d2u / dx_i dx_j|^2`` with forward differences, in voxel units. It is zero for any affine
    field. For the same deformation in millimetres it is proportional to the square of the voxel size ``h``: a weight
    tuned at ``h1`` has to be multiplied by ``(h1 / h2)^2`` for voxels of ``h2``, and ``weight * h^2`` is the weight in
    millimetres.

    Args:
        u: displacement field ``(B, *S, D)`` in voxels.
    """
    n_axes = u.shape[-1]
    return squared_differences(u, {(i, j): 1 if i == j else 2 for i in range(n_axes) for j in range(i, n_axes)})


def plain_bending_energy(u: Tensor) -> Tensor:
    """The definition of :func:`bending_energy`, for images of three voxels or more along each axis."""
    axes = range(u.shape[-1])
    return tf.add_n([_mean_square(difference(difference(u, i), j)) for i in axes for j in axes])


@compiled
def gradient_penalty(u: Tensor, penalty: str = "l2", loss_mult: float = 1.0) -> Tensor:
    """Mean squared (``l2``) or absolute (``l1``) first derivative of the field, voxelmorph's ``Grad``.

    ``loss_mult / D sum_i mean_x,c |du_c / dx_i|^p`` with forward differences: the mean over the axes, components and
    voxels (Balakrishnan et al., TMI 2019, take the sum over axes and components). With ``l2`` it is also called the
    diffusion regulariser. It does not depend on the voxel size.

    Args:
        u: displacement or velocity field ``(B, *S, D)`` in voxels.
        penalty: ``"l1"`` or ``"l2"``.
        loss_mult: factor; voxelmorph sets it to the step of the field's grid in voxels, where that is coarser than
            the image's.

    Raises:
        ValueError: if the penalty is neither of the two.
    """
    if penalty not in ("l1", "l2"):
        raise ValueError(f"penalty is 'l1' or 'l2', not {penalty!r}")
    n_axes = u.shape[-1]
    if penalty == "l2":
        return squared_differences(u, {(axis,): loss_mult / n_axes**2 for axis in range(n_axes)})
    sizes = [tf.abs(difference(u, axis)) for axis in range(n_axes)]
    return loss_mult / n_axes * tf.add_n([tf.reduce_mean(size, axis=list(range(1, n_axes + 2))) for size in sizes])


def plain_gradient_penalty(u: Tensor, loss_mult: float = 1.0) -> Tensor:
    """The definition of :func:`gradient_penalty` with ``l2``, for images of two voxels or more along each axis."""
    n_axes = u.shape[-1]
    return loss_mult / n_axes**2 * tf.add_n([_mean_square(difference(u, axis)) for axis in range(n_axes)])


def _mean_square(vectors):
    """Mean over the voxels of the squared norm of vectors ``(B, *S, D)``: ``(B,)``."""
    squared_norm = tf.reduce_sum(vectors * vectors, axis=-1)
    return tf.reduce_mean(squared_norm, axis=list(range(1, squared_norm.shape.rank)))
