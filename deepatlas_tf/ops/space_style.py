"""Labelled images on the way to other subjects: in space by a part of a field, in style by a part of a difference.

The sampling of BRBS (He et al., TNNLS 2024; on-line since 2022).
"""

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.ops.filters import box_sum
from deepatlas_tf.ops.warp import warp

WINDOW = 9  # voxels a side
_SEED = 1  # of these draws; others of the same step have another


def style_difference(image, target, u_back, window: int = WINDOW):
    """How much brighter another subject is, region by region: ``(B, *S, 1)`` on the grid of ``image``.

    The mean of ``target o (id + u_back) - image`` over the cube of ``window`` voxels around each voxel, as far as it
    is inside the image. BRBS takes the difference voxel by voxel, which is ``window=1``; all of it, added to the image,
    gives the other subject's image, anatomy included, wherever the registration errs. The mean carries contrast and
    brightness, but leaves the edges where the label has them.

    Args:
        image: ``(B, *S, 1)``.
        target: that of the other subjects.
        u_back: displacement field ``(B, *S, D)`` in voxels, which warps ``target`` onto ``image``.
        window: odd number of voxels.
    """
    difference = warp(target, u_back) - image
    n_voxels = box_sum(tf.ones_like(difference[:1]), window)
    return box_sum(difference, window) / n_voxels


def beta_fractions(n_examples, step, concentration: float = 0.3):
    """Two independent numbers of Beta(a, a) for each example, ``(2, B)``: most are near 0 or 1 where a < 1.

    They follow from the step alone, whatever was drawn before and on any number of replicas, of which each has a batch
    of ``n_examples``.

    Args:
        n_examples: ``B``, of this replica.
        step: scalar integer.
        concentration: ``a``.
    """
    replica = tf.distribute.get_replica_context()
    index, n_replicas = replica.replica_id_in_sync_group, replica.num_replicas_in_sync
    seed = tf.stack([tf.cast(step, tf.int32), _SEED])
    gammas = tf.random.stateless_gamma((2, 2, n_examples * n_replicas), seed, concentration)
    fractions = tf.math.divide_no_nan(gammas[0], gammas[0] + gammas[1])
    return fractions[:, index * n_examples : (index + 1) * n_examples]
