import collections
import itertools

import numpy as np
import pytest
import scipy.stats

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.streams.augment import Augmentation
from deepatlas_tf.streams.pairs import StreamSettings, hide_labels, labelled_subjects, pair_stream, sample_stream
from deepatlas_tf.types import DataError

SIXTEEN = 16 * 2 * (5 * 8 * 8 + 12) / 2**30  # GiB for sixteen subjects of 8 x 8; a label is a byte


def names(n):
    return tuple(f"s{i:02d}" for i in range(n))


def make_samples(n, shape=(8, 8)):
    rng = np.random.RandomState(0)
    return tf.data.Dataset.from_tensor_slices(
        {
            "image": rng.rand(n, *shape, 1).astype(np.float32),
            "label": rng.randint(1, 3, (n, *shape)).astype(np.int32),
            "label_weight": np.ones((n, 3), np.float32),
            "subject": list(names(n)),
        }
    )


def settings(steps=50, batch=4, seed=0, **more):
    return StreamSettings(batch_size=batch, steps_per_epoch=steps, seed=seed, **more)


def drawn_pairs(n, labelled, fraction, stream_settings, n_epochs=1, samples=None):
    """(N, 2) names of the subjects on the (moving, fixed) side."""
    samples = samples or make_samples(n)
    stream = pair_stream(samples, names(n), labelled, fraction, stream_settings)
    batches = stream.take(stream_settings.steps_per_epoch * n_epochs)
    found = [np.stack([b["moving"]["subject"], b["fixed"]["subject"]], 1) for b in batches]
    return np.concatenate(found).astype(str)


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 6)])
def test_batches_keep_the_contract_with_static_shapes(shape):
    stream = pair_stream(make_samples(3, shape), names(3), (), (None, None), settings(augmentation=Augmentation()))
    for side in ("moving", "fixed"):
        spec = stream.element_spec[side]
        assert spec["image"] == tf.TensorSpec((4, *shape, 1), tf.float32)
        assert spec["label"] == tf.TensorSpec((4, *shape), tf.int32)
        assert spec["label_weight"] == tf.TensorSpec((4, 3), tf.float32)
        assert spec["subject"] == tf.TensorSpec((4,), tf.string)
    stream = sample_stream(make_samples(3, shape), names(3), (), None, settings())
    assert stream.element_spec["image"] == tf.TensorSpec((4, *shape, 1), tf.float32)


def test_the_end_of_a_stream_waits_for_no_tuning():
    stream = pair_stream(make_samples(3), names(3), (), (None, None), settings(augmentation=Augmentation()))
    assert stream.options().autotune.enabled is False


def test_a_drawn_sample_is_the_subjects_own():
    originals = {s["subject"].numpy(): s for s in make_samples(6)}
    for batch in pair_stream(make_samples(6), names(6), ("s01",), (0.5, None), settings()).take(5):
        for side, i in itertools.product(("moving", "fixed"), range(4)):
            original = originals[batch[side]["subject"][i].numpy()]
            np.testing.assert_array_equal(batch[side]["image"][i], original["image"])
            np.testing.assert_array_equal(batch[side]["label"][i], original["label"])


@pytest.mark.slow
@pytest.mark.parametrize("memory_gib", [2.0, SIXTEEN])
@pytest.mark.parametrize("kind", ["pairs", "samples"])
def test_an_epoch_is_the_same_after_a_resume(kind, memory_gib):
    chosen = settings(steps=5, memory_gib=memory_gib, augmentation=Augmentation())

    def stream(first_epoch):
        make, fraction = (pair_stream, (0.5, None)) if kind == "pairs" else (sample_stream, 0.5)
        return make(make_samples(30), names(30), names(30)[:3], fraction, chosen, first_epoch)

    from_start = list(stream(0).skip(2 * 5).take(10))
    resumed = list(stream(2).take(10))
    for one, other in zip(from_start, resumed, strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, one, other)
    assert np.any(resumed[0].get("moving", resumed[0])["image"] != resumed[5].get("moving", resumed[5])["image"])


def test_the_seed_changes_who_is_drawn():
    first, same, other = (drawn_pairs(6, (), (None, None), settings(seed=s)) for s in (1, 1, 2))
    assert np.array_equal(first, same) and not np.array_equal(first, other)


@pytest.mark.parametrize("n_labelled", [0, 1, 3, 5])
def test_without_fractions_every_ordered_pair_is_equally_likely(n_labelled):
    found = drawn_pairs(5, names(5)[:n_labelled], (None, None), settings(steps=500))
    counts = collections.Counter(map(tuple, found))
    assert set(counts) == set(itertools.permutations(names(5), 2))
    assert scipy.stats.chisquare(list(counts.values())).pvalue > 0.001


def test_two_subjects_come_in_both_orders():
    counts = collections.Counter(map(tuple, drawn_pairs(2, ("s00",), (None, None), settings(steps=100))))
    assert set(counts) == {("s00", "s01"), ("s01", "s00")}
    assert abs(counts["s00", "s01"] - 200) < 50


