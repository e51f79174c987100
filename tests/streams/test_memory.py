import numpy as np
import pytest

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.streams.memory import bytes_per_sample, resident_subjects
from deepatlas_tf.types import DataError


def make_samples(shape, n=2):
    return tf.data.Dataset.from_tensor_slices(
        {
            "image": np.zeros((n, *shape, 1), np.float32),
            "label": np.zeros((n, *shape), np.int32),
            "label_weight": np.zeros(n, np.float32),
            "subject": [f"s{i}" for i in range(n)],
        }
    )


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 4)])
def test_bytes_per_sample_counts_image_label_and_weight(shape):
    assert bytes_per_sample(make_samples(shape)) == 8 * np.prod(shape) + 4


def test_everybody_is_resident_within_the_budget_and_a_part_beyond_it():
    samples = make_samples((16, 16, 16))
    one = 2 * (8 * 16**3 + 4) / 2**30
    assert resident_subjects(samples, 100, 2.0) == 100
    assert resident_subjects(samples, 100, 10.5 * one) == 10
    assert resident_subjects(samples, 2, 2.5 * one) == 2


def test_too_small_a_budget_is_an_error_that_says_how_much_is_needed():
    samples = make_samples((16, 16, 16))
    with pytest.raises(DataError, match=r"memory_gib=1e-05 .* at least 0.00024 is needed"):
        resident_subjects(samples, 100, 1e-5)
