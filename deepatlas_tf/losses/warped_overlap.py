"""Soft Dice of a warped anatomy, without a volume for each class where a side is a label map.

:func:`plain_warped_soft_dice` is the definition; :func:`warped_soft_dice` gives the same value and the same gradient
with memory and time that do not grow with the number of classes.

The linear interpolation of a one-hot label map at ``x + u(x)`` is ``p_c(x) = sum_k w_k(x) [l_k(x) = c]`` over the
``2 ** D`` corners ``y_k(x)`` of the grid cell around ``x + u(x)``, with the labels ``l_k(x)`` of the corners and the
weights ``w_k(x)``, which depend on ``u`` alone. So each voxel and corner adds one number to the two sums of the Dice:

    sum_x p_c(x) = sum_k sum_{x: l_k(x) = c} w_k(x)
    sum_x p_c(x) q_c(x) = sum_k sum_{x: l_k(x) = c} w_k(x) q_{l_k(x)}(x)

and the gradient towards ``w_k(x)`` is that of the sums of the class ``l_k(x)``. If the moving side is a volume of
probabilities ``P`` and the fixed side a label map ``f``, the second sum is that of ``w_k(x) P_{f(x)}(y_k(x))`` over the
``x`` of the class ``f(x) = c``, and the first is ``sum_y W(y) P_c(y)``, where ``W(y)`` is the sum of all weights with
which the voxel ``y`` is read.

Where voxels are ignored the Dice is that of the warped volumes, one for each class.
"""

from collections.abc import Callable
from typing import NamedTuple

from deepatlas_tf.keras_stack import as_written, tf
from deepatlas_tf.losses.overlap import plain_soft_dice, soft_dice, soft_dice_of_sums
from deepatlas_tf.ops.compiled import compiled
from deepatlas_tf.ops.interpolation import cells, corners, grad_field, interpolate, own_rows, slopes
from deepatlas_tf.ops.labels import known_part, one_hot, per_class
from deepatlas_tf.ops.sums import class_bins, class_sums, scatter_sums, voxel_sums
from deepatlas_tf.ops.warp import plain_warp, warp
from deepatlas_tf.types import Tensor


class Anatomy(NamedTuple):
    """The anatomy of one side of a batch of pairs: a label map, or probabilities if it has none.

    Attributes:
        label: ``(B, *S)`` integers from 0 to ``C - 1``, which stand for their one-hot volume.
        probabilities: ``(B, *S, C)``, used if ``labelled`` is false; None if it is always true.
        labelled: scalar bool: whether the label map holds for all classes and all examples of the batch.
        known: ``(B, *S, 1)``, 0 in ignored voxels, else 1, of both sides; None where no voxel is ignored.
    """

    label: Tensor
    probabilities: Tensor | None = None
    labelled: Tensor | bool = True
    known: Tensor | None = None


@as_written
def warped_soft_dice(
    moving: Anatomy, fixed: Anatomy, u: Tensor, n_classes: int, class_weight: Tensor | None = None
) -> Tensor:
    """:func:`~deepatlas_tf.losses.overlap.soft_dice` of the warped moving anatomy and the fixed anatomy.

    Only the field has a gradient.

    Args:
        moving: anatomy on the moving image's grid.
        fixed: anatomy on the fixed image's grid.
        u: displacement field ``(B, *S, D)`` in voxels, which warps the moving onto the fixed image.
        n_classes: ``C``, background included.
        class_weight: ``(B, C)``; None is 1 for all.

    Returns:
        ``(B,)`` float32.
    """
    moving, fixed = map(_as_tensors, (moving, fixed))
    if moving.known is not None and fixed.known is not None:
        warped, reached = known_part(warp(moving.known * _volume(moving, n_classes), u))
        return soft_dice(warped, _volume(fixed, n_classes), class_weight, known=reached * fixed.known)

    @tf.custom_gradient
    def with_gradient(u):
        def backward(grad_overlap, grad_volume):
            return _in_own_form(moving, fixed, lambda m, f: _grad_field_of_sums(u, m, f, grad_overlap, grad_volume))

        return _in_own_form(moving, fixed, lambda m, f: _sums(u, m, f, n_classes)), backward

    overlap, volume = with_gradient(tf.convert_to_tensor(u))
    return soft_dice_of_sums(overlap, volume, class_weight)


def plain_warped_soft_dice(
    moving: Anatomy, fixed: Anatomy, u: Tensor, n_classes: int, class_weight: Tensor | None = None
) -> Tensor:
    """The definition of :func:`warped_soft_dice`, for sides whose ``labelled`` is a Python bool."""
    p, q = (one_hot(side.label, n_classes) if side.labelled else side.probabilities for side in (moving, fixed))
    return plain_soft_dice(plain_warp(p, u), q, class_weight)


def _as_tensors(side):
    """The anatomy with tensors, its label map as int32."""
    probabilities = None if side.probabilities is None else tf.convert_to_tensor(side.probabilities)
    return side._replace(
        label=tf.cast(side.label, tf.int32),
        probabilities=probabilities,
        labelled=tf.convert_to_tensor(side.labelled),
    )


def _volume(side: Anatomy, n_classes: int) -> Tensor:
    """The anatomy as probabilities ``(B, *S, C)`` without a gradient."""

    def of_label():
        return one_hot(side.label, n_classes)

    if side.probabilities is None:
        return of_label()
    return tf.cond(side.labelled, of_label, lambda: tf.stop_gradient(side.probabilities))


