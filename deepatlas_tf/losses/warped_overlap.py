"""Soft Dice of a warped anatomy, without a volume for each class where a side is a label map.

The linear interpolation of a one-hot label map at ``x + u(x)`` is ``p_c(x) = sum_k w_k(x) [l_k(x) = c]`` over the
``2 ** D`` voxels ``y_k(x)`` around it, with weights ``w_k`` that depend on ``u`` alone and their labels ``l_k``. So the
two sums of the Dice follow from numbers that are as many as voxels, whatever the number of classes:

    sum_x p_c(x) = sum_k sum_{x: l_k(x) = c} w_k(x)
    sum_x p_c(x) q_c(x) = sum_k sum_{x: l_k(x) = c} w_k(x) q_{l_k(x)}(x)

and the gradient of ``w_k(x)`` is what belongs to the class ``l_k(x)``. If the moving side is a volume of probabilities
``P`` and the fixed side a label map ``f``, the second sum is over ``w_k(x) P_{f(x)}(y_k(x))`` by ``f(x)``, and the
first is ``sum_y W(y) P_c(y)`` with the weight ``W(y)`` that all ``x`` together give to the voxel ``y``.
"""

from typing import Any, NamedTuple

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.losses.overlap import soft_dice_of_sums
from deepatlas_tf.ops.compiled import compiled
from deepatlas_tf.ops.interpolation import cells, corners, field_gradient, interpolate, own_rows, slopes
from deepatlas_tf.ops.labels import per_class
from deepatlas_tf.ops.sums import class_bins, class_sums, place_sums, voxel_sums


class Anatomy(NamedTuple):
    """One side of a pair.

    Attributes:
        label: ``(B, *S)`` integers from 0 to ``C - 1``, which stand for their one-hot volume.
        probabilities: ``(B, *S, C)``, read where ``labelled`` is false.
        labelled: scalar bool; whether the label map goes for all classes and examples.
    """

    label: Any
    probabilities: Any = None
    labelled: Any = True


@tf.autograph.experimental.do_not_convert
def warped_soft_dice(moving: Anatomy, fixed: Anatomy, u, n_classes: int, class_weight=None):
    """:func:`~deepatlas_tf.losses.overlap.soft_dice` of the warped moving and the fixed anatomy: ``(B,)``.

    Only the field ``u (B, *S, D)``, in voxels, has a gradient. ``class_weight`` is ``(B, C)``, None is 1 for all.
    """
    moving, fixed = map(_as_tensors, (moving, fixed))

    @tf.custom_gradient
    def with_gradient(u):
        def backward(*of_sums):
            return _of_both(moving, fixed, lambda m, f: _sums_gradient(u, m, f, *of_sums))

        return _of_both(moving, fixed, lambda m, f: _sums(u, m, f, n_classes)), backward

    return soft_dice_of_sums(*with_gradient(tf.convert_to_tensor(u)), class_weight)


def _as_tensors(side):
    probabilities = None if side.probabilities is None else tf.convert_to_tensor(side.probabilities)
    return Anatomy(tf.cast(side.label, tf.int32), probabilities, tf.convert_to_tensor(side.labelled))


def _of_both(moving, fixed, function):
    """The function of both sides, each as a label map or as probabilities."""

    def choose(side, function):
        if side.probabilities is None:
            return function(side.label)
        return tf.cond(side.labelled, lambda: function(side.label), lambda: function(side.probabilities))

    return choose(moving, lambda m: choose(fixed, lambda f: function(m, f)))


def _sums(u, moving, fixed, n_classes):
    """Sums over the voxels of the product of the two sides, and of one and the other, each ``(B, C)``."""
    if moving.dtype.is_integer:
        classes, weights, products = _label_corners(u, moving, fixed)
        overlap, volume = class_sums(products, classes, n_classes), class_sums(weights, classes, n_classes)
    elif fixed.dtype.is_integer:
        products, voxels, weights = _probability_corners(u, moving, fixed)
        reached = tf.reshape(place_sums(weights, voxels, tf.size(fixed)), (tf.shape(fixed)[0], -1))
        overlap = class_sums(tf.reduce_sum(products, axis=0, keepdims=True), fixed[None], n_classes)
        volume = voxel_sums(_by_example(moving) * reached[..., None])
    else:
        overlap, volume = _dense_sums(u, moving, fixed)
    return overlap, volume + _volumes(fixed, n_classes)


