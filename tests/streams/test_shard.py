"""What several workers draw is together what one draws."""

import numpy as np
import pytest

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.streams.augment import Augmentation
from deepatlas_tf.streams.pairs import StreamSettings, WorkerShard, pair_stream, sample_stream

N_SUBJECTS, N_STEPS = 6, 3
SUBJECTS = [f"s{i}" for i in range(N_SUBJECTS)]


def samples():
    rng = np.random.default_rng(0)
    return tf.data.Dataset.from_tensor_slices(
        {
            "image": rng.random((N_SUBJECTS, 8, 8, 1), np.float32),
            "label": rng.integers(0, 3, (N_SUBJECTS, 8, 8)).astype(np.int32),
            "label_weight": np.ones((N_SUBJECTS, 3), np.float32),
            "subject": SUBJECTS,
        }
    )


def batches(make, n, shard, memory_gib):
    """The first n batches of a stream of 4 samples or pairs a batch."""
    fraction = (0.5, None) if make is pair_stream else 0.5
    settings = StreamSettings(4, N_STEPS, 7, memory_gib, Augmentation(), shard)
    return list(make(samples(), SUBJECTS, SUBJECTS[:2], fraction, settings).take(n))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "memory_gib", "workers", "devices"),
    [(pair_stream, 1.0, 2, 2), (pair_stream, 3.2e-6, 2, 1), (sample_stream, 1.0, 1, 2)],
    ids=["all in memory", "some in memory", "samples"],
)
def test_the_shards_of_all_devices_are_the_batch(make, memory_gib, workers, devices):
    n_batches = 2 * N_STEPS  # two epochs
    whole = batches(make, n_batches, WorkerShard(), memory_gib)
    replicas = workers * devices
    shards = [batches(make, n_batches * devices, WorkerShard(w, workers, replicas), memory_gib) for w in range(workers)]
    for step, expected in enumerate(whole):
        parts = [shards[w][step * devices + d] for w in range(workers) for d in range(devices)]
        found = tf.nest.map_structure(lambda *tensors: np.concatenate(tensors), *parts)
        tf.nest.map_structure(np.testing.assert_array_equal, found, expected)
