"""Who is drawn for a stream: probabilities of the labelled subjects and of the others, and stateless random choices.

Subjects are numbers, in two groups: (labelled, others), each an array (m,) int32. A *cell* is what is drawn first: a
group for a sample, a group for each side for a pair.
"""

from collections.abc import Collection, Sequence

import numpy as np

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.types import DataError, Tensor

LabelledFraction = float | None
Groups = Sequence[Tensor]


def groups_of(subjects: Sequence[str], labelled: Collection[str]) -> tuple[np.ndarray, np.ndarray]:
    """The numbers (m,) int32 of the labelled subjects, and those of the others.

    Raises DataError where one of ``labelled`` is none of the ``subjects``.
    """
    unknown = set(labelled) - set(subjects)
    if unknown:
        raise DataError(f"subject {min(unknown)} is to be labelled but is not among the {len(subjects)} subjects")
    is_labelled = np.array([subject in labelled for subject in subjects], dtype=bool)
    return np.flatnonzero(is_labelled).astype(np.int32), np.flatnonzero(~is_labelled).astype(np.int32)


def draw_resident(groups: Groups, n_resident: int, seed: Tensor) -> list[Tensor]:
    """A random part of each group, together ``n_resident`` subjects, whose scans are held in memory for an epoch.

    Up to half of them are labelled subjects, more where the others are few. ``seed`` is (2,) int32.
    """
    n_labelled = min(len(groups[0]), max(n_resident // 2, n_resident - len(groups[1])))
    seeds = tf.unstack(tf.random.split(seed, 2))
    shuffled = [
        tf.gather(g, tf.argsort(tf.random.stateless_uniform(g.shape, s))) for g, s in zip(groups, seeds, strict=True)
    ]
    return [shuffled[0][:n_labelled], shuffled[1][: n_resident - n_labelled]]


def group_weights(fraction: LabelledFraction, sizes: np.ndarray) -> np.ndarray:
    """Probabilities (2,) of drawing a labelled subject and another one; ``sizes`` (2,) of the groups.

    ``fraction`` is that of a labelled subject; None makes all subjects equally likely. Raises DataError where it is no
    probability, or labelled subjects are asked for and there are none.
    """
    if fraction is None:
        return sizes / max(sizes.sum(), 1)
    if not 0 <= fraction <= 1:
        raise DataError(f"labelled_fraction={fraction} is not between 0 and 1")
    if fraction > 0 and sizes[0] == 0:
        raise DataError(f"labelled_fraction={fraction} asks for labelled subjects, but no subject is labelled")
    return np.array([fraction, 1 - fraction])


def pair_weights(fractions: tuple[LabelledFraction, LabelledFraction], sizes: np.ndarray) -> np.ndarray:
    """Unnormalised probabilities (2, 2) of [moving group, fixed group]; group 0 is labelled."""
    pairs = np.outer(sizes, sizes) - np.diag(sizes)  # ordered pairs of two different subjects
    moving, fixed = (group_weights(f, sizes) for f in fractions)
    partner = pairs / np.maximum(pairs.sum(axis=1, keepdims=True), 1)  # who is left for a side drawn from all
    if fractions == (None, None):
        return pairs.astype(float)
    if fractions[1] is None:
        return moving[:, None] * partner
    if fractions[0] is None:
        return (fixed[:, None] * partner).T
    return np.outer(moving, fixed) * (pairs > 0)


def impossible(what: str, sizes: np.ndarray, fraction) -> DataError:
    """The error of a stream that has nothing to draw; ``what`` could not be drawn."""
    return DataError(
        f"no {what} can be drawn with labelled_fraction={fraction} from {sizes[0]} labelled and {sizes[1]} other "
        "subjects: add subjects or labels, or change labelled_fraction"
    )


def draw_samples(weights: np.ndarray, groups: Groups, n: int, seed: Tensor) -> Tensor:
    """Numbers (n, 1) of subjects, drawn with replacement; ``weights`` (2,) of the groups, ``seed`` (2,) int32."""
    group_seed, member_seed = tf.unstack(tf.random.split(seed, 2))
    group = _draw_cell(weights, n, group_seed)
    member = _draw_below(tf.gather(_sizes(groups), group), member_seed)
    return _subject(groups, group, member)[:, tf.newaxis]


def draw_pairs(weights: np.ndarray, groups: Groups, n: int, seed: Tensor) -> Tensor:
    """Numbers (n, 2) of a moving and a fixed subject, which differ; ``weights`` (2, 2) of the groups of the two."""
    cell_seed, moving_seed, fixed_seed = tf.unstack(tf.random.split(seed, 3))
    cell = _draw_cell(weights.ravel(), n, cell_seed)
    moving_group, fixed_group = cell // 2, cell % 2
    moving_size, fixed_size = tf.gather(_sizes(groups), moving_group), tf.gather(_sizes(groups), fixed_group)
    same = moving_group == fixed_group
    moving = _draw_below(moving_size, moving_seed)
    fixed = _draw_below(fixed_size - tf.cast(same, tf.int32), fixed_seed)
    # within one group the draw counts steps from the moving subject, which leaves that one out
    fixed = tf.where(same, (moving + 1 + fixed) % fixed_size, fixed)
    return tf.stack([_subject(groups, moving_group, moving), _subject(groups, fixed_group, fixed)], axis=1)


def _draw_cell(weights: np.ndarray, n: int, seed: Tensor) -> Tensor:
    """Numbers (n,) of cells, drawn with probabilities in proportion to ``weights``."""
    limits = np.cumsum(weights / weights.sum())[:-1].astype(np.float32)
    return tf.searchsorted(limits, tf.random.stateless_uniform((n,), seed), side="right")


def _draw_below(limit: Tensor, seed: Tensor) -> Tensor:
    """Whole numbers from 0 to ``limit - 1``; limit (n,) int32."""
    number = tf.random.stateless_uniform(limit.shape, seed) * tf.cast(limit, tf.float32)
    return tf.minimum(tf.cast(number, tf.int32), limit - 1)


def _sizes(groups: Groups) -> Tensor:
    return tf.constant([group.shape[0] for group in groups])


def _subject(groups: Groups, group: Tensor, member: Tensor) -> Tensor:
    return tf.gather(tf.concat(groups, axis=0), tf.where(group == 0, 0, groups[0].shape[0]) + member)
