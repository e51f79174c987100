"""Endless streams of batched samples and pairs, drawn from a data set of which some subjects are labelled.

Who is drawn is decided first, by stateless random numbers of (seed, epoch), and only then are the scans looked up.
So epoch ``e`` is the same whether a run began at epoch 0 or was resumed at ``e``, and the two sides of a pair are
independent. The scans are looked up in a table in memory. Where the memory budget cannot hold all subjects, every
epoch fills the table with other ones, in one pass through the records.
"""

import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from deepatlas_tf.keras_stack import as_written, tf
from deepatlas_tf.processor import usable_cores
from deepatlas_tf.streams import draws
from deepatlas_tf.streams.augment import Augmentation, augment
from deepatlas_tf.streams.draws import LabelledFraction
from deepatlas_tf.streams.memory import resident_subjects, with_labels_of_a_byte
from deepatlas_tf.streams.patches import Patches, random_patch, with_voxel_weight
from deepatlas_tf.streams.prefetch import untuned
from deepatlas_tf.streams.pseudo_masks import decoded
from deepatlas_tf.types import DataError, Pair, Sample, Tensor

MOST_CALLS = 8  # pairs that are augmented at a time, each on a core; each takes the memory of a pair


@dataclasses.dataclass(frozen=True)
class WorkerShard:
    """The part of each batch that one worker takes, where several share the batches.

    worker: number of this worker, counted from 0. workers: how many there are. replicas: how many devices all workers
    have together; the worker's part is cut into one for each of its own devices.
    """

    worker: int = 0
    workers: int = 1
    replicas: int = 1


@dataclasses.dataclass(frozen=True)
class StreamSettings:
    """How a stream is drawn and batched.

    batch_size: samples or pairs in a batch, of all devices together.
    steps_per_epoch: batches in an epoch.
    seed: all draws follow from it and the number of the epoch.
    memory_gib: memory in GiB for the scans that are drawn from.
    augmentation: how each sample is changed at random; None leaves it as it is.
    shard: the part of each batch that this worker takes. What is drawn for a batch does not depend on it.
    patches: what is cut from each sample before it is augmented; None takes whole samples.
    ignores: whether label maps may have ignored voxels, so that whole samples have ``known``.
    """

    batch_size: int
    steps_per_epoch: int
    seed: int
    memory_gib: float = 2.0
    augmentation: Augmentation | None = None
    shard: WorkerShard = WorkerShard()
    patches: Patches | None = None
    ignores: bool = False


def labelled_subjects(subjects: Sequence[str], n: int | None, seed: int = 0) -> tuple[str, ...]:
    """Choose ``n`` subjects whose label is used: for seed 0 the first ones, for other seeds ``n`` drawn at random.

    None takes all. Raises DataError where there are fewer than ``n`` subjects.
    """
    if n is None:
        return tuple(subjects)
    if not 0 <= n <= len(subjects):
        raise DataError(f"{n} labelled subjects are asked for, but there are {len(subjects)}: ask for 0 to that many")
    if seed == 0:
        return tuple(subjects[:n])
    drawn = np.random.RandomState(seed).permutation(len(subjects))[:n]
    return tuple(subjects[i] for i in sorted(drawn))


@as_written
def hide_labels(samples: tf.data.Dataset, labelled: Collection[str]) -> tf.data.Dataset:
    """The samples without the labels of the subjects that are not ``labelled``: label and label_weight become 0."""
    keep = tf.constant(list(labelled), tf.string)

    def hide(sample):
        kept = tf.reduce_any(sample["subject"] == keep)
        label = tf.where(kept, sample["label"], tf.zeros_like(sample["label"]))
        weight = tf.where(kept, sample["label_weight"], tf.zeros_like(sample["label_weight"]))
        return {**sample, "label": label, "label_weight": weight}

    return samples.map(hide)


@as_written
def only_subjects(samples: tf.data.Dataset, subjects: Collection[str]) -> tf.data.Dataset:
    """The samples of the given subjects only, in the order of ``samples``."""
    chosen = tf.constant(list(subjects), tf.string)
    return samples.filter(lambda sample: tf.reduce_any(sample["subject"] == chosen))


