"""Regularity of a displacement field; 0 for a translation. Each returns a value for each example, ``(B,)`` float32."""

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.ops.filters import difference


@tf.function(jit_compile=True)
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
    first = [difference(u, axis) for axis in range(n_axes)]
    energy = 0.0
    for i in range(n_axes):
        for j in range(i, n_axes):
            energy += (1 if i == j else 2) * _mean_square(difference(first[i], j))
    return energy


@tf.function(jit_compile=True)
def gradient_l2(u):
    """Mean squared first derivative of the field, averaged over the axes as in voxelmorph's ``Grad("l2")``.

    Args:
        u: displacement field ``(B, *S, D)`` in voxels.
    """
    n_axes = u.shape[-1]
    means = [tf.reduce_mean(_square(difference(u, axis)), axis=list(range(1, n_axes + 2))) for axis in range(n_axes)]
    return tf.add_n(means) / n_axes


def _square(x):
    return x * x


def _mean_square(x):
    """Squared norm of the vectors, averaged over the voxels."""
    axes = list(range(1, x.shape.rank - 1))
    return tf.reduce_sum(tf.reduce_mean(_square(x), axis=axes), axis=-1)
