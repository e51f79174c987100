"""Regularity of a displacement field; 0 for a translation. Each returns a value for each example, ``(B,)`` float32."""

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.ops.compiled import compiled
from deepatlas_tf.ops.differences import squared_differences
from deepatlas_tf.ops.filters import difference


@compiled
def bending_energy(u):
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


@compiled
def gradient_penalty(u, penalty: str = "l2", loss_mult: float = 1.0):
    """Mean squared (``l2``) or absolute (``l1``) first derivative of the field, as voxelmorph's ``Grad``.

    ``loss_mult / D sum_i mean_x,c |du_c / dx_i|^p`` with forward differences: the mean over the axes, components and
    voxels (Balakrishnan et al., TMI 2019, have the sum over axes and components). It does not depend on the voxel size.

    Args:
        u: displacement or velocity field ``(B, *S, D)`` in voxels.
        penalty: ``"l1"`` or ``"l2"``.
        loss_mult: factor; voxelmorph sets it to the step of the field's grid in voxels, where that is coarser than
            the image's.

    Raises:
        ValueError: if the penalty is another.
    """
    if penalty not in ("l1", "l2"):
        raise ValueError(f"penalty is 'l1' or 'l2', not {penalty!r}")
    n_axes = u.shape[-1]
    if penalty == "l2":
        return squared_differences(u, {(axis,): loss_mult / n_axes**2 for axis in range(n_axes)})
    sizes = [tf.abs(difference(u, axis)) for axis in range(n_axes)]
    return loss_mult / n_axes * tf.add_n([tf.reduce_mean(size, axis=list(range(1, n_axes + 2))) for size in sizes])
