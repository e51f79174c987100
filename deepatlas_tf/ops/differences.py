"""Sums of squared differences of a field with their own gradient, for functions that XLA compiles.

The last spatial axis and the components of a field, ``(W, D)``, are handled as one axis of ``W * D`` numbers, a "row",
in which the neighbours of a component are ``D`` numbers apart: XLA then reads many numbers at a time.
"""

from collections.abc import Mapping

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.ops.filters import cut, difference
from deepatlas_tf.ops.interpolation import along, sizes
from deepatlas_tf.types import Tensor

_MAX_ORDER = 2  # differences along one axis


def squared_differences(u: Tensor, weights: Mapping[tuple[int, ...], float]) -> Tensor:
    """``sum_a w_a mean_x |d_a u(x)|^2`` with forward differences ``d_a``, which penalties of a field are made of.

    Args:
        u: ``(B, *S, D)``.
        weights: axes ``a`` -> ``w_a``; a difference is taken along each axis of ``a``, one after the other. ``(0,)`` is
            a first difference, ``(0, 0)`` and ``(0, 1)`` are second ones; at most two along one axis. The mean is over
            the voxels that have the difference, and 0 where the image is too small to have any.

    Returns:
        ``(B,)``.
    """

    @tf.custom_gradient
    def with_gradient(u):
        def backward(upstream):
            return tf.reshape(upstream, (-1, *[1] * (u.shape.rank - 1))) * _gradient(u, weights)

        return _value(u, weights), backward

    return with_gradient(u)


def plain_squared_differences(u: Tensor, weights: Mapping[tuple[int, ...], float]) -> Tensor:
    """The definition of :func:`squared_differences`, for images that have all of the differences."""
    total = tf.zeros(tf.shape(u)[0], u.dtype)
    for axes, weight in weights.items():
        x = u
        for axis in axes:
            x = difference(x, axis)
        squared_norm = tf.reduce_sum(x * x, axis=-1)
        total += weight * tf.reduce_mean(squared_norm, axis=list(range(1, squared_norm.shape.rank)))
    return total


def _value(u, weights):
    terms = []
    for axes, weight in weights.items():
        x = _rows(u)
        for axis in axes:
            x = _difference(x, axis, u)
        terms.append(weight / _n_differences(u, axes) * tf.reduce_sum(x * x, axis=list(range(1, x.shape.rank))))
    return tf.add_n(terms)


def _gradient(u, weights):
    """Gradient ``(B, *S, D)`` of the sum: the adjoint of a forward difference is minus a backward difference."""
    n_axes, terms = u.shape[-1], []
    padding = [[_MAX_ORDER * _step(axis, u)] * 2 for axis in range(n_axes)]
    padded = tf.pad(_rows(u), [[0, 0], *padding])  # once for all terms, as each padding is slow
    for axes, weight in weights.items():
        x = padded
        for axis in range(n_axes):
            x = _masked_difference(x, axis, axes.count(axis), u)
        for axis in axes:
            x = -_difference(x, axis, u)
        terms.append(2 * weight / _n_differences(u, axes) * x)
    return tf.reshape(tf.add_n(terms), tf.shape(u))


def _masked_difference(x, axis, times, u):
    """Difference of the padded rows ``x`` along an axis, ``times`` times, with ``times`` voxels of padding left.

    It is set to 0 where it would reach into the padding, since the image has no such difference.
    """
    for _ in range(times):
        x = _difference(x, axis, u)
    if times:
        size, step = sizes(x)[axis + 1], _step(axis, u)
        voxel = tf.range(size) // step
        inside = (voxel >= _MAX_ORDER) & (voxel < size // step - _MAX_ORDER)
        x *= tf.cast(tf.reshape(inside, along(axis + 1, x.shape.rank, -1)), x.dtype)
    return _cut(x, axis, _MAX_ORDER - times, _MAX_ORDER - times, u)


def _rows(u):
    """``(B, *S, D)`` with the last spatial axis and the components joined: ``(B, ..., W * D)``."""
    *outer, width, n_components = sizes(u)
    return tf.reshape(u, (*outer, width * n_components))


def _step(axis, u):
    """How many numbers lie between two neighbouring voxels along an axis of the rows."""
    n_axes = u.shape[-1]
    return n_axes if axis == n_axes - 1 else 1


def _n_differences(u, axes):
    """Number of voxels that have the difference along ``axes``, at least 1."""
    left = [tf.maximum(size - axes.count(axis), 0) for axis, size in enumerate(sizes(u)[1:-1])]
    return tf.cast(tf.maximum(tf.reduce_prod(left), 1), u.dtype)


def _difference(x, axis, u):
    """Forward difference of rows ``x`` of the field ``u``, one voxel shorter along the axis."""
    return _cut(x, axis, 1, 0, u) - _cut(x, axis, 0, 1, u)


def _cut(x, axis, before, after, u):
    """Rows ``x`` of the field ``u`` without so many voxels at the two ends of an axis."""
    step = _step(axis, u)
    return cut(x, axis, before * step, -after * step or None)
