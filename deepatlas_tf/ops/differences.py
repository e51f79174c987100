"""Sums of squared differences of a field, and their gradient, to be part of functions that XLA compiles.

A row of voxels and components ``(W, D)`` counts as one axis, whose neighbours are ``D`` numbers apart: XLA then reads
many numbers at a time.
"""

from collections.abc import Mapping

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.ops.filters import cut
from deepatlas_tf.ops.interpolation import along, sizes

_MOST = 2  # differences along one axis


def squared_differences(u, weights: Mapping[tuple[int, ...], float]):
    """``sum_a w_a mean_x |d_a u|^2``, ``(B,)``, of forward differences along axes ``a``, one after the other.

    Args:
        u: ``(B, *S, D)``.
        weights: axes -> ``w_a``; ``(0,)`` is a first difference, ``(0, 0)`` and ``(0, 1)`` are second ones. A mean is
            over the voxels that have the difference, and 0 where none has.
    """

    @tf.custom_gradient
    def with_gradient(u):
        def backward(upstream):
            return tf.reshape(upstream, (-1, *[1] * (u.shape.rank - 1))) * _gradient(u, weights)

        return _value(u, weights), backward

    return with_gradient(u)


def _value(u, weights):
    found = []
    for axes, weight in weights.items():
        x = _rows(u)
        for axis in axes:
            x = _difference(x, axis, u)
        found.append(weight / _number(u, axes) * tf.reduce_sum(x * x, axis=list(range(1, x.shape.rank))))
    return tf.add_n(found)


def _gradient(u, weights):
    """``(B, *S, D)``: the differences once more, backwards."""
    n_axes, total = u.shape[-1], []
    around = [[_MOST * _step(axis, u)] * 2 for axis in range(n_axes)]
    padded = tf.pad(_rows(u), [[0, 0], *around])  # once for all, as each padding is slow
    for axes, weight in weights.items():
        x = padded
        for axis in range(n_axes):
            x = _masked_difference(x, axis, axes.count(axis), u)
        for axis in axes:
            x = -_difference(x, axis, u)
        total.append(2 * weight / _number(u, axes) * x)
    return tf.reshape(tf.add_n(total), tf.shape(u))


def _masked_difference(x, axis, times, u):
    """Of the padded ``x``, as often as asked for; 0 where it reaches beyond the image; with ``times`` places around."""
    for _ in range(times):
        x = _difference(x, axis, u)
    if times:
        size, step = sizes(x)[axis + 1], _step(axis, u)
        place = tf.range(size) // step
        there = (place >= _MOST) & (place < size // step - _MOST)
        x *= tf.cast(tf.reshape(there, along(axis + 1, x.shape.rank, -1)), x.dtype)
    return _cut(x, axis, _MOST - times, _MOST - times, u)


def _rows(u):
    *outer, width, n_components = sizes(u)
    return tf.reshape(u, (*outer, width * n_components))


def _step(axis, u):
    """Numbers between two neighbours along an axis of the rows."""
    n_axes = u.shape[-1]
    return n_axes if axis == n_axes - 1 else 1


def _number(u, axes):
    """Voxels that have the difference, or 1."""
    left = [tf.maximum(size - axes.count(axis), 0) for axis, size in enumerate(sizes(u)[1:-1])]
    return tf.cast(tf.maximum(tf.reduce_prod(left), 1), u.dtype)


def _difference(x, axis, u):
    return _cut(x, axis, 1, 0, u) - _cut(x, axis, 0, 1, u)


def _cut(x, axis, before, after, u):
    """Without so many voxels at the two ends of an axis."""
    step = _step(axis, u)
    return cut(x, axis, before * step, -after * step or None)
