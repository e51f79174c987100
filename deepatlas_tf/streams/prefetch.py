"""Loading batches ahead: onto the GPU while the step before runs, and without a wait when a stream ends."""

from deepatlas_tf.keras_stack import tf


def prefetch_to_gpu(stream: tf.data.Dataset) -> tf.data.Dataset:
    """Copy the next two batches of a stream to the first GPU while a step runs; without a GPU nothing changes.

    It has to be the last step of the pipeline. The names of the subjects are left out: a GPU holds no strings.
    """
    gpus = tf.config.list_logical_devices("GPU")
    if not gpus:
        return stream
    return without_names(stream).apply(tf.data.experimental.prefetch_to_device(gpus[0].name, buffer_size=2))


def without_names(stream: tf.data.Dataset) -> tf.data.Dataset:
    """The stream without the strings in its batches, which a GPU cannot hold."""
    return stream.map(_numbers)


def _numbers(batch: dict) -> dict:
    parts = {name: _numbers(part) if isinstance(part, dict) else part for name, part in batch.items()}
    return {name: part for name, part in parts.items() if isinstance(part, dict) or part.dtype != tf.string}


def untuned() -> tf.data.Options:
    """Options for a stream that is read without tuning by TensorFlow.

    The end of a tuned stream waits for the tuner's next turn, which may be a minute away.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return options