def sample_stream(
    samples: tf.data.Dataset,
    subjects: Sequence[str],
    labelled: Collection[str],
    labelled_fraction: LabelledFraction,
    settings: StreamSettings,
    first_epoch: int = 0,
) -> tf.data.Dataset:
    """Endless batches of :class:`~deepatlas_tf.types.Sample`, drawn with replacement.

    ``labelled_fraction`` is the probability of a labelled subject; the other arguments and the errors are those of
    :func:`pair_stream`.
    """
    groups = draws.groups_of(subjects, labelled)
    sizes = np.array([len(group) for group in groups])
    weights = draws.group_weights(labelled_fraction, sizes) * (sizes > 0)
    if not weights.sum():
        raise draws.impossible("sample", sizes, labelled_fraction)
    stream = _stream(samples, subjects, groups, functools.partial(draws.draw_samples, weights), settings, first_epoch)
    return stream.map(lambda sample: sample)


def pair_stream(
    samples: tf.data.Dataset,
    subjects: Sequence[str],
    labelled: Collection[str],
    labelled_fraction: tuple[LabelledFraction, LabelledFraction],
    settings: StreamSettings,
    first_epoch: int = 0,
) -> tf.data.Dataset:
    """Endless batches of :class:`~deepatlas_tf.types.Pair`, each of two different subjects, with static shapes.

    The two sides of a pair are augmented independently.

    Args:
        samples: one sample of each of the ``subjects``, in their order.
        subjects: who can be drawn.
        labelled: which of them count as labelled when they are drawn. Their labels are not touched here, see
            :func:`hide_labels`.
        labelled_fraction: for the (moving, fixed) side, the probability of a labelled subject; None draws from all
            alike, so (None, None) makes every ordered pair equally likely. Where a combination cannot be drawn, such as
            one labelled subject on both sides, the others share its probability.
        settings: batches, seed, memory and augmentation.
        first_epoch: the epoch to begin with; each epoch is the same whichever is the first.

    Raises:
        DataError: if nothing can be drawn, or the memory is too small.
    """
    groups = draws.groups_of(subjects, labelled)
    sizes = np.array([len(group) for group in groups])
    weights = draws.pair_weights(labelled_fraction, sizes)
    if not weights.sum():
        raise draws.impossible("pair of two subjects", sizes, labelled_fraction)
    stream = _stream(samples, subjects, groups, functools.partial(draws.draw_pairs, weights), settings, first_epoch)
    return stream.map(lambda moving, fixed: Pair(moving=moving, fixed=fixed))


def domain_pair_stream(
    samples: tf.data.Dataset,
    sides: tuple[Sequence[str], Sequence[str]],
    labelled: Collection[str],
    labelled_fraction: tuple[LabelledFraction, LabelledFraction],
    settings: StreamSettings,
    first_epoch: int = 0,
) -> tf.data.Dataset:
    """Endless batches of :class:`~deepatlas_tf.types.Pair` whose two sides are drawn from different domains.

    ``sides`` are the subjects of the moving and of the fixed domain, which have none in common; each side gets half of
    the memory. The other arguments and the errors are those of :func:`pair_stream`.
    """
    settings = dataclasses.replace(settings, memory_gib=settings.memory_gib / 2)
    streams = []
    for side, subjects in enumerate(sides):
        own = only_subjects(samples, subjects)
        own_labelled = [subject for subject in subjects if subject in labelled]
        own_settings = dataclasses.replace(settings, seed=settings.seed if side == 0 else ~settings.seed)
        streams.append(sample_stream(own, subjects, own_labelled, labelled_fraction[side], own_settings, first_epoch))
    return tf.data.Dataset.zip(tuple(streams)).map(lambda moving, fixed: Pair(moving=moving, fixed=fixed))


