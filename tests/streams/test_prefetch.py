from types import SimpleNamespace

import numpy as np

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.streams.prefetch import prefetch_to_gpu


def batches():
    side = {"image": np.arange(12, dtype=np.float32).reshape(6, 2), "subject": list("abcdef")}
    return tf.data.Dataset.from_tensor_slices({"moving": side, "fixed": side}).batch(2)


def test_without_a_gpu_the_stream_stays_as_it_is(monkeypatch):
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [])
    stream = batches()
    assert prefetch_to_gpu(stream) is stream


def test_the_same_batches_come_from_the_device(monkeypatch):
    """The CPU takes the place of a GPU; with a real one they are looked for on it."""
    found = tf.config.list_logical_devices("GPU") or [SimpleNamespace(name="/device:CPU:0")]
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: found)
    stream = prefetch_to_gpu(batches())
    got, expected = list(stream), list(batches())
    assert len(got) == len(expected) == 3 and got[0]["moving"]["image"].device.endswith(found[0].name)
    for one, other in zip(got, expected, strict=True):
        for side in ("moving", "fixed"):
            assert set(one[side]) == {"image"}, "a GPU holds no strings"
            np.testing.assert_array_equal(one[side]["image"], other[side]["image"])
