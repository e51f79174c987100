"""Linear interpolation at ``x + u(x)``, to be part of functions that XLA compiles.

The value is ``sum_k w_k(x) image(y_k(x))`` over the ``2 ** D`` voxels ``y_k(x)`` around ``x + u(x)``. The weights
``w_k`` are products over the axes, linear in ``u``, so the slope along an axis is the same sum with other weights.
"""

from typing import NamedTuple

from deepatlas_tf.keras_stack import tf


@tf.custom_gradient
def interpolate(image, u):
    """``image (B, *S, C)`` at ``x + u(x)``, with ``u (B, *S, D)`` in voxels; outside the nearest voxel counts."""

    def backward(upstream):
        return _of_image(upstream, image, u), field_gradient(upstream, image, u)

    rows, weights = _one_by_one(cells(u))
    values = _at_corners(image, rows)
    weighted = [tf.cast(weight, image.dtype)[..., None] * value for weight, value in zip(weights, values, strict=True)]
    return tf.add_n(weighted), backward


def _of_image(upstream, image, u):
    rows, weights = corners(cells(u))
    values = tf.reshape(tf.cast(weights, image.dtype)[..., None] * upstream, (-1, image.shape[-1]))
    summed = tf.math.unsorted_segment_sum(values, tf.reshape(rows, [-1]), tf.size(image[..., 0]))
    return tf.reshape(summed, tf.shape(image))


def field_gradient(upstream, image, u):
    """Gradient ``(B, *S, D)`` of :func:`interpolate` towards the field, of the ``upstream (B, *S, C)`` of its value."""
    around = cells(u)
    upstream = tf.cast(upstream, u.dtype)
    if image.shape[-1] == 1:
        return upstream * _all_slopes(tf.gather(tf.reshape(image, [-1]), corners(around)[0]), around)
    values = _at_corners(image, _one_by_one(around)[0])
    of_axes = [tf.reduce_sum(upstream * slope, axis=-1) for slope in slopes(values, around)]
    return tf.stack(of_axes, axis=-1)


def _at_corners(image, rows):
    """``(B, *S, C)`` for each corner: XLA gathers several channels of all of them at once several times slower."""
    voxels = tf.reshape(image, (-1, image.shape[-1]))
    return [tf.gather(voxels, row) for row in rows]


class Cells(NamedTuple):
    """For each axis a pair ``(B, *S)``: of the lower and the upper voxel beside ``x + u(x)``.

    Attributes:
        positions: along the axis, int32.
        weights: in the interpolation along it.
        derivatives: of the weights by the displacement; 0 outside the image.
    """

    positions: list
    weights: list
    derivatives: list


def cells(u):
    """:class:`Cells` of a field ``(B, *S, D)`` in voxels."""
    found = Cells([], [], [])
    for (location, inside), size in zip(clipped_locations(u), sizes(u)[1:-1], strict=True):
        lower = tf.floor(location)
        fraction = location - lower  # (B, *S), distance from the lower corner
        lower = tf.cast(lower, tf.int32)
        slope = tf.cast(inside, u.dtype)
        found.positions.append((lower, tf.minimum(lower + 1, size - 1)))
        found.weights.append((1 - fraction, fraction))
        found.derivatives.append((-slope, slope))
    return found


def corners(around: Cells):
    """The ``2 ** D`` voxels around ``x + u(x)``, each with its weight.

    Returns:
        The rows of the voxels in the image as ``(B * V, C)``, int32, and the weights, both ``(2 ** D, B, *S)``.
    """
    rows, weights = _one_by_one(around)
    return tf.stack(rows), tf.stack(weights)