@pytest.mark.slow
@pytest.mark.parametrize("fraction", [(0.5, None), (None, 0.8), (0.3, 0.7), (1.0, 0.0), (1.0, 1.0), (0.0, None)])
def test_each_side_is_labelled_as_often_as_asked(fraction):
    labelled = names(12)[:4]
    found = drawn_pairs(12, labelled, fraction, settings(steps=500))
    assert np.all(found[:, 0] != found[:, 1])
    for side, (own, other) in enumerate([fraction, fraction[::-1]]):
        # a side drawn from all the rest finds one labelled subject fewer where the other side took it
        expected = (4 - other) / 11 if own is None else own
        assert np.isin(found[:, side], labelled).mean() == pytest.approx(expected, abs=0.05)


def test_one_labelled_subject_is_never_paired_with_itself():
    found = drawn_pairs(4, ("s02",), (0.5, 0.5), settings(steps=200))
    is_labelled = found == "s02"
    assert is_labelled.sum(axis=1).max() == 1
    assert is_labelled.mean(axis=0) == pytest.approx([1 / 3, 1 / 3], abs=0.06)


@pytest.mark.slow
def test_samples_are_drawn_uniformly_or_by_fraction():
    def counts(labelled, fraction):
        stream = sample_stream(make_samples(6), names(6), labelled, fraction, settings(steps=300))
        found = np.concatenate([b["subject"].numpy() for b in stream.take(300)]).astype(str)
        return np.array([(found == name).mean() for name in names(6)])

    np.testing.assert_allclose(counts(("s00", "s01"), None), 1 / 6, atol=0.05)
    np.testing.assert_allclose(counts(("s00", "s01"), 0.8), [0.4, 0.4, 0.05, 0.05, 0.05, 0.05], atol=0.05)
    np.testing.assert_allclose(counts(("s00", "s01"), 1.0), [0.5, 0.5, 0, 0, 0, 0], atol=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("labelled", [(), names(40)[:5], names(40)])
def test_a_small_budget_bounds_who_is_present_in_an_epoch_and_still_reaches_everybody(labelled):
    fraction = (0.5, None) if labelled else (None, None)
    chosen = settings(steps=60, memory_gib=SIXTEEN)
    found = drawn_pairs(40, labelled, fraction, chosen, n_epochs=12).reshape(12, -1)
    present = [set(epoch) for epoch in found]
    assert max(map(len, present)) == 16
    assert len(set.union(*present)) == 40
    assert len(set(map(frozenset, present))) > 1
    pairs = found.reshape(-1, 2)
    assert np.all(pairs[:, 0] != pairs[:, 1])
    if len(labelled) == 5:
        assert np.isin(pairs[:, 0], labelled).mean() == pytest.approx(0.5, abs=0.05)


def test_sides_of_a_pair_are_augmented_independently():
    one = next(iter(make_samples(1)))
    twins = tf.data.Dataset.from_tensors(one).repeat(2)
    twins = tf.data.Dataset.zip((twins, tf.data.Dataset.from_tensor_slices(list(names(2)))))
    twins = twins.map(lambda sample, name: {**sample, "subject": name})
    stream = pair_stream(twins, names(2), (), (None, None), settings(augmentation=Augmentation()))
    batch = next(iter(stream))
    images = np.concatenate([batch["moving"]["image"], batch["fixed"]["image"]])
    for one, other in itertools.combinations(images, 2):
        assert np.abs(one - other).mean() > 0.01


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 4)])
def test_hide_labels_zeroes_label_and_weight_of_the_others_only(shape):
    before, after = list(make_samples(3, shape)), list(hide_labels(make_samples(3, shape), ("s01",)))
    for i in (0, 2):
        assert not np.any(after[i]["label"]) and not np.any(after[i]["label_weight"])
        np.testing.assert_array_equal(after[i]["image"], before[i]["image"])
    tf.nest.map_structure(np.testing.assert_array_equal, after[1], before[1])
    assert not any(np.any(s["label_weight"]) for s in hide_labels(make_samples(3, shape), ()))


def test_labelled_subjects_are_the_first_for_seed_0_and_drawn_for_others():
    ids = names(20)
    assert labelled_subjects(ids, 3, 0) == ids[:3]
    assert labelled_subjects(ids, None, 5) == ids
    draws = {labelled_subjects(ids, 3, seed) for seed in range(1, 10)}
    assert len(draws) > 5 and all(len(set(d) & set(ids)) == 3 for d in draws)
    assert labelled_subjects(ids, 3, 4) == labelled_subjects(ids, 3, 4)


def test_impossible_requests_say_what_is_there():
    with pytest.raises(DataError, match="9 labelled subjects are asked for, but there are 4"):
        labelled_subjects(names(4), 9, 0)
    cases = [
        (1, ("s00",), (None, None), "no pair of two subjects can be drawn .* 1 labelled and 0 other"),
        (4, ("s00",), (1.0, 1.0), "no pair of two subjects can be drawn .* 1 labelled and 3 other"),
        (4, (), (0.5, None), "no subject is labelled"),
        (4, ("s00",), (1.5, None), "labelled_fraction=1.5 is not between 0 and 1"),
        (4, ("nobody",), (None, None), "subject nobody is to be labelled but is not among the 4 subjects"),
    ]
    for n, labelled, fraction, message in cases:
        with pytest.raises(DataError, match=message):
            pair_stream(make_samples(n), names(n), labelled, fraction, settings())
    with pytest.raises(DataError, match="no sample can be drawn"):
        sample_stream(make_samples(2), names(2), names(2), 0.0, settings())
    with pytest.raises(ValueError, match="the samples are"):
        pair_stream(make_samples(3), names(3)[::-1], (), (None, None), settings())