@as_written
def _stream(
    samples: tf.data.Dataset,
    subjects: Sequence[str],
    groups: draws.Groups,
    draw: Callable[[draws.Groups, int, Tensor], Tensor],
    settings: StreamSettings,
    first_epoch: int,
) -> tf.data.Dataset:
    """Batches of tuples of samples, whose subjects are drawn by ``draw``.

    ``draw(groups, n, seed)`` gives an (n, sides) tensor of subject numbers: a tuple has a sample for each column.
    """
    n_draws = settings.batch_size * settings.steps_per_epoch
    samples = with_labels_of_a_byte(samples)
    n_resident = resident_subjects(samples, len(subjects), settings.memory_gib)
    everyone = _load(samples, subjects) if n_resident == len(subjects) else None

    def one_epoch(epoch):
        epoch_seed = tf.random.fold_in(tf.constant([settings.seed, 0], tf.int64), epoch)
        resident_seed, draw_seed, augment_seed = tf.unstack(tf.random.split(epoch_seed, 3))
        present = groups if everyone is not None else draws.draw_resident(groups, n_resident, resident_seed)
        resident = tf.sort(tf.concat(present, axis=0))
        chosen = draw(present, n_draws, draw_seed)  # (n, sides) numbers of subjects
        sides = chosen.shape[1]
        rows = tf.reshape(tf.searchsorted(resident, tf.reshape(chosen, [-1])), (n_draws, sides))
        seeds = tf.reshape(tf.random.split(augment_seed, n_draws * sides), (n_draws, sides, 2))
        drawn = tf.data.Dataset.from_tensor_slices((_own(rows, settings), _own(seeds, settings)))
        tables = everyone if everyone is not None else _read(samples, resident)
        return tables.flat_map(lambda table: drawn.map(lambda row, seed: (_look_up(table, row), seed)))

    patches = settings.patches

    def change(sides, seeds):
        if patches is not None:
            each = zip(sides, tf.unstack(seeds), strict=True)
            return tuple(_patch(side, patches, settings.augmentation, seed) for side, seed in each)
        sides = tuple({**decoded(side), "label": tf.cast(side["label"], tf.int32)} for side in sides)
        if settings.augmentation is not None:
            each = zip(sides, tf.unstack(seeds), strict=True)
            sides = tuple(augment(side, settings.augmentation, seed) for side, seed in each)
        return tuple(map(_with_known, sides)) if settings.ignores else sides

    stream = tf.data.Dataset.range(first_epoch, tf.int64.max).flat_map(one_epoch)
    stream = stream.map(change, num_parallel_calls=min(usable_cores(), MOST_CALLS), deterministic=True)
    stream = stream.batch(settings.batch_size // settings.shard.replicas, drop_remainder=True).prefetch(2)
    return stream.with_options(untuned())


def _patch(sample: Sample, patches: Patches, augmentation: Augmentation | None, seed: Tensor) -> Sample:
    """A patch of a sample of the table, augmented."""
    place_seed, augment_seed = tf.unstack(tf.random.split(seed, 2))
    patch = random_patch(sample, patches, place_seed)
    patch["label"] = tf.cast(patch["label"], tf.int32)
    if augmentation is not None:
        patch = augment(patch, augmentation, augment_seed)
    return with_voxel_weight(patch)


def _with_known(sample: Sample) -> Sample:
    """The sample with ``known (*S, 1)`` float32: 0 where the label is ``C``, which says that it is ignored; else 1."""
    known = sample["label"] < sample["label_weight"].shape[-1]
    return {**sample, "known": tf.cast(known, tf.float32)[..., tf.newaxis]}


def _own(draws: Tensor, settings: StreamSettings) -> Tensor:
    """Of all draws (n, ...) of an epoch, those of this worker's part of each batch, in order: (m, ...)."""
    shard, size = settings.shard, settings.batch_size // settings.shard.workers
    batches = tf.reshape(draws, (settings.steps_per_epoch, settings.batch_size, *draws.shape[1:]))
    own = batches[:, shard.worker * size : (shard.worker + 1) * size]
    return tf.reshape(own, (-1, *draws.shape[1:]))


def _load(samples: tf.data.Dataset, subjects: Sequence[str]) -> tf.data.Dataset:
    table = next(iter(samples.batch(len(subjects))))
    found = [name.decode() for name in table["subject"].numpy()]
    if found != list(subjects):
        raise ValueError(f"the samples are {found[:3]}..., but the subjects are {list(subjects[:3])}...")
    return tf.data.Dataset.from_tensors(table)


def _read(samples: tf.data.Dataset, resident: Tensor) -> tf.data.Dataset:
    chosen = samples.enumerate().filter(lambda i, _: tf.reduce_any(tf.cast(i, tf.int32) == resident))
    return chosen.map(lambda _, sample: sample).batch(resident.shape[0], drop_remainder=True)


def _look_up(table: Mapping[str, Tensor], row: Tensor) -> tuple:
    return tuple({name: values[r] for name, values in table.items()} for r in tf.unstack(row))
