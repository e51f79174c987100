"""The terms of DeepAtlas' segmentation turn, which in the paper's four cases fall into one part for each image.

With ``A(k)`` the label of an image or else its prediction, the anatomy term is of one prediction at most: of that of
the image without a label, if the other one has one. With two labels it is a constant, with none it is left out. So the
two predictions never meet in one term, and the network may see one image after the other. Each part is of the same four
losses, ``(4, B)``: Dice and cross-entropy of the anatomies, then those of prediction and label.

Only where labels are partial, with weights other than 0 and 1 or some of the classes, is :func:`joint_overlap` needed.
"""

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.losses.overlap import cross_entropy, dice_and_cross_entropy, soft_dice
from deepatlas_tf.ops.compiled import compiled
from deepatlas_tf.ops.labels import mix, one_hot
from deepatlas_tf.ops.warp import warp

SIDES = ("moving", "fixed")
TERMS = ("anatomy", "anatomy_cross_entropy", "supervised", "supervised_cross_entropy")


def is_partial(pair):
    """Scalar bool: whether some image of a batch of :class:`~deepatlas_tf.types.Pair` is not like the rest of its side.

    That is, labelled for some classes only, or labelled where another image of this side is not.
    """
    weights = [pair[side]["label_weight"] for side in SIDES]
    return ~tf.reduce_all([tf.reduce_all(w == 0) | tf.reduce_all(w == 1) for w in weights])


@tf.autograph.experimental.do_not_convert
def side_overlap(pair, side: str, prediction, u, voxel_weight=None):
    """What the losses have of one prediction, if no label is partial: ``(4, B)``, see the module.

    Args:
        pair: batch of :class:`~deepatlas_tf.types.Pair`.
        side: of the prediction, ``"moving"`` or ``"fixed"``.
        prediction: class probabilities ``(B, *S, C)``.
        u: displacement field ``(B, *S, D)`` in voxels; it has no gradient.
        voxel_weight: ``(B, *S, 1)``, a factor of each voxel of the anatomies; None is 1 for all.
    """
    own, other = (pair[name] for name in (side, *set(SIDES) - {side}))
    n_classes, nothing = prediction.shape[-1], tf.zeros((2, tf.shape(prediction)[0]))

    def with_own_label():
        return tf.concat([two_labels(), dice_and_cross_entropy(prediction, own["label"])], axis=0)

    def two_labels():
        """A constant, which belongs to the fixed side so that it counts once."""
        if side == "moving":
            return nothing
        return tf.cond(_labelled(other), lambda: _dice_of_labels(pair, u, voxel_weight, n_classes), lambda: nothing)

    def with_the_others():
        if side == "moving":
            overlap = dice_and_cross_entropy(warp(prediction, u), other["label"], voxel_weight=voxel_weight)
        else:
            warped = warp(one_hot(other["label"], n_classes), u)
            overlap = dice_and_cross_entropy(prediction, warped, voxel_weight=voxel_weight)
        return tf.concat([overlap, nothing], axis=0)

    case = tf.where(_labelled(own), 2, tf.cast(_labelled(other), tf.int32))
    return tf.switch_case(case, [lambda: tf.concat([nothing, nothing], axis=0), with_the_others, with_own_label])


def joint_overlap(pair, predictions, u, voxel_weight=None):
    """The losses of both predictions with any labels, ``(4, B)``; ``u`` and ``voxel_weight`` as above.

    The cross-entropy of the anatomies is that of the predicted against the labelled side, class by class.
    """
    sides = [pair[side] for side in SIDES]
    anatomies = [mix(s["label"], s["label_weight"], p) for s, p in zip(sides, predictions, strict=True)]
    weights = [s["label_weight"] for s in sides]
    overlap = _weighted_overlap(warp(anatomies[0], u), anatomies[1], *weights, voxel_weight)
    supervised = [
        dice_and_cross_entropy(p, s["label"], s["label_weight"]) for s, p in zip(sides, predictions, strict=True)
    ]
    return tf.concat([overlap, tf.add_n(supervised)], axis=0)


def _labelled(side):
    return tf.reduce_all(side["label_weight"] == 1)


def _dice_of_labels(pair, u, voxel_weight, n_classes):
    warped = warp(one_hot(pair["moving"]["label"], n_classes), u)
    dice = soft_dice(warped, pair["fixed"]["label"], voxel_weight=voxel_weight)
    return tf.stack([dice, tf.zeros_like(dice)])


@compiled(towards=("warped", "fixed"))
def _weighted_overlap(warped, fixed, w_moving, w_fixed, voxel_weight):
    dice = soft_dice(warped, fixed, tf.maximum(w_moving, w_fixed), voxel_weight)
    of_fixed = cross_entropy(fixed, warped, w_moving * (1 - w_fixed), voxel_weight)
    of_moving = cross_entropy(warped, fixed, w_fixed * (1 - w_moving), voxel_weight)
    return tf.stack([dice, of_fixed + of_moving])
