"""How many subjects may be held in memory at once."""

import math

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.types import DataError

_LEAST_SUBJECTS = 4  # two labelled and two others, so that every kind of pair can still be drawn


def bytes_per_sample(samples: tf.data.Dataset) -> int:
    """Bytes of one decoded element with static shapes; strings are not counted."""
    specs = tf.nest.flatten(samples.element_spec)
    return sum(math.prod(s.shape) * s.dtype.size for s in specs if s.dtype != tf.string)


def resident_subjects(samples: tf.data.Dataset, n_subjects: int, memory_gib: float) -> int:
    """How many of ``n_subjects`` fit into ``memory_gib``; DataError if that is too few to draw pairs from.

    Every sample is counted twice, as it is when single samples are copied into one table.
    """
    needed = 2 * bytes_per_sample(samples)
    capacity = min(n_subjects, int(memory_gib * 2**30 / needed))
    if capacity < min(n_subjects, _LEAST_SUBJECTS):
        least = _LEAST_SUBJECTS * needed / 2**30
        raise DataError(
            f"memory_gib={memory_gib:g} is too small for scans of this size: at least {least:.2g} is needed"
        )
    return capacity
