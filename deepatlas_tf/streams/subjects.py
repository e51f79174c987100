"""Choosing subjects: those of a domain, the pairs on which registration is measured, and their samples."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.types import SettingError


def in_domain(subjects: Sequence[str], domains: Mapping[str, str], domain: str | None) -> tuple[str, ...]:
    """The subjects that belong to a domain, in their order; there may be none.

    Args:
        subjects: names of subjects.
        domains: the domain of every subject of the data set.
        domain: name of a domain; None takes all subjects.

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
    """The pairs (moving, fixed) on which registration is measured.

    Each moving subject is registered to the next ``pairs_per_subject`` fixed ones in order, from the last on to the
    first. ``fixed`` holds other subjects, such as those of another domain; None takes the moving ones.
    """
    if fixed is None or tuple(fixed) == tuple(moving):
        n = len(moving)
        offsets = range(1, min(pairs_per_subject, n - 1) + 1)
        return [(moving[i], moving[(i + offset) % n]) for i in range(n) for offset in offsets]
    offsets = range(min(pairs_per_subject, len(fixed)))
    return [(one, fixed[(i + offset) % len(fixed)]) for i, one in enumerate(moving) for offset in offsets]


def read_samples(samples: tf.data.Dataset, subjects: Collection[str]) -> dict[str, dict[str, np.ndarray]]:
    """The samples of the given subjects, by subject, as NumPy arrays without a batch axis."""
    wanted = set(subjects)
    found = ((s["subject"].decode(), s) for s in samples.as_numpy_iterator())
    return {subject: sample for subject, sample in found if subject in wanted}
