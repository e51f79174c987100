"""Augmentation: random changes of the geometry (image and label together) and the intensities (image) of a sample.

Every draw is stateless, so that the same sample with the same seed is always changed in the same way, in whatever
order and on whatever machine. Works in 2D and 3D, by the static rank of the label map.
"""

import dataclasses
import math

import numpy as np

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.ops.splines import spline_matrix
from deepatlas_tf.types import Sample, Tensor


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How far a sample may be changed; a part whose settings are all 0 is left out altogether.

    rotation_degrees: angle about each axis, uniform in +-; the grid's voxels are taken to be cubes.
    scale: factor of the size along each axis, uniform in 1 +- scale.
    translation_voxels: shift along each axis, uniform in +-.
    flip_axes: spatial axes mirrored with probability 1/2; leave it empty where classes are named left and right.
    elastic_voxels: standard deviation of the control points of a cubic B-spline displacement; what reaches a voxel is
        an average of several of them, about half of it.
    control_points: spline intervals along each axis, of the elastic displacement and of the bias field.
    gamma: exponent, log-uniform in [1 / (1 + gamma), 1 + gamma].
    contrast, brightness: ``image * (1 +- contrast) +- brightness``, uniform.
    bias_field: standard deviation, at the control points, of the logarithm of a smooth factor.
    noise: largest standard deviation of white noise; each sample's is uniform in [0, noise].
    """

    rotation_degrees: float = 10.0
    scale: float = 0.1
    translation_voxels: float = 2.0
    flip_axes: tuple[int, ...] = ()
    elastic_voxels: float = 1.5
    control_points: int = 4
    gamma: float = 0.2
    contrast: float = 0.1
    brightness: float = 0.05
    bias_field: float = 0.1
    noise: float = 0.03


def augment(sample: Sample, settings: Augmentation, seed: Tensor) -> Sample:
    """Change the geometry and the intensities of one sample without a batch axis, at random.

    ``seed`` (2,) int32 decides what is drawn. ``label_weight`` and ``subject`` stay as they are.
    """
    geometry_seed, intensity_seed = _split(seed, 2)
    sample = augment_geometry(sample, settings, geometry_seed)
    return {**sample, "image": augment_intensity(sample["image"], settings, intensity_seed)}


def augment_geometry(sample: Sample, settings: Augmentation, seed: Tensor) -> Sample:
    """Rotate, scale, shift, mirror and deform image and label together, by one random map.

    The image and, if there is one, the soft label are interpolated linearly; the label map takes the nearest voxel.
    Beyond the border the values at the edge repeat, as they do where a network warps an image.
    """
    moves = any([settings.rotation_degrees, settings.scale, settings.translation_voxels, settings.flip_axes])
    if not moves and not settings.elastic_voxels:
        return sample
    grid_shape = tuple(sample["label"].shape)
    affine_seed, elastic_seed = _split(seed, 2)
    matrix, offset = random_affine(len(grid_shape), settings, affine_seed)
    positions = affine_positions(grid_shape, matrix, offset)
    if settings.elastic_voxels:
        fields = _random_smooth_fields(len(grid_shape), grid_shape, settings.control_points, elastic_seed)
        positions = [p + settings.elastic_voxels * field for p, field in zip(positions, fields, strict=True)]
    if "soft_label" not in sample:
        image, label = resample(sample["image"], sample["label"], positions)
        return {**sample, "image": image, "label": label}
    both, label = resample(tf.concat([sample["image"], sample["soft_label"]], axis=-1), sample["label"], positions)
    n = sample["image"].shape[-1]
    return {**sample, "image": both[..., :n], "soft_label": both[..., n:], "label": label}


def augment_intensity(image: Tensor, settings: Augmentation, seed: Tensor) -> Tensor:
    """Change the intensities of an image (*S, K) at random; they are in [0, 1], and are clipped to it afterwards.

    Each channel is changed by draws of its own.
    """
    if not any([settings.gamma, settings.contrast, settings.brightness, settings.bias_field, settings.noise]):
        return image
    n = image.shape[-1]
    if n == 1:
        return _augment_channel(image, settings, seed)
    channels = tf.split(image, n, axis=-1)
    seeds = _split(seed, n)
    return tf.concat([_augment_channel(c, settings, s) for c, s in zip(channels, seeds, strict=True)], axis=-1)


def _augment_channel(image: Tensor, settings: Augmentation, seed: Tensor) -> Tensor:
    seeds = _split(seed, 4)
    gamma, gain, shift, noise_level = tf.unstack(tf.random.stateless_uniform((4,), seeds[0], -1.0, 1.0))
    if settings.gamma:
        image = image ** tf.exp(gamma * math.log1p(settings.gamma))
    if settings.contrast or settings.brightness:
        image = image * (1.0 + settings.contrast * gain) + settings.brightness * shift
    if settings.bias_field:
        # exp before the spline: the same smooth factor at the cost of a few control points instead of every voxel
        points = _random_control_points(1, len(image.shape) - 1, settings.control_points, seeds[1])
        field = _upsample(tf.exp(settings.bias_field * points), tuple(image.shape[:-1]))
        image = image * field[0][..., tf.newaxis]
    if settings.noise:
        level = settings.noise * 0.5 * (1.0 + noise_level)
        image = image + level * tf.random.stateless_normal(image.shape, seeds[2])
    return tf.clip_by_value(image, 0.0, 1.0)


def random_affine(rank: int, settings: Augmentation, seed: Tensor) -> tuple[Tensor, Tensor]:
    """Draw a rotation, scaling, mirroring and shift, as ``x -> matrix @ x + offset``.

    ``x`` is in voxels from the centre of the grid. ``rank`` is the number of axes D, ``seed`` is (2,) int32.

    Returns:
        The matrix (D, D) and the offset (D,) in voxels.
    """
    angle_seed, scale_seed, shift_seed, flip_seed = _split(seed, 4)
    limit = math.radians(settings.rotation_degrees)
    planes = [(0, 1), (0, 2), (1, 2)] if rank == 3 else [(0, 1)]
    angles = tf.unstack(tf.random.stateless_uniform((len(planes),), angle_seed, -limit, limit))
    matrix = tf.eye(rank)
    for plane, angle in zip(planes, angles, strict=True):
        matrix = matrix @ _plane_rotation(rank, plane, angle)
    factors = tf.random.stateless_uniform((rank,), scale_seed, 1.0 - settings.scale, 1.0 + settings.scale)
    mirrored = tf.random.stateless_uniform((rank,), flip_seed) < 0.5
    may_flip = np.isin(np.arange(rank), settings.flip_axes)
    signs = tf.where(mirrored & may_flip, -1.0, 1.0)
    offset = tf.random.stateless_uniform((rank,), shift_seed, -1.0, 1.0) * settings.translation_voxels
    # output positions are mapped to source positions, so anatomy grows by the factor when positions shrink by it
    return matrix * (signs / factors), offset


def affine_positions(grid_shape: tuple[int, ...], matrix: Tensor, offset: Tensor) -> list[Tensor]:
    """Where the affine map of :func:`random_affine` takes every voxel of a grid: D tensors (*S,) in voxels.

    That is ``matrix @ (x - centre) + centre + offset`` for the voxel ``x``.
    """
    centre = [(size - 1) / 2 for size in grid_shape]
    axes = []
    for axis, size in enumerate(grid_shape):
        shape = [size if d == axis else 1 for d in range(len(grid_shape))]
        axes.append(tf.reshape(tf.range(size, dtype=tf.float32) - centre[axis], shape))
    return [
        sum(matrix[d, axis] * x for axis, x in enumerate(axes)) + (centre[d] + offset[d])
        for d in range(len(grid_shape))
    ]


def resample(image: Tensor, label: Tensor, positions: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Read an image (*S, C) by linear and a label map (*S,) by nearest interpolation at other positions.

    ``positions`` are D tensors (*S,) in voxels; one outside the grid is moved to the nearest voxel of the border.
    """
    grid_shape = tuple(label.shape)
    strides = [math.prod(grid_shape[d + 1 :]) for d in range(len(grid_shape))]
    fractions, base, nearest = [], 0, 0
    for position, size, stride in zip(positions, grid_shape, strides, strict=True):
        position = tf.clip_by_value(position, 0.0, size - 1.0)
        low = tf.minimum(tf.floor(position), max(size - 2.0, 0.0))
        fractions.append(position - low)
        base += tf.cast(low, tf.int32) * stride
        nearest += tf.cast(position + 0.5, tf.int32) * stride
    channels = image.shape[-1]
    flat_image, flat_label = tf.reshape(image, [-1] if channels == 1 else [-1, channels]), tf.reshape(label, [-1])
    corners = [0]
    for size, stride in zip(grid_shape, strides, strict=True):
        corners = [c + step for c in corners for step in (0, stride if size > 1 else 0)]
    values = [tf.gather(flat_image, base + corner) for corner in corners]
    for fraction in reversed(fractions):  # neighbours in the list differ along the last axis still to be interpolated
        fraction = fraction if channels == 1 else fraction[..., tf.newaxis]
        values = [a + fraction * (b - a) for a, b in zip(values[::2], values[1::2], strict=True)]
    return tf.reshape(values[0], (*grid_shape, channels)), tf.gather(flat_label, nearest)