@compiled
def _label_corners(u, label, fixed):
    """Of each corner the class, the weight, and that times the fixed side's probability of the class."""
    voxel, weight = corners(cells(u))
    classes = tf.gather(tf.reshape(label, [-1]), voxel)
    return classes, weight, weight * _at_class(fixed, classes, own_rows(u))  # (2 ** D, B, *S)


@compiled
def _probability_corners(u, moving, label):
    """Of each corner the weight times the probability of the fixed side's class, the voxel, and the weight."""
    voxel, weight = corners(cells(u))
    return weight * _at_voxel(moving, voxel, label), voxel, weight


@compiled
def _dense_sums(u, moving, fixed):
    warped = interpolate(moving, u)
    return voxel_sums(warped * fixed), voxel_sums(warped)


@compiled
def _sums_gradient(u, moving, fixed, of_overlap, of_volume):
    """The gradient of ``sum_c of_overlap_c overlap_c + of_volume_c volume_c``, ``(B, *S, D)``."""
    if not moving.dtype.is_integer and not fixed.dtype.is_integer:
        by_class = per_class(of_overlap, fixed) * fixed + per_class(of_volume, fixed)
        return field_gradient(by_class, moving, u)
    around = cells(u)
    voxel, _ = corners(around)
    of_weights = _of_weights(voxel, own_rows(u), moving, fixed, of_overlap, of_volume)
    return tf.stack(slopes(of_weights, around), axis=-1)


def _of_weights(voxel, own, moving, fixed, of_overlap, of_volume):
    """The gradient of the weights of each corner, ``(B, *S)``."""
    if not moving.dtype.is_integer:
        of_voxel = tf.reshape(tf.reduce_sum(_by_example(moving) * of_volume[:, None], axis=-1), [-1])
        of_class = _of(of_overlap, fixed[None])[0]
        return [of_class * _at_voxel(moving, row, fixed) + tf.gather(of_voxel, row) for row in tf.unstack(voxel)]
    classes = tf.gather(tf.reshape(moving, [-1]), voxel)
    bins = class_bins(classes, of_overlap.shape[1])
    of_overlap, of_volume = (tf.reshape(by_class, [-1]) for by_class in (of_overlap, of_volume))

    def of_corners(classes, bins):
        of_product = tf.gather(of_overlap, bins)
        return tf.unstack(of_product * _at_class(fixed, classes, own) + tf.gather(of_volume, bins))

    if fixed.dtype.is_integer:
        return of_corners(classes, bins)
    one_by_one = (tf.split(x, classes.shape[0]) for x in (classes, bins))  # all at once take twice the time
    return [of_corners(*one)[0] for one in zip(*one_by_one, strict=True)]


def _by_example(probabilities):
    """``(B, *S, C)`` as ``(B, V, C)``."""
    return tf.reshape(probabilities, (tf.shape(probabilities)[0], -1, probabilities.shape[-1]))


def _volumes(anatomy, n_classes):
    """``sum_x q_c(x)``, (B, C), of a label map or of probabilities."""
    if anatomy.dtype.is_integer:
        return class_sums(tf.ones(tf.shape(anatomy))[None], anatomy[None], n_classes)
    return voxel_sums(anatomy)


def _at_class(anatomy, classes, own):
    """Probability of a class, given for each voxel and corner ``(K, B, *S)``, in a label map or in probabilities.

    ``own``: row of each voxel itself, ``(B, *S)``.
    """
    if anatomy.dtype.is_integer:
        return tf.cast(anatomy == classes, tf.float32)
    return _at_voxel(anatomy, own, classes)


def _at_voxel(probabilities, voxel, classes):
    """Probability of a class at a voxel, which is a row of the volume as ``(B * V, C)``."""
    row = tf.cast(voxel, tf.int64) * probabilities.shape[-1]  # a batch may have more values than int32 can count
    return tf.gather(tf.reshape(probabilities, [-1]), row + tf.cast(classes, tf.int64))


def _of(by_class, classes):
    """The value of each voxel's class: ``(B, C)`` at ``(K, B, *S)``."""
    return tf.gather(tf.reshape(by_class, [-1]), class_bins(classes, tf.shape(by_class)[1]))