def _one_by_one(around):
    """Rows and weights of each corner; the first half are those of the lower voxels along the first axis, and so on."""
    shape, dtype = sizes(around.positions[0][0]), around.weights[0][0].dtype
    rows, weights = [tf.reshape(tf.range(shape[0]), along(0, len(shape), -1))], [tf.ones((), dtype)]
    for size, positions, of_axis in zip(shape[1:], around.positions, around.weights, strict=True):
        rows = [before * size + position for before in rows for position in positions]
        weights = [before * weight for before in weights for weight in of_axis]
    return rows, weights


def slopes(values, around: Cells):
    """Slope along each axis of the interpolation of the ``2 ** D`` corners' values, ``(B, *S)`` or ``(B, *S, C)``.

    Axis by axis, so that what the slopes have in common is computed once.
    """
    dtype = around.weights[0][0].dtype
    values, found = [tf.cast(value, dtype) for value in values], []
    for weight, derivative in zip(around.weights[::-1], around.derivatives[::-1], strict=True):
        found = [_across(values, derivative), *(_across(slope, weight) for slope in found)]
        values = _across(values, weight)
    return [slope for (slope,) in found]


def _all_slopes(values, around):
    """The slopes as ``(B, *S, D)``, of values ``(2 ** D, B, *S)``: those of a voxel at once, without a volume for each.

    For values that are gathered already, since XLA would compute others ``D`` times.
    """
    dtype, component = around.weights[0][0].dtype, tf.range(len(around.weights))
    values = tf.unstack(tf.cast(values, dtype)[..., None])
    for axis in reversed(range(len(around.weights))):
        pairs = zip(around.weights[axis], around.derivatives[axis], strict=True)
        of_both = [tf.where(component == axis, slope[..., None], weight[..., None]) for weight, slope in pairs]
        values = _across(values, of_both)
    return values[0]


def _across(values, of_both):
    """The lower and the upper corners along an axis, weighed and added: half as many as the values."""
    lower, upper = of_both if values[0].shape.rank == of_both[0].shape.rank else [one[..., None] for one in of_both]
    return [lower * below + upper * above for below, above in zip(values[::2], values[1::2], strict=True)]


def clipped_locations(u):
    """Location ``x + u(x)`` in voxels, held inside the image, and whether it was inside: ``(B, *S)`` for each axis.

    Axis by axis: of a grid of all axes XLA makes constants, each as large as the field, in every compiled program.
    """
    locations = []
    for axis, (component, size) in enumerate(zip(tf.unstack(u, axis=-1), sizes(u)[1:-1], strict=True)):
        first, last = tf.zeros((), u.dtype), tf.cast(size - 1, u.dtype)
        location = tf.cast(tf.reshape(tf.range(size), along(axis, u.shape[-1], -1)), u.dtype) + component
        locations.append((tf.clip_by_value(location, first, last), (location >= first) & (location <= last)))
    return locations


def sizes(x):
    """The shape of a tensor, as numbers where they are known, which makes graphs smaller."""
    return [tf.shape(x)[axis] if size is None else size for axis, size in enumerate(x.shape)]


def along(axis, n_axes, size):
    """The shape of a vector of this size along one of the axes."""
    return [size if other == axis else 1 for other in range(n_axes)]


def flat_index(positions, shape):
    """Row of each voxel in the image reshaped to ``(B * V, C)``, of its positions along the axes and ``(B, *S)``."""
    flat = tf.reshape(tf.range(shape[0]), along(0, len(shape), -1))
    for size, position in zip(shape[1:], positions, strict=True):
        flat = flat * size + position
    return flat


def own_rows(u):
    """Row of each voxel itself in the image reshaped to ``(B * V, C)``: ``(B, *S)``, int32."""
    shape, n_axes = sizes(u)[:-1], u.shape[-1]
    nothing = tf.cast(tf.minimum(tf.abs(u[..., 0]), 0), tf.int32)  # of the ranges alone XLA would make a constant
    ranges = [tf.reshape(tf.range(size), along(axis, n_axes, -1)) for axis, size in enumerate(shape[1:])]
    return flat_index([positions + nothing for positions in ranges], shape)
