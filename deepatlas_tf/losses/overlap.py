"""Disagreement of two anatomies, as class probabilities. Each returns one value for each example, ``(B,)`` float32.

``class_weight`` (B, C) says how far each class of the reference is known; see ``label_weight`` in
:class:`~deepatlas_tf.types.Sample`. A class of weight 0 has no influence.

``known`` (B, *S, 1) is 1 or 0; see there, too. The losses are those of the voxels where it is 1, as if there were no
others: what stands elsewhere has no influence, and no gradient. None is 1 for all.
"""

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.ops.compiled import compiled
from deepatlas_tf.ops.labels import one_hot, per_class
from deepatlas_tf.ops.sums import plain_voxel_sums, voxel_sums
from deepatlas_tf.types import Tensor

_EPSILON = 1e-5


def soft_dice(
    prediction: Tensor,
    reference: Tensor,
    class_weight: Tensor | None = None,
    voxel_weight: Tensor | None = None,
    known: Tensor | None = None,
) -> Tensor:
    """One minus the mean soft Dice over the foreground classes (Xu & Niethammer, MICCAI 2019, anatomy loss).

    ``1/(C-1) sum_c w_c [1 - (2 sum_x p_c q_c + e) / (sum_x p_c + sum_x q_c + e)]``; class 0, the background, is left
    out. It is symmetric in its first two arguments, and a class that is absent from both costs nothing. The
    weights have no gradient.

    With a ``voxel_weight`` v the sums are over ``v p q``, ``v p`` and ``v q``, and each class is multiplied by the mean
    weight of the two structures, ``sum_x v (p + q) / sum_x (p + q)``, which counts as a constant in the gradient: half
    the weight in all voxels gives half the loss, as it does for the cross-entropy.

    Args:
        prediction: ``(B, *S, C)`` probabilities or a (warped) one-hot label map.
        reference: ``(B, *S, C)``, or a label map ``(B, *S)`` of integers, which stands for its one-hot volume.
        class_weight: ``w``, ``(B, C)``; None is 1 for all.
        voxel_weight: ``v``, ``(B, *S, 1)``, or ``(B, *S, C)`` for each class its own; None is 1 for all.
        known: see the module.
    """
    return _soft_dice(_dice_sums(prediction, reference, voxel_weight, known), class_weight)


def plain_soft_dice(
    prediction: Tensor, reference: Tensor, class_weight: Tensor | None = None, voxel_weight: Tensor | None = None
) -> Tensor:
    """The definition of :func:`soft_dice`, of two volumes ``(B, *S, C)``."""
    v = tf.ones_like(prediction[..., :1]) if voxel_weight is None else voxel_weight
    volume, weighted_volume = plain_voxel_sums(prediction + reference), plain_voxel_sums(v * (prediction + reference))
    overlap = plain_voxel_sums(v * prediction * reference)
    weight = tf.stop_gradient(weighted_volume / (volume + _EPSILON) * (1 if class_weight is None else class_weight))
    dice = (2 * overlap + _EPSILON) / (weighted_volume + _EPSILON)
    return tf.reduce_mean((weight * (1 - dice))[:, 1:], axis=-1)


@compiled(towards=("prediction", "reference"))
def _dice_sums(prediction, reference, voxel_weight, known):
    """Sums over the voxels, ``(K, B, C)``: of ``p q`` and ``p + q``, or of ``v p q``, ``v (p + q)`` and ``p + q``.

    The sums are linear in each side, so their gradient reads neither them nor any product of volumes.
    """
    p, q = prediction, _as_probabilities(reference, prediction)
    if known is not None:
        p, q = known * p, known * q
    if voxel_weight is None:
        return tf.stack([voxel_sums(p * q), voxel_sums(p + q)])
    return tf.stack([voxel_sums(voxel_weight * p * q), voxel_sums(voxel_weight * (p + q)), voxel_sums(p + q)])


def _soft_dice(sums, class_weight):
    overlap, volume, *unweighted = tf.unstack(sums)
    class_weight = None if class_weight is None else tf.stop_gradient(class_weight)
    if unweighted:
        mean_weight = tf.stop_gradient(volume / (unweighted[0] + _EPSILON))
        class_weight = mean_weight if class_weight is None else mean_weight * class_weight
    return soft_dice_of_sums(overlap, volume, class_weight)


