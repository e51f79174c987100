"""Linear interpolation at ``x + u(x)`` with its own gradients, for functions that XLA compiles.

The value is ``sum_k w_k(x) image(y_k(x))`` over the ``2 ** D`` voxels ``y_k(x)`` at the corners of the grid cell that
holds ``x + u(x)``. The weight ``w_k`` of a corner is a product over the axes whose factors are linear in ``u``, so the
slope of the value along an axis is the same sum with other weights. :func:`plain_interpolate` is the definition.

Corners are numbered like the digits of a binary number: the first half are the lower ones along the first axis. A "row"
is the index of a voxel in the image reshaped to ``(B * V, C)``, with ``V`` the number of voxels.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.types import Tensor


@tf.custom_gradient
def interpolate(image: Tensor, u: Tensor) -> Tensor:
    """Linear interpolation of ``image`` at ``x + u(x)``; outside the image the nearest voxel counts.

    Args:
        image: ``(B, *S, C)``.
        u: displacement field ``(B, *S, D)`` in voxels.

    Returns:
        ``(B, *S, C)``, of the type of ``image``.
    """

    def backward(upstream):
        return _grad_image(upstream, image, u), grad_field(upstream, image, u)

    rows, weights = _corner_lists(cells(u))
    values = _corner_values(image, rows)
    weighted = [tf.cast(weight, image.dtype)[..., None] * value for weight, value in zip(weights, values, strict=True)]
    return tf.add_n(weighted), backward


def plain_interpolate(image: Tensor, u: Tensor) -> Tensor:
    """The definition of :func:`interpolate`, in operations whose gradients are TensorFlow's own."""
    shape = tf.shape(image)[1:-1]
    location = tf.clip_by_value(voxel_grid(u) + u, 0, tf.cast(shape - 1, u.dtype))
    lower = tf.floor(location)
    total = tf.zeros_like(image)
    for corner in itertools.product((False, True), repeat=u.shape[-1]):
        voxel = tf.minimum(tf.cast(lower, tf.int32) + tf.cast(corner, tf.int32), shape - 1)
        weight = tf.reduce_prod(tf.where(corner, location - lower, 1 - (location - lower)), axis=-1, keepdims=True)
        total += tf.cast(weight, image.dtype) * tf.gather_nd(image, voxel, batch_dims=1)
    return total


def voxel_grid(u: Tensor) -> Tensor:
    """Indices of the voxels of a field ``(B, *S, D)`` along each axis, ``(*S, D)`` in its type."""
    return tf.cast(tf.stack(tf.meshgrid(*map(tf.range, sizes(u)[1:-1]), indexing="ij"), axis=-1), u.dtype)


def _grad_image(upstream, image, u):
    """Gradient ``(B, *S, C)`` of :func:`interpolate` towards the image: each corner receives its weighted part."""
    rows, weights = corners(cells(u))
    values = tf.reshape(tf.cast(weights, image.dtype)[..., None] * upstream, (-1, image.shape[-1]))
    summed = tf.math.unsorted_segment_sum(values, tf.reshape(rows, [-1]), tf.size(image[..., 0]))
    return tf.reshape(summed, tf.shape(image))


def grad_field(upstream: Tensor, image: Tensor, u: Tensor) -> Tensor:
    """Gradient of :func:`interpolate` towards the field.

    Args:
        upstream: ``(B, *S, C)`` gradient of the interpolated image.
        image: ``(B, *S, C)``.
        u: displacement field ``(B, *S, D)`` in voxels.

    Returns:
        ``(B, *S, D)``, of the type of ``u``.
    """
    around = cells(u)
    upstream = tf.cast(upstream, u.dtype)
    if image.shape[-1] == 1:
        return upstream * _stacked_slopes(tf.gather(tf.reshape(image, [-1]), corners(around)[0]), around)
    values = _corner_values(image, _corner_lists(around)[0])
    components = [tf.reduce_sum(upstream * slope, axis=-1) for slope in slopes(values, around)]
    return tf.stack(components, axis=-1)


def _corner_values(image, rows):
    """List of the image's values ``(B, *S, C)`` at each corner, whose rows ``(B, *S)`` are given.

    One gather for each corner: XLA gathers several channels of all corners at once several times slower.
    """
    voxels = tf.reshape(image, (-1, image.shape[-1]))
    return [tf.gather(voxels, row) for row in rows]


class Cells(NamedTuple):
    """The grid cells that hold ``x + u(x)``: for each axis a pair ``(B, *S)``, of the lower and of the upper voxel.

    Attributes:
        positions: index of the voxel along the axis, int32.
        weights: of the voxel in the interpolation along the axis.
        derivatives: of the weight by the displacement; 0 outside the image.
    """

    positions: list[tuple[Tensor, Tensor]]
    weights: list[tuple[Tensor, Tensor]]
    derivatives: list[tuple[Tensor, Tensor]]


def cells(u: Tensor) -> Cells:
    """:class:`Cells` of a displacement field ``(B, *S, D)`` in voxels."""
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


def corners(around: Cells) -> tuple[Tensor, Tensor]:
    """The ``2 ** D`` corners of each cell.

    Returns:
        Rows, int32, and weights of the corners, both ``(2 ** D, B, *S)``.
    """
    rows, weights = _corner_lists(around)
    return tf.stack(rows), tf.stack(weights)