def _in_own_form(moving: Anatomy, fixed: Anatomy, function: Callable) -> tuple[Tensor, ...] | Tensor:
    """``function(m, f)`` where each side is its label map, if it is labelled, or else its probabilities."""

    def choose(side, function):
        if side.probabilities is None:
            return function(side.label)
        return tf.cond(side.labelled, lambda: function(side.label), lambda: function(side.probabilities))

    return choose(moving, lambda m: choose(fixed, lambda f: function(m, f)))


def _sums(u, moving, fixed, n_classes):
    """Sums over the voxels of ``p q`` and of ``p + q``, the warped moving and the fixed anatomy, each ``(B, C)``."""
    if moving.dtype.is_integer:
        classes, weights, products = _label_corners(u, moving, fixed)
        overlap, volume = class_sums(products, classes, n_classes), class_sums(weights, classes, n_classes)
    elif fixed.dtype.is_integer:
        products, voxels, weights = _probability_corners(u, moving, fixed)
        reached = tf.reshape(scatter_sums(weights, voxels, tf.size(fixed)), (tf.shape(fixed)[0], -1))
        overlap = class_sums(tf.reduce_sum(products, axis=0, keepdims=True), fixed[None], n_classes)
        volume = voxel_sums(_by_example(moving) * reached[..., None])
    else:
        overlap, volume = _dense_sums(u, moving, fixed)
    return overlap, volume + _volumes(fixed, n_classes)


@compiled
def _label_corners(u, label, fixed):
    """For each corner its class, its weight, and its weight times the fixed side's probability of its class."""
    voxel, weight = corners(cells(u))
    classes = tf.gather(tf.reshape(label, [-1]), voxel)
    return classes, weight, weight * _at_class(fixed, classes, own_rows(u))  # (2 ** D, B, *S)


@compiled
def _probability_corners(u, moving, label):
    """For each corner its weight times its probability of the fixed side's class, its row, and its weight."""
    voxel, weight = corners(cells(u))
    return weight * _at_voxel(moving, voxel, label), voxel, weight


@compiled
def _dense_sums(u, moving, fixed):
    """Sums over the voxels of ``p q`` and of ``p`` where both sides are probabilities, each ``(B, C)``."""
    warped = interpolate(moving, u)
    return voxel_sums(warped * fixed), voxel_sums(warped)


@compiled
def _grad_field_of_sums(u, moving, fixed, grad_overlap, grad_volume):
    """Gradient ``(B, *S, D)`` of ``sum_c grad_overlap_c overlap_c + grad_volume_c volume_c`` towards the field."""
    if not moving.dtype.is_integer and not fixed.dtype.is_integer:
        grad_warped = per_class(grad_overlap, fixed) * fixed + per_class(grad_volume, fixed)
        return grad_field(grad_warped, moving, u)
    around = cells(u)
    rows, _ = corners(around)
    grad_weights = _grad_weights(rows, own_rows(u), moving, fixed, grad_overlap, grad_volume)
    return tf.stack(slopes(grad_weights, around), axis=-1)


def _grad_weights(rows, own, moving, fixed, grad_overlap, grad_volume):
    """Gradient towards the weight of each corner, ``2 ** D`` times ``(B, *S)``, where one side is a label map."""
    if not moving.dtype.is_integer:
        grad_volumes = tf.reshape(tf.reduce_sum(_by_example(moving) * grad_volume[:, None], axis=-1), [-1])
        grad_product = _at_classes(grad_overlap, fixed[None])[0]
        return [grad_product * _at_voxel(moving, row, fixed) + tf.gather(grad_volumes, row) for row in tf.unstack(rows)]
    classes = tf.gather(tf.reshape(moving, [-1]), rows)
    bins = class_bins(classes, grad_overlap.shape[1])
    grad_overlap, grad_volume = (tf.reshape(by_class, [-1]) for by_class in (grad_overlap, grad_volume))

    def at_corners(classes, bins):
        grad_product = tf.gather(grad_overlap, bins)
        return tf.unstack(grad_product * _at_class(fixed, classes, own) + tf.gather(grad_volume, bins))

    if fixed.dtype.is_integer:
        return at_corners(classes, bins)
    one_by_one = (tf.split(x, classes.shape[0]) for x in (classes, bins))  # all corners at once take twice the time
    return [at_corners(*one)[0] for one in zip(*one_by_one, strict=True)]


def _by_example(probabilities):
    """Reshape ``(B, *S, C)`` to ``(B, V, C)``."""
    return tf.reshape(probabilities, (tf.shape(probabilities)[0], -1, probabilities.shape[-1]))


def _volumes(anatomy, n_classes):
    """``sum_x q_c(x)``, ``(B, C)``, of a label map or of probabilities."""
    if anatomy.dtype.is_integer:
        return class_sums(tf.ones(tf.shape(anatomy))[None], anatomy[None], n_classes)
    return voxel_sums(anatomy)


def _at_class(anatomy, classes, own):
    """Probability at each voxel, whose row is ``own (B, *S)``, of the classes ``(K, B, *S)`` of its corners.

    ``anatomy`` is a label map or probabilities.
    """
    if anatomy.dtype.is_integer:
        return tf.cast(anatomy == classes, tf.float32)
    return _at_voxel(anatomy, own, classes)


def _at_voxel(probabilities, rows, classes):
    """Probability of a class at each of the voxels that have these rows."""
    first = tf.cast(rows, tf.int64) * probabilities.shape[-1]  # a batch may have more values than int32 can count
    return tf.gather(tf.reshape(probabilities, [-1]), first + tf.cast(classes, tf.int64))


def _at_classes(by_class, classes):
    """The value of each voxel's class ``(K, B, *S)`` in a table ``(B, C)``."""
    return tf.gather(tf.reshape(by_class, [-1]), class_bins(classes, tf.shape(by_class)[1]))
