"""Pairs between two domains: who is drawn on which side."""

import numpy as np
import pytest

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.streams.augment import Augmentation
from deepatlas_tf.streams.pairs import StreamSettings, domain_pair_stream, only_subjects
from deepatlas_tf.types import DataError

NAMES = tuple(f"s{i:02d}" for i in range(12))
A, B = NAMES[::2], NAMES[1::2]


def samples(shape=(8, 8)):
    rng = np.random.default_rng(0)
    return tf.data.Dataset.from_tensor_slices(
        {
            "image": rng.random((12, *shape, 1), dtype=np.float32),
            "label": rng.integers(0, 3, (12, *shape)).astype(np.int32),
            "label_weight": np.ones((12, 3), np.float32),
            "subject": list(NAMES),
        }
    )


def drawn(fraction=(None, None), steps=60, first_epoch=0, **more):
    settings = StreamSettings(batch_size=4, steps_per_epoch=steps, seed=0, **more)
    stream = domain_pair_stream(samples(), (A, B), A[:2], fraction, settings, first_epoch).take(steps)
    return [np.concatenate([batch[side]["subject"] for batch in stream]).astype(str) for side in ("moving", "fixed")]


def test_each_side_is_of_its_own_domain_and_everybody_is_drawn():
    moving, fixed = drawn()
    assert set(moving) == set(A) and set(fixed) == set(B)
    places = [np.searchsorted(side, found) for side, found in ((A, moving), (B, fixed))]
    assert abs(np.corrcoef(places)[0, 1]) < 0.25  # the two sides are independent


def test_the_labelled_are_drawn_as_often_as_asked():
    moving, fixed = drawn((1.0, None))
    assert set(moving) == set(A[:2]) and set(fixed) == set(B)
    with pytest.raises(DataError, match="no subject is labelled"):
        drawn((None, 1.0))


@pytest.mark.slow
def test_an_epoch_is_the_same_after_a_resume():
    settings = StreamSettings(batch_size=2, steps_per_epoch=3, seed=0, augmentation=Augmentation())

    def stream(first_epoch):
        return domain_pair_stream(samples(), (A, B), (), (None, None), settings, first_epoch)

    for one, other in zip(stream(0).skip(3).take(3), stream(1).take(3), strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, one, other)


def test_of_subjects_keeps_the_order():
    found = [s["subject"].numpy().decode() for s in only_subjects(samples(), B[::-1])]
    assert found == list(B)
