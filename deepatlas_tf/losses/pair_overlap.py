"""The terms of DeepAtlas' segmentation turn, with no more work than the labels of the pair ask for.

Which of the paper's four cases a batch is, shows only when it comes. What a case does not need is then neither computed
nor kept for the gradient: the anatomy of a labelled image is no mixture of label and prediction, a warped label map has
no gradient, and what is not labelled is not supervised. Each of these is a volume as large as a prediction.

The three functions share one argument: ``known`` is how much is labelled of the moving and of the fixed images of a
batch, each ``"all"`` or ``"none"`` of their classes, or both ``"some"``, the general case.
"""

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.losses.overlap import cross_entropy, dice_and_cross_entropy, soft_dice
from deepatlas_tf.ops.compiled import compiled
from deepatlas_tf.ops.labels import mix, one_hot
from deepatlas_tf.ops.warp import warp

CASES = (("none", "none"), ("none", "all"), ("all", "none"), ("all", "all"), ("some", "some"))


@tf.autograph.experimental.do_not_convert
def by_labels(pair, function):
    """The function of ``known``, which gives one tensor, for a batch of :class:`~deepatlas_tf.types.Pair`."""
    weights = [pair[side]["label_weight"] for side in ("moving", "fixed")]
    all_moving, all_fixed = (tf.reduce_all(weight == 1) for weight in weights)
    none_moving, none_fixed = (tf.reduce_all(weight == 0) for weight in weights)
    case = 2 * tf.cast(all_moving, tf.int32) + tf.cast(all_fixed, tf.int32)
    is_general = ~((all_moving | none_moving) & (all_fixed | none_fixed))
    return tf.switch_case(tf.where(is_general, 4, case), [lambda known=known: function(known) for known in CASES])


def anatomy_overlap(pair, predictions, u, voxel_weight, known):
    """Soft Dice and cross-entropy of the warped moving and the fixed anatomy, ``(2, B)``.

    The cross-entropy is that of the predicted against the labelled side, and 0 where both are labelled or none is; then
    the Dice is 0 as well.

    Args:
        pair: batch of :class:`~deepatlas_tf.types.Pair`.
        predictions: class probabilities ``(B, *S, C)`` of the moving and of the fixed image.
        u: displacement field ``(B, *S, D)`` in voxels.
        voxel_weight: ``(B, *S, 1)``, a factor of each voxel; None is 1 for all.
        known: see the module.
    """
    if known == ("none", "none"):
        return tf.zeros((2, tf.shape(u)[0]))
    moving, fixed = (_anatomy(*side) for side in zip(_sides(pair), predictions, known, strict=True))
    warped = warp(one_hot(moving, predictions[0].shape[-1]) if moving.dtype.is_integer else moving, u)
    if known == ("none", "all"):
        return dice_and_cross_entropy(warped, fixed, voxel_weight=voxel_weight)
    if known == ("all", "none"):
        return dice_and_cross_entropy(fixed, warped, voxel_weight=voxel_weight)
    if known == ("all", "all"):
        dice = soft_dice(warped, fixed, voxel_weight=voxel_weight)
        return tf.stack([dice, tf.zeros_like(dice)])
    return _weighted_overlap(warped, fixed, *(side["label_weight"] for side in _sides(pair)), voxel_weight)


def supervised_overlap(pair, predictions, known):
    """Soft Dice and cross-entropy of prediction and label, both sides added up, ``(2, B)``; arguments as above."""
    total = tf.zeros((2, tf.shape(predictions[0])[0]))
    for side, prediction, how_much in zip(_sides(pair), predictions, known, strict=True):
        if how_much != "none":
            total += dice_and_cross_entropy(prediction, side["label"], side["label_weight"])
    return total


def _sides(pair):
    return pair["moving"], pair["fixed"]


def _anatomy(side, prediction, known):
    """A label map of integers, or probabilities."""
    if known == "some":
        return mix(side["label"], side["label_weight"], prediction)
    return tf.convert_to_tensor(side["label"]) if known == "all" else prediction


@compiled(towards=("warped", "fixed"))
def _weighted_overlap(warped, fixed, w_moving, w_fixed, voxel_weight):
    dice = soft_dice(warped, fixed, tf.maximum(w_moving, w_fixed), voxel_weight)
    of_fixed = cross_entropy(fixed, warped, w_moving * (1 - w_fixed), voxel_weight)
    of_moving = cross_entropy(warped, fixed, w_fixed * (1 - w_moving), voxel_weight)
    return tf.stack([dice, of_fixed + of_moving])