def _plane_rotation(rank: int, plane: tuple[int, int], angle: Tensor) -> Tensor:
    a, b = plane
    indices = [[a, a], [b, b], [a, b], [b, a]]
    values = tf.stack([tf.cos(angle), tf.cos(angle), -tf.sin(angle), tf.sin(angle)])
    return tf.tensor_scatter_nd_update(tf.eye(rank), indices, values)


def _random_smooth_fields(n_fields: int, grid_shape: tuple[int, ...], intervals: int, seed: Tensor) -> list[Tensor]:
    points = _random_control_points(n_fields, len(grid_shape), intervals, seed)
    return tf.unstack(_upsample(points, grid_shape))


def _random_control_points(n_fields: int, rank: int, intervals: int, seed: Tensor) -> Tensor:
    return tf.random.stateless_normal((n_fields, *[intervals + 3] * rank), seed)  # a cubic spline needs 3 more


def _upsample(points: Tensor, grid_shape: tuple[int, ...]) -> Tensor:
    """Interpolate control points (F, *P) by cubic B-splines to F smooth fields (F, *S)."""
    fields = points
    for size, n_points in zip(grid_shape, points.shape[1:], strict=True):
        fields = tf.tensordot(fields, spline_matrix(n_points, size), axes=[[1], [0]])  # the axis moves to the end
    return fields


def _split(seed: Tensor, n: int) -> list[Tensor]:
    return tf.unstack(tf.random.split(seed, n))
