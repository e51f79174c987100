"""Batches wait where the networks are, and nothing waits for their stream."""

from deepatlas_tf.keras_stack import tf


def prefetch_to_gpu(stream: tf.data.Dataset) -> tf.data.Dataset:
    """The stream, its next two batches copied to the first GPU while the step runs; as it is where there is no GPU.

    It has to be the last step of the pipeline. Names of subjects are left out: a GPU holds no strings.
    """
    gpus = tf.config.list_logical_devices("GPU")
    if not gpus:
        return stream
    return without_names(stream).apply(tf.data.experimental.prefetch_to_device(gpus[0].name, buffer_size=2))


def without_names(stream: tf.data.Dataset) -> tf.data.Dataset:
    """Leave the strings out of the batches: they stay on the CPU."""
    return stream.map(_numbers)


def _numbers(batch: dict) -> dict:
    parts = {name: _numbers(part) if isinstance(part, dict) else part for name, part in batch.items()}
    return {name: part for name, part in parts.items() if isinstance(part, dict) or part.dtype != tf.string}


def untuned() -> tf.data.Options:
    """No tuning while a stream is read: its end would wait for the tuner's next turn, which may be a minute away."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return options
