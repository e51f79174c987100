"""Linear interpolation at ``x + u(x)``, to be part of functions that XLA compiles.

The value is ``sum_k w_k(x) image(y_k(x))`` over the ``2 ** D`` voxels ``y_k(x)`` around ``x + u(x)``. The weights
``w_k`` are products over the axes, linear in ``u``, so the slope along an axis is the same sum with other weights.
"""

import functools
import itertools
import operator

from deepatlas_tf.keras_stack import tf


@tf.custom_gradient
def interpolate(image, u):
    """``image (B, *S, C)`` at ``x + u(x)``, with ``u (B, *S, D)`` in voxels; outside the nearest voxel counts."""

    def backward(upstream):
        return _of_image(upstream, image, u), _of_field(upstream, image, u)

    rows, weights, _ = along_axes(u)
    return _sum_of_corners(image, _rows(rows, u), _products(weights)), backward


def _of_image(upstream, image, u):
    rows, weights = corners(u)
    values = tf.reshape(tf.cast(weights, image.dtype)[..., None] * upstream, (-1, image.shape[-1]))
    summed = tf.math.unsorted_segment_sum(values, tf.reshape(rows, [-1]), tf.size(image[..., 0]))
    return tf.reshape(summed, tf.shape(image))


def _of_field(upstream, image, u):
    rows, _ = corners(u)
    if image.shape[-1] == 1:
        products = tf.unstack(upstream[..., 0] * tf.gather(tf.reshape(image, [-1]), rows))
        of_axes = [weighted_sum(products, tf.unstack(slope)) for slope in slopes(u)]
    else:  # sums over channels for each axis, which are fewer than for each corner
        along_all = [_sum_of_corners(image, tf.unstack(rows), tf.unstack(slope)) for slope in slopes(u)]
        of_axes = [tf.reduce_sum(upstream * derivative, axis=-1) for derivative in along_all]
    return tf.cast(tf.stack(of_axes, axis=-1), u.dtype)


def _sum_of_corners(image, rows, weights):
    voxels = tf.reshape(image, (-1, image.shape[-1]))
    # Corner by corner: XLA gathers several channels of all of them at once several times slower
    return weighted_sum([tf.gather(voxels, row) for row in rows], [weight[..., None] for weight in weights])


def weighted_sum(values, weights):
    """Of the values at each corner."""
    return tf.add_n([tf.cast(weight, value.dtype) * value for weight, value in zip(weights, values, strict=True)])


def corners(u):
    """The ``2 ** D`` voxels around ``x + u(x)``, each with its weight.

    Returns:
        The rows of the voxels in the image as ``(B * V, C)``, int32, and the weights, both ``(2 ** D, B, *S)``.
    """
    rows, weights, _ = along_axes(u)
    return tf.stack(_rows(rows, u)), tf.stack(_products(weights))


def slopes(u):
    """For each axis the weights' derivatives by the displacement along it, ``(2 ** D, B, *S)``; 0 outside the image."""
    _, weights, derivatives = along_axes(u)
    of_axes = [[*weights[:axis], slope, *weights[axis + 1 :]] for axis, slope in enumerate(derivatives)]
    return [tf.stack(_products(factors)) for factors in of_axes]


def along_axes(u):
    """Of the lower and the upper voxel along each axis the position, the weight, and the derivative of that."""
    positions, weights, derivatives = [], [], []
    for axis, (location, inside) in enumerate(clipped_locations(u)):
        lower = tf.floor(location)
        fraction = location - lower  # (B, *S), distance from the lower corner
        lower = tf.cast(lower, tf.int32)
        slope = tf.cast(inside, u.dtype)
        positions.append((lower, tf.minimum(lower + 1, tf.shape(u)[axis + 1] - 1)))
        weights.append((1 - fraction, fraction))
        derivatives.append((-slope, slope))
    return positions, weights, derivatives


def _rows(positions, u):
    return [flat_index(corner, tf.shape(u)) for corner in itertools.product(*positions)]


def _products(of_axes):
    return [functools.reduce(operator.mul, corner) for corner in itertools.product(*of_axes)]


def clipped_locations(u):
    """Location ``x + u(x)`` in voxels, held inside the image, and whether it was inside: ``(B, *S)`` for each axis.

    Axis by axis: of a grid of all axes XLA makes constants, each as large as the field, in every compiled program.
    """
    locations = []
    for axis, component in enumerate(tf.unstack(u, axis=-1)):
        first, last = tf.zeros((), u.dtype), tf.cast(tf.shape(u)[axis + 1] - 1, u.dtype)
        start = tf.cast(tf.reshape(tf.range(tf.shape(u)[axis + 1]), along(axis, u.shape[-1], -1)), u.dtype)
        location = start + component
        locations.append((tf.clip_by_value(location, first, last), (location >= first) & (location <= last)))
    return locations


def along(axis, n_axes, size):
    """The shape of a vector of this size along one of the axes."""
    return [size if other == axis else 1 for other in range(n_axes)]


def flat_index(positions, shape):
    """Row of each voxel in the image reshaped to ``(B * prod(S), C)``, from its positions along the axes."""
    batch_shape = tf.concat([shape[:1], tf.ones((len(positions),), tf.int32)], axis=0)
    flat = tf.reshape(tf.range(shape[0]), batch_shape)
    for axis, position in enumerate(positions):
        flat = flat * shape[axis + 1] + position
    return flat
