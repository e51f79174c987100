"""Applying trained networks to images on the network's grid, and the pairs on which registration is measured."""

from collections.abc import Callable, Sequence

import numpy as np

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.ops.warp import warp


def segmenter(net) -> Callable:
    """A function ``image (*S, 1) -> label map (*S,)`` of class indices, NumPy in and out."""

    @tf.function
    def predict(image):
        return tf.argmax(net(image, training=False), axis=-1, output_type=tf.int32)

    return lambda image: predict(tf.constant(image[None])).numpy()[0]


def registrar(net) -> Callable:
    """A function ``moving (*S, 1), fixed (*S, 1) -> displacement field (*S, D)`` in voxels, NumPy in and out."""

    @tf.function
    def predict(moving, fixed):
        return net([moving, fixed], training=False)

    return lambda moving, fixed: predict(tf.constant(moving[None]), tf.constant(fixed[None])).numpy()[0]


def warp_image(image, u):
    """Warp ``(*S, 1)`` by ``u (*S, D)`` in voxels, linearly."""
    return warp(tf.constant(image[None]), tf.constant(u[None])).numpy()[0]


def warp_label(label, u):
    """Warp a label map ``(*S,)`` by ``u (*S, D)`` in voxels, with nearest neighbours; same classes, same type."""
    warped = warp(tf.constant(label[None, ..., None]), tf.constant(u[None]), "nearest")
    return warped.numpy()[0, ..., 0]


def registration_pairs(subjects: Sequence[str], pairs_per_subject: int) -> list[tuple[str, str]]:
    """(moving, fixed): each subject onto the next ``pairs_per_subject`` ones in order, cyclically."""
    n = len(subjects)
    offsets = range(1, min(pairs_per_subject, n - 1) + 1)
    return [(subjects[i], subjects[(i + offset) % n]) for i in range(n) for offset in offsets]


def read_samples(samples, subjects: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
    """The samples of some subjects by id, as NumPy arrays."""
    wanted = set(subjects)
    found = ((s["subject"].decode(), s) for s in samples.as_numpy_iterator())
    return {subject: sample for subject, sample in found if subject in wanted}
