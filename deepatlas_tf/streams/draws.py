"""Drawing subjects at random for a stream, with chosen probabilities for those with a label and those without.

Subjects are numbers, in two groups, (labelled, others), each an array (m,) int32. A draw has two steps: first the group
is drawn (for a pair a group for each side, together called a *cell*), then a subject of the group. All draws follow
from the seed that they are given.
"""

from collections.abc import Collection, Sequence

import numpy as np

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.types import DataError, Tensor

LabelledFraction = float | None
Groups = Sequence[Tensor]


def groups_of(subjects: Sequence[str], labelled: Collection[str]) -> tuple[np.ndarray, np.ndarray]:
    """Split subjects into two groups: the numbers (m,) int32 of the labelled ones, and those of the others.

    Raises DataError where one of ``labelled`` is none of the ``subjects``.
    """
    unknown = set(labelled) - set(subjects)
    if unknown:
        raise DataError(f"subject {min(unknown)} is to be labelled but is not among the {len(subjects)} subjects")
    is_labelled = np.array([subject in labelled for subject in subjects], dtype=bool)
    return np.flatnonzero(is_labelled).astype(np.int32), np.flatnonzero(~is_labelled).astype(np.int32)


def draw_resident(groups: Groups, n_resident: int, seed: Tensor) -> list[Tensor]:
    """Draw the ``n_resident`` subjects whose scans are held in memory for an epoch: a random part of each group.

    Up to half of them are labelled subjects, more where the others are few. ``seed`` is (2,) int32.
    """
    n_labelled = min(len(groups[0]), max(n_resident // 2, n_resident - len(groups[1])))
    seeds = tf.unstack(tf.random.split(seed, 2))
    shuffled = [
        tf.gather(g, tf.argsort(tf.random.stateless_uniform(g.shape, s))) for g, s in zip(groups, seeds, strict=True)
    ]
    return [shuffled[0][:n_labelled], shuffled[1][: n_resident - n_labelled]]


def group_weights(fraction: LabelledFraction, sizes: np.ndarray) -> np.ndarray:
    """The probabilities (2,) of drawing a labelled subject and of drawing another one.

    Args:
        fraction: the probability of a labelled subject; None makes all subjects equally likely.
        sizes: (2,), how many subjects the groups have.

    Raises:
        DataError: if the fraction is no probability, or labelled subjects are asked for and there are none.
    """
    if fraction is None:
        return sizes / max(sizes.sum(), 1)
    if not 0 <= fraction <= 1:
        raise DataError(f"labelled_fraction={fraction} is not between 0 and 1")
    if fraction > 0 and sizes[0] == 0:
        raise DataError(f"labelled_fraction={fraction} asks for labelled subjects, but no subject is labelled")
    return np.array([fraction, 1 - fraction])


def pair_weights(fractions: tuple[LabelledFraction, LabelledFraction], sizes: np.ndarray) -> np.ndarray:
    """The probabilities (2, 2) of each combination of a moving group (row) and a fixed group (column), up to a factor.

    Args:
        fractions: for the (moving, fixed) side, the probability of a labelled subject; None draws from all alike.
        sizes: (2,), how many subjects the groups have. Group 0 is the labelled one.
    """
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


def impossible(what: str, sizes: np.ndarray, fraction: float | tuple[float | None, float | None] | None) -> DataError:
    """Make the error for a stream that has nothing to draw; ``what`` says what could not be drawn."""
    return DataError(
        f"no {what} can be drawn with labelled_fraction={fraction} from {sizes[0]} labelled and {sizes[1]} other "
        "subjects: add subjects or labels, or change labelled_fraction"
    )


def draw_samples(weights: np.ndarray, groups: Groups, n: int, seed: Tensor) -> Tensor:
    """Draw ``n`` subjects with replacement: their numbers (n, 1).

    ``weights`` (2,) are the probabilities of the groups, ``seed`` is (2,) int32.
    """
    group_seed, member_seed = tf.unstack(tf.random.split(seed, 2))
    group = _draw_cell(weights, n, group_seed)
    member = _draw_below(tf.gather(_sizes(groups), group), member_seed)
    return _subject(groups, group, member)[:, tf.newaxis]


def draw_pairs(weights: np.ndarray, groups: Groups, n: int, seed: Tensor) -> Tensor:
    """Draw ``n`` pairs of two different subjects: the numbers (n, 2) of the moving and of the fixed one.

    ``weights`` (2, 2) are the probabilities of :func:`pair_weights`, ``seed`` is (2,) int32.
    """
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
    """Draw ``n`` cells with probabilities in proportion to ``weights``: their numbers (n,)."""
    limits = np.cumsum(weights / weights.sum())[:-1].astype(np.float32)
    return tf.searchsorted(limits, tf.random.stateless_uniform((n,), seed), side="right")


def _draw_below(limit: Tensor, seed: Tensor) -> Tensor:
    """Draw a whole number from 0 to ``limit - 1`` for each entry of ``limit`` (n,) int32."""
    number = tf.random.stateless_uniform(limit.shape, seed) * tf.cast(limit, tf.float32)
    return tf.minimum(tf.cast(number, tf.int32), limit - 1)


def _sizes(groups: Groups) -> Tensor:
    return tf.constant([group.shape[0] for group in groups])


def _subject(groups: Groups, group: Tensor, member: Tensor) -> Tensor:
    return tf.gather(tf.concat(groups, axis=0), tf.where(group == 0, 0, groups[0].shape[0]) + member)
