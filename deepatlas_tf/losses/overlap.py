"""Disagreement of two anatomies, as class probabilities. Each returns one value for each example, ``(B,)`` float32.

``class_weight`` (B, C) says how far each class of the reference is known; see ``label_weight`` in
:class:`~deepatlas_tf.types.Sample`. A class of weight 0 has no influence.
"""

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.ops.labels import per_class

_EPSILON = 1e-5


@tf.function(jit_compile=True)
def soft_dice(prediction, reference, class_weight=None, voxel_weight=None):
    """One minus the mean soft Dice over the foreground classes (Xu & Niethammer, MICCAI 2019, anatomy loss).

    ``1/(C-1) sum_c w_c [1 - (2 sum_x p_c q_c + e) / (sum_x p_c + sum_x q_c + e)]``; class 0, the background, is left
    out. It is symmetric in its first two arguments, and a class that is absent from both costs nothing.

    With a ``voxel_weight`` v the sums are over ``v p q``, ``v p`` and ``v q``, and each class is multiplied by the mean
    weight of the two structures, ``sum_x v (p + q) / sum_x (p + q)``, which is taken as a constant: a weight halved in
    all voxels halves the loss, as it does for the cross-entropy.

    Args:
        prediction: ``(B, *S, C)`` probabilities or a (warped) one-hot label map.
        reference: ``(B, *S, C)``.
        class_weight: ``(B, C)``; None is 1 for all.
        voxel_weight: ``(B, *S, 1)``, or ``(B, *S, C)`` for each class its own; None is 1 for all.
    """
    axes = list(range(1, prediction.shape.rank - 1))
    p, q = prediction[..., 1:], reference[..., 1:]
    volume = tf.reduce_sum(p, axis=axes) + tf.reduce_sum(q, axis=axes)
    mean_weight = None
    if voxel_weight is not None:
        v = voxel_weight if voxel_weight.shape[-1] == 1 else voxel_weight[..., 1:]
        p, weighted_volume = v * p, tf.reduce_sum(v * (p + q), axis=axes)
        mean_weight = tf.stop_gradient(weighted_volume / (volume + _EPSILON))
        volume = weighted_volume
    overlap = tf.reduce_sum(p * q, axis=axes)
    disagreement = 1 - (2 * overlap + _EPSILON) / (volume + _EPSILON)  # (B, C-1)
    if mean_weight is not None:
        disagreement *= mean_weight
    if class_weight is not None:
        disagreement *= class_weight[:, 1:]
    return tf.reduce_mean(disagreement, axis=-1)


@tf.function(jit_compile=True)
def cross_entropy(prediction, reference, class_weight=None, voxel_weight=None):
    """Mean over the voxels of ``- sum_c w_c q_c log p_c - (max w - sum_c w_c q_c) log sum_c (1 - w_c) p_c``.

    With equal weights it is ``- w sum_c q_c log p_c``. Where some classes are not labelled, the mass of the reference
    outside the labelled classes may be of any of the others (marginal cross-entropy).

    Args:
        prediction: ``(B, *S, C)`` probabilities ``p``.
        reference: ``(B, *S, C)`` probabilities ``q``, one-hot for a manual label.
        class_weight: ``(B, C)`` ``w``; None is 1 for all.
        voxel_weight: ``(B, *S, 1)``, a factor of what each voxel adds to the mean; None is 1 for all.
    """
    if class_weight is None:
        terms = -tf.reduce_sum(reference * _log(prediction), axis=-1)
    else:
        weight = per_class(class_weight, prediction)
        known = weight * reference
        unknown_mass = tf.reduce_max(weight, axis=-1) - tf.reduce_sum(known, axis=-1)
        others = tf.reduce_sum((1 - weight) * prediction, axis=-1)
        terms = -tf.reduce_sum(known * _log(prediction), axis=-1) - unknown_mass * _log(others)
    if voxel_weight is not None:
        terms *= voxel_weight[..., 0]
    return tf.reduce_mean(terms, axis=list(range(1, terms.shape.rank)))


def _log(probability):
    return tf.math.log(tf.maximum(probability, 1e-7))
