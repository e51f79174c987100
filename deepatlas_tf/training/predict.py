"""Applying trained networks to images on the network's grid, and the pairs on which registration is measured."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.ops.warp import warp
from deepatlas_tf.types import SettingError


def segmenter(net) -> Callable:
    """A function ``image (*S, 1) -> label map (*S,)`` of class indices, NumPy in and out."""

    def predict(image):
        return tf.argmax(net(image, training=False), axis=-1, output_type=tf.int32)

    predict = _compiled(predict, net)
    return lambda image: predict(tf.constant(image[None])).numpy()[0]


def class_probabilities(net) -> Callable:
    """A function ``image (*S, 1) -> class probabilities (*S, C)``, NumPy in and out."""
    predict = _compiled(lambda image: net(image, training=False), net)
    return lambda image: predict(tf.constant(image[None])).numpy()[0]


def registrar(net) -> Callable:
    """A function ``moving (*S, 1), fixed (*S, 1) -> displacement field (*S, D)`` in voxels, NumPy in and out."""

    predict = _compiled(lambda moving, fixed: net([moving, fixed], training=False), net)
    return lambda moving, fixed: predict(tf.constant(moving[None]), tf.constant(fixed[None])).numpy()[0]


def _compiled(function, net):
    """Traced once for one image of the net's size: TensorFlow takes several nets' functions for one that retraces."""
    specs = [tf.TensorSpec((1, *tensor.shape[1:]), tensor.dtype) for tensor in net.inputs]
    return tf.function(function).get_concrete_function(*specs)


def warp_image(image, u):
    """Warp ``(*S, 1)`` by ``u (*S, D)`` in voxels, linearly."""
    return warp(tf.constant(image[None]), tf.constant(u[None])).numpy()[0]


def warp_label(label, u):
    """Warp a label map ``(*S,)`` by ``u (*S, D)`` in voxels, with nearest neighbours; same classes, same type."""
    warped = warp(tf.constant(label[None, ..., None]), tf.constant(u[None]), "nearest")
    return warped.numpy()[0, ..., 0]


def in_domain(subjects: Sequence[str], domains: Mapping[str, str], domain: str | None) -> tuple[str, ...]:
    """Those of some subjects that are of a domain, in order; all for None. There may be none.

    ``domains``: subject -> domain, of the whole data set.

    Raises:
        SettingError: if the data set has no such domain.
    """
    if domain is None:
        return tuple(subjects)
    if domain not in domains.values():
        there = ", ".join(sorted({repr(name) for name in domains.values()}))
        raise SettingError(f"no subject is of the domain {domain!r}; there are {there}")
    return tuple(subject for subject in subjects if domains[subject] == domain)


def registration_pairs(
    moving: Sequence[str], pairs_per_subject: int, fixed: Sequence[str] | None = None
) -> list[tuple[str, str]]:
    """(moving, fixed): each subject onto the next ``pairs_per_subject`` ones in order, cyclically.

    ``fixed`` are the same subjects if None, else others, such as those of another domain.
    """
    if fixed is None or tuple(fixed) == tuple(moving):
        n = len(moving)
        offsets = range(1, min(pairs_per_subject, n - 1) + 1)
        return [(moving[i], moving[(i + offset) % n]) for i in range(n) for offset in offsets]
    offsets = range(min(pairs_per_subject, len(fixed)))
    return [(one, fixed[(i + offset) % len(fixed)]) for i, one in enumerate(moving) for offset in offsets]


def read_samples(samples, subjects: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
    """The samples of some subjects by id, as NumPy arrays."""
    wanted = set(subjects)
    found = ((s["subject"].decode(), s) for s in samples.as_numpy_iterator())
    return {subject: sample for subject, sample in found if subject in wanted}