def _corner_lists(around):
    """Lists of the corners' rows and weights, ``2 ** D`` tensors ``(B, *S)`` each."""
    shape, dtype = sizes(around.positions[0][0]), around.weights[0][0].dtype
    rows, weights = [tf.reshape(tf.range(shape[0]), along(0, len(shape), -1))], [tf.ones((), dtype)]
    for size, positions, factors in zip(shape[1:], around.positions, around.weights, strict=True):
        rows = [before * size + position for before in rows for position in positions]
        weights = [before * factor for before in weights for factor in factors]
    return rows, weights


def slopes(values: Sequence[Tensor], around: Cells) -> list[Tensor]:
    """Derivative of the interpolated value by the displacement along each axis.

    The axes are interpolated one after the other, so that what the derivatives have in common is computed once.

    Args:
        values: at the ``2 ** D`` corners, each ``(B, *S)`` or ``(B, *S, C)``.
        around: the cells that the corners belong to.

    Returns:
        For each axis a tensor of the shape of one value.
    """
    dtype = around.weights[0][0].dtype
    values = [tf.cast(value, dtype) for value in values]
    found: list[list[Tensor]] = []
    for weights, derivatives in zip(around.weights[::-1], around.derivatives[::-1], strict=True):
        found = [_along_one_axis(values, derivatives), *(_along_one_axis(slope, weights) for slope in found)]
        values = _along_one_axis(values, weights)
    return [slope for (slope,) in found]


def _stacked_slopes(values, around):
    """:func:`slopes` as one tensor ``(B, *S, D)`` of values ``(2 ** D, B, *S)`` that are gathered already.

    The slopes of a voxel are computed together, which needs no volume for each. Values that are not gathered yet XLA
    would compute ``D`` times.
    """
    dtype, component = around.weights[0][0].dtype, tf.range(len(around.weights))
    values = tf.unstack(tf.cast(values, dtype)[..., None])
    for axis in reversed(range(len(around.weights))):
        pairs = zip(around.weights[axis], around.derivatives[axis], strict=True)
        factors = [tf.where(component == axis, slope[..., None], weight[..., None]) for weight, slope in pairs]
        values = _along_one_axis(values, factors)
    return values[0]


def _along_one_axis(values, factors):
    """``factors[0] * lower + factors[1] * upper`` of each two corners that are neighbours along the last axis left.

    Returns half as many tensors as there are values.
    """
    if values[0].shape.rank != factors[0].shape.rank:
        factors = [factor[..., None] for factor in factors]
    lower, upper = factors
    return [lower * below + upper * above for below, above in zip(values[::2], values[1::2], strict=True)]


def clipped_locations(u: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Where ``x + u(x)`` lies along each axis.

    Axis by axis: if there were a grid of all axes, XLA would make constants of it, each as large as the field, in every
    compiled program.

    Args:
        u: displacement field ``(B, *S, D)`` in voxels.

    Returns:
        For each axis the location in voxels, clipped to the image, and whether it was inside, both ``(B, *S)``.
    """
    locations = []
    for axis, (component, size) in enumerate(zip(tf.unstack(u, axis=-1), sizes(u)[1:-1], strict=True)):
        first, last = tf.zeros((), u.dtype), tf.cast(size - 1, u.dtype)
        location = tf.cast(tf.reshape(tf.range(size), along(axis, u.shape[-1], -1)), u.dtype) + component
        locations.append((tf.clip_by_value(location, first, last), (location >= first) & (location <= last)))
    return locations


def sizes(x: Tensor) -> list[int | Tensor]:
    """The shape of a tensor, as numbers where they are known, which makes graphs smaller."""
    return [tf.shape(x)[axis] if size is None else size for axis, size in enumerate(x.shape)]


def along(axis: int, n_axes: int, size: int) -> list[int]:
    """A shape of ``n_axes`` ones, but ``size`` in place ``axis``: a vector of that shape varies along that axis."""
    return [size if other == axis else 1 for other in range(n_axes)]


def flat_index(positions: Sequence[Tensor], shape: Sequence[int | Tensor]) -> Tensor:
    """Row of the voxel that is given by its index along each axis.

    Args:
        positions: for each axis the index, ``(B, *S)``, int32.
        shape: ``(B, *S)`` as a list.

    Returns:
        ``(B, *S)``, int32.
    """
    flat = tf.reshape(tf.range(shape[0]), along(0, len(shape), -1))
    for size, position in zip(shape[1:], positions, strict=True):
        flat = flat * size + position
    return flat


def own_rows(u: Tensor) -> Tensor:
    """Row of each voxel of a field ``(B, *S, D)`` itself: ``(B, *S)``, int32."""
    shape, n_axes = sizes(u)[:-1], u.shape[-1]
    zero = tf.cast(tf.minimum(tf.abs(u[..., 0]), 0), tf.int32)  # of the ranges alone XLA would make a constant
    ranges = [tf.reshape(tf.range(size), along(axis, n_axes, -1)) for axis, size in enumerate(shape[1:])]
    return flat_index([positions + zero for positions in ranges], shape)
