"""Random images between two subjects, for the space-style sampling of BRBS (He et al., TNNLS 2024; on-line since 2022).

A labelled image is moved towards another subject by a random fraction of the displacement field (space), and takes on a
random fraction of the other image's brightness and contrast (style).
"""

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.ops.filters import box_sum
from deepatlas_tf.ops.warp import warp
from deepatlas_tf.types import Tensor

WINDOW = 9  # voxels a side
_SEED = 1  # of the fractions; other random numbers of the same step have another seed


def style_difference(image: Tensor, target: Tensor, u_back: Tensor, window: int = WINDOW) -> Tensor:
    """How much brighter another subject's image is, region by region.

    The mean of ``target o (id + u_back) - image`` over the part of a cube of ``window`` voxels a side around each voxel
    that is inside the image. BRBS takes the difference voxel by voxel, which is ``window=1``. Added to the image, that
    gives the other subject's image, with its anatomy wherever the registration errs, under this subject's label. The
    mean carries contrast and brightness, but leaves the edges where the label has them.

    Args:
        image: ``(B, *S, K)``.
        target: images ``(B, *S, K)`` of the other subjects.
        u_back: displacement field ``(B, *S, D)`` in voxels, which warps ``target`` onto ``image``.
        window: odd number of voxels.

    Returns:
        ``(B, *S, K)`` on the grid of ``image``.
    """
    difference = warp(target, u_back) - image
    n_voxels = box_sum(tf.ones_like(difference[:1]), window)
    return box_sum(difference, window) / n_voxels


def beta_fractions(n_examples: int | Tensor, step: int | Tensor, concentration: float = 0.3) -> Tensor:
    """Two independent random numbers for each example from the distribution Beta(a, a), most near 0 or 1 where a < 1.

    They depend on the step and on the example's place in the global batch only, not on what was drawn before nor on the
    number of replicas that the batch is divided among.

    Args:
        n_examples: ``B``, the batch of this replica; all replicas have the same.
        step: scalar integer.
        concentration: ``a``.

    Returns:
        ``(2, B)`` float32 in [0, 1].
    """
    replica = tf.distribute.get_replica_context()
    index, n_replicas = replica.replica_id_in_sync_group, replica.num_replicas_in_sync
    seed = tf.stack([tf.cast(step, tf.int32), _SEED])
    gammas = tf.random.stateless_gamma((2, 2, n_examples * n_replicas), seed, concentration)
    fractions = tf.math.divide_no_nan(gammas[0], gammas[0] + gammas[1])
    return fractions[:, index * n_examples : (index + 1) * n_examples]
