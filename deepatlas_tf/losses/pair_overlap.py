"""The losses of DeepAtlas' segmentation turn, for a pair at once or for one image at a time.

There are four, :data:`TERMS`: Dice and cross-entropy of the two anatomies, then Dice and cross-entropy of prediction
and label. :func:`joint_overlap`, the definition, computes them from both predictions, for any labels.

Where each image is labelled completely or not at all (the paper's four cases), the anatomy terms have a gradient
towards one prediction at most: that of the image without a label, if the other image has one. With two labels they are
constant, with none they are left out. So the two predictions never meet in one term, and the network may see one image
after the other, in half the memory: the sum of :func:`side_overlap` over the two sides is :func:`joint_overlap`. Where
voxels are ignored (``known`` of the samples) there is the latter alone.
"""

from collections.abc import Sequence

from deepatlas_tf.keras_stack import as_written, tf
from deepatlas_tf.losses.overlap import cross_entropy, dice_and_cross_entropy, soft_dice
from deepatlas_tf.ops.compiled import compiled
from deepatlas_tf.ops.labels import known_part, mix, one_hot
from deepatlas_tf.ops.warp import warp
from deepatlas_tf.types import Pair, Sample, Side, Tensor

SIDES: tuple[Side, Side] = ("moving", "fixed")
TERMS = ("anatomy", "anatomy_cross_entropy", "supervised", "supervised_cross_entropy")


def is_partial(pair: Pair) -> Tensor:
    """Whether a batch of pairs needs :func:`joint_overlap`, a scalar bool.

    It does where a weight of a label is other than 0 and 1, where an image is labelled for some classes only, and where
    one image of a side is labelled and another one is not.
    """
    weights = [side["label_weight"] for side in (pair["moving"], pair["fixed"])]
    return ~tf.reduce_all([tf.reduce_all(w == 0) | tf.reduce_all(w == 1) for w in weights])


@as_written
def side_overlap(pair: Pair, side: Side, prediction: Tensor, u: Tensor, voxel_weight: Tensor | None = None) -> Tensor:
    """The part of the losses that one prediction has, for pairs that are not partial.

    Args:
        pair: batch of :class:`~deepatlas_tf.types.Pair`.
        side: ``"moving"`` or ``"fixed"``, the image that the prediction is of.
        prediction: class probabilities ``(B, *S, C)`` of that image.
        u: displacement field ``(B, *S, D)`` in voxels; it has no gradient.
        voxel_weight: ``(B, *S, 1)``, a factor of each voxel of the anatomies; None is 1 for all.

    Returns:
        ``(4, B)``, in the order of :data:`TERMS`.
    """
    moving, fixed = pair["moving"], pair["fixed"]
    own, other = {"moving": (moving, fixed), "fixed": (fixed, moving)}[side]
    n_classes, nothing = prediction.shape[-1], tf.zeros((2, tf.shape(prediction)[0]))

    def with_own_label():
        return tf.concat([two_labels(), dice_and_cross_entropy(prediction, own["label"])], axis=0)

    def two_labels():
        """The Dice of two labels, a constant, which is a part of the fixed side so that it counts once."""
        if side == "moving":
            return nothing
        return tf.cond(_labelled(other), lambda: _dice_of_labels(pair, u, voxel_weight, n_classes), lambda: nothing)

    def with_other_label():
        if side == "moving":
            overlap = dice_and_cross_entropy(warp(prediction, u), other["label"], voxel_weight=voxel_weight)
        else:
            warped = warp(one_hot(other["label"], n_classes), u)
            overlap = dice_and_cross_entropy(prediction, warped, voxel_weight=voxel_weight)
        return tf.concat([overlap, nothing], axis=0)

    case = tf.where(_labelled(own), 2, tf.cast(_labelled(other), tf.int32))
    return tf.switch_case(case, [lambda: tf.concat([nothing, nothing], axis=0), with_other_label, with_own_label])


def joint_overlap(pair: Pair, predictions: Sequence[Tensor], u: Tensor, voxel_weight: Tensor | None = None) -> Tensor:
    """The losses of both predictions, for any labels, also partial ones.

    The cross-entropy of the anatomies takes, class by class, the labelled side as the reference of the predicted one.

    Args:
        pair: batch of :class:`~deepatlas_tf.types.Pair`.
        predictions: class probabilities ``(B, *S, C)`` of the moving and of the fixed image.
        u: displacement field ``(B, *S, D)`` in voxels; it has no gradient.
        voxel_weight: ``(B, *S, 1)``, a factor of each voxel of the anatomies; None is 1 for all.

    Returns:
        ``(4, B)``, in the order of :data:`TERMS`.
    """
    sides = [pair["moving"], pair["fixed"]]
    moving, fixed = (mix(s["label"], s["label_weight"], p) for s, p in zip(sides, predictions, strict=True))
    w_moving, w_fixed = (s["label_weight"] for s in sides)
    known = [side.get("known") for side in sides]
    if known[0] is None:
        overlap = _weighted_overlap(warp(moving, u), fixed, w_moving, w_fixed, voxel_weight)
    else:
        warped, reached = known_part(warp(known[0] * moving, u))
        overlap = _weighted_overlap(warped, fixed, w_moving, w_fixed, voxel_weight, reached * known[1])
    supervised = [
        dice_and_cross_entropy(p, s["label"], s["label_weight"], known=k)
        for s, p, k in zip(sides, predictions, known, strict=True)
    ]
    return tf.concat([overlap, tf.add_n(supervised)], axis=0)


def _labelled(side: Sample) -> Tensor:
    """Whether all images of a side are labelled for all classes, a scalar bool."""
    return tf.reduce_all(side["label_weight"] == 1)


def _dice_of_labels(pair, u, voxel_weight, n_classes):
    """Dice of the warped moving and the fixed label map, and a cross-entropy of 0: ``(2, B)``."""
    warped = warp(one_hot(pair["moving"]["label"], n_classes), u)
    dice = soft_dice(warped, pair["fixed"]["label"], voxel_weight=voxel_weight)
    return tf.stack([dice, tf.zeros_like(dice)])


@compiled(towards=("warped", "fixed"))
def _weighted_overlap(warped, fixed, w_moving, w_fixed, voxel_weight, known=None):
    """Dice and cross-entropy of two anatomies ``(B, *S, C)`` with the labels' weights ``(B, C)``: ``(2, B)``."""
    dice = soft_dice(warped, fixed, tf.maximum(w_moving, w_fixed), voxel_weight, known)
    entropy_fixed = cross_entropy(fixed, warped, w_moving * (1 - w_fixed), voxel_weight, known)
    entropy_warped = cross_entropy(warped, fixed, w_fixed * (1 - w_moving), voxel_weight, known)
    return tf.stack([dice, entropy_fixed + entropy_warped])