def soft_dice_of_sums(overlap: Tensor, volume: Tensor, class_weight: Tensor | None = None) -> Tensor:
    """:func:`soft_dice` from its sums over the voxels.

    Args:
        overlap: ``sum_x p_c q_c``, ``(B, C)``.
        volume: ``sum_x (p_c + q_c)``, ``(B, C)``.
        class_weight: ``(B, C)``; None is 1 for all.

    Returns:
        ``(B,)``.
    """
    disagreement = 1 - (2 * overlap + _EPSILON) / (volume + _EPSILON)
    if class_weight is not None:
        disagreement *= class_weight
    return tf.reduce_mean(disagreement[:, 1:], axis=-1)


@compiled(towards=("prediction", "reference"))
def cross_entropy(
    prediction: Tensor,
    reference: Tensor,
    class_weight: Tensor | None = None,
    voxel_weight: Tensor | None = None,
    known: Tensor | None = None,
) -> Tensor:
    """Mean over the voxels of ``- sum_c w_c q_c log p_c - (max w - sum_c w_c q_c) log sum_c (1 - w_c) p_c``.

    With equal weights it is ``- w sum_c q_c log p_c``. Where some classes are not labelled, the mass of the reference
    outside the labelled classes may be of any of the others (marginal cross-entropy).

    Args:
        prediction: ``(B, *S, C)`` probabilities ``p``.
        reference: ``(B, *S, C)`` probabilities ``q``, or a label map ``(B, *S)`` of integers, which stands for its
            one-hot volume.
        class_weight: ``(B, C)`` ``w``; None is 1 for all.
        voxel_weight: ``(B, *S, 1)``, a factor of each voxel's term; None is 1 for all.
        known: see the module.
    """
    reference = _as_probabilities(reference, prediction)
    if class_weight is None:
        terms = -tf.reduce_sum(reference * _log(prediction), axis=-1)
    else:
        weight = per_class(class_weight, prediction)
        labelled = weight * reference
        unknown_mass = tf.reduce_max(weight, axis=-1) - tf.reduce_sum(labelled, axis=-1)
        others = tf.reduce_sum((1 - weight) * prediction, axis=-1)
        terms = -tf.reduce_sum(labelled * _log(prediction), axis=-1) - unknown_mass * _log(others)
    if voxel_weight is not None:
        terms *= voxel_weight[..., 0]
    voxels = list(range(1, terms.shape.rank))
    if known is None:
        return tf.reduce_mean(terms, axis=voxels)
    n_known = tf.reduce_sum(known[..., 0], axis=voxels)
    return tf.reduce_sum(known[..., 0] * terms, axis=voxels) / tf.maximum(n_known, 1)


def dice_and_cross_entropy(
    prediction: Tensor,
    reference: Tensor,
    class_weight: Tensor | None = None,
    voxel_weight: Tensor | None = None,
    known: Tensor | None = None,
) -> Tensor:
    """:func:`soft_dice` and :func:`cross_entropy` of the same arguments, ``(2, B)``.

    It needs less memory than the two functions: their gradients are one volume instead of two.
    """
    found = _sums_and_cross_entropy(prediction, reference, class_weight, voxel_weight, known)
    return tf.stack([_soft_dice(found[:-1], class_weight), found[-1, :, 0]])


@compiled(towards=("prediction", "reference"))
def _sums_and_cross_entropy(prediction, reference, class_weight, voxel_weight, known):
    """The sums of :func:`_dice_sums`, then the cross-entropy, repeated for each class: ``(K + 1, B, C)``."""
    sums = _dice_sums(prediction, reference, voxel_weight, known)
    entropy = cross_entropy(prediction, reference, class_weight, voxel_weight, known)
    return tf.concat([sums, tf.broadcast_to(entropy[:, None], tf.shape(sums)[1:])[None]], axis=0)


def _as_probabilities(reference, like):
    """One-hot volume of a label map, with as many classes as ``like (B, *S, C)``; probabilities as they are."""
    return one_hot(reference, like.shape[-1]) if reference.dtype.is_integer else reference


def _log(probability):
    return tf.math.log(tf.maximum(probability, 1e-7))
