"""Soft pseudo masks: stored in one file for each subject, and read as the ``soft_label`` of the samples.

A mask holds class probabilities ``(*S, C)`` in 255 steps (uint8), in the file as in the table of a stream: a quarter of
the memory, and an error of at most 1/510. They become float32, with a sum of 1, for each sample that is drawn.
"""

import zipfile
import zlib
from collections.abc import Collection, Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.types import DataError, Sample

STEPS = 255

# What NumPy and the zip file in it raise when bytes are missing or wrong
_DAMAGED = (OSError, ValueError, KeyError, EOFError, TypeError, RuntimeError, zipfile.BadZipFile, zlib.error)


def mask_path(folder: Path, subject: str) -> Path:
    """The file of a subject's mask."""
    return Path(folder) / f"{quote(subject, safe='')}.npz"


def encode(probabilities: np.ndarray) -> np.ndarray:
    """Store probabilities in [0, 1] in 255 steps, as uint8 of the same shape."""
    return np.round(np.clip(probabilities, 0, 1) * STEPS).astype(np.uint8)


def read_mask(folder: Path, subject: str, entry: str = "soft_label") -> np.ndarray:
    """Read the mask of a subject as it is stored: ``(*S, C)`` uint8, 255 for a probability of 1.

    Another ``entry`` is ``label``, a label map ``(*S)``.

    Raises DataError where the file is missing or damaged, or holds something else.
    """
    path = mask_path(folder, subject)
    try:
        with np.load(path) as file:
            mask = file[entry]
        if mask.dtype != np.uint8:
            raise ValueError(f"its type is {mask.dtype}, not uint8")
    except _DAMAGED as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"subject {subject}: {path} is no pseudo mask ({reason}): delete {path.parent}") from None
    return mask


def with_soft_labels(samples: tf.data.Dataset, folder: Path, n_classes: int, gate: float = 0.0) -> tf.data.Dataset:
    """Add the stored masks of ``folder`` to the samples, as ``soft_label`` ``(*S, C)`` uint8; see :func:`decoded`.

    A sample whose label is complete gets zeros.

    Args:
        samples: unbatched, with labels hidden as they are in training.
        folder: of the masks.
        n_classes: background included.
        gate: voxels whose most probable class is less probable than this are emptied; 0 keeps all.

    Raises:
        DataError: when a sample is drawn whose mask is missing, damaged or of another size.
    """

    def look_up(subject, shape):
        mask = _of_shape(read_mask(folder, subject.decode()), shape, subject.decode(), folder)
        return np.where(mask.max(axis=-1, keepdims=True) < gate * STEPS, np.uint8(0), mask)

    def add(sample):
        shape = (*sample["label"].shape, n_classes)
        complete = tf.reduce_min(sample["label_weight"]) == 1
        mask = tf.cond(
            complete,
            lambda: tf.zeros(shape, tf.uint8),
            lambda: tf.numpy_function(look_up, (sample["subject"], shape), tf.uint8),
        )
        return {**sample, "soft_label": tf.ensure_shape(mask, shape)}

    return samples.map(add)


def with_teacher_labels(
    samples: tf.data.Dataset, folder: Path, n_classes: int, labelled: Collection[str]
) -> tf.data.Dataset:
    """The samples, those that are not ``labelled`` with the label map of their file in ``folder``, of all classes.

    Raises:
        DataError: when a sample is drawn whose label map is missing, damaged or of another size.
    """
    names = tf.constant(list(labelled), tf.string)

    def look_up(subject, shape):
        return _of_shape(read_mask(folder, subject.decode(), "label"), shape, subject.decode(), folder).astype(np.int32)

    def add(sample):
        known, shape = tf.reduce_any(sample["subject"] == names), sample["label"].shape
        label = tf.cond(
            known,
            lambda: sample["label"],
            lambda: tf.numpy_function(look_up, (sample["subject"], tuple(shape)), tf.int32),
        )
        weight = tf.where(known, sample["label_weight"], tf.ones((n_classes,)))
        return {**sample, "label": tf.ensure_shape(label, shape), "label_weight": weight}

    return samples.map(add)


def _of_shape(mask: np.ndarray, shape: Sequence[int], subject: str, folder: Path) -> np.ndarray:
    if mask.shape != tuple(shape):
        path, needed = mask_path(folder, subject), tuple(map(int, shape))
        raise DataError(f"subject {subject}: {path} has the shape {mask.shape}, not {needed}: delete {path.parent}")
    return mask


def decoded(sample: Sample) -> Sample:
    """The sample with its ``soft_label``, if it has one, as float32 probabilities that sum to 1, or 0 where empty."""
    if "soft_label" not in sample:
        return sample
    mask = tf.cast(sample["soft_label"], tf.float32)
    total = tf.reduce_sum(mask, axis=-1, keepdims=True)
    return {**sample, "soft_label": mask / tf.maximum(total, 1.0)}  # an empty voxel stays empty
