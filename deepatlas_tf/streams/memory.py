"""How many subjects may be held in memory at once."""

import math

from deepatlas_tf.keras_stack import as_written, tf
from deepatlas_tf.types import DataError

_LEAST_SUBJECTS = 4  # two labelled and two others, so that every kind of pair can still be drawn


@as_written
def with_labels_of_a_byte(samples: tf.data.Dataset) -> tf.data.Dataset:
    """The samples as the table of a stream holds them: a label takes a byte, as in the records.

    More than a third of the memory is saved.
    """
    return samples.map(lambda sample: {**sample, "label": tf.cast(sample["label"], tf.uint8)})


def bytes_per_sample(samples: tf.data.Dataset) -> int:
    """How many bytes one sample takes in memory, without its strings. All shapes have to be static."""
    specs = tf.nest.flatten(samples.element_spec)
    return sum(math.prod(s.shape) * s.dtype.size for s in specs if s.dtype != tf.string)


def resident_subjects(samples: tf.data.Dataset, n_subjects: int, memory_gib: float) -> int:
    """How many of ``n_subjects`` subjects can be held in ``memory_gib`` GiB of memory at once.

    Every sample is counted twice, since it is there twice while single samples are copied into one table. Raises
    DataError where it is too few subjects to draw pairs from.
    """
    needed = 2 * bytes_per_sample(samples)
    capacity = min(n_subjects, int(memory_gib * 2**30 / needed))
    if capacity < min(n_subjects, _LEAST_SUBJECTS):
        least = _LEAST_SUBJECTS * needed / 2**30
        raise DataError(
            f"memory_gib={memory_gib:g} is too small for scans of this size: at least {least:.2g} is needed"
        )
    return capacity
