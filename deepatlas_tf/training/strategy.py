"""Several GPUs or machines, by ``tf.distribute``: who draws what, who writes, and who waits for whom.

All workers run the same program on the same WORKDIR. The batch of a stage is the global batch: each replica (a device)
takes its share of it, the gradients are summed over all, and so all networks stay equal. The first worker, the chief,
alone validates and writes; the others wait for it at the next step that all take together.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from typing import Any

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.streams.pairs import WorkerShard
from deepatlas_tf.streams.prefetch import prefetch_to_gpu, without_names
from deepatlas_tf.types import DataError, SettingError

STRATEGIES = ("none", "mirrored", "multi_worker")


def get_strategy(name: str) -> tf.distribute.Strategy:
    """The TensorFlow strategy that ``--strategy`` names. Call it before anything else of TensorFlow is used.

    Args:
        name: ``"none"``, one device; ``"mirrored"``, all GPUs of this machine; ``"multi_worker"``, those of all
            machines of the environment variable ``TF_CONFIG``.

    Raises:
        SettingError: if the name is unknown, or ``TF_CONFIG`` does not say who the workers are.
    """
    if name == "none":
        return tf.distribute.get_strategy()
    if name == "mirrored":
        return tf.distribute.MirroredStrategy()
    if name != "multi_worker":
        raise SettingError(f"--strategy is one of {', '.join(STRATEGIES)}, not {name!r}")
    _check_tf_config(os.environ.get("TF_CONFIG"))
    return tf.distribute.MultiWorkerMirroredStrategy()


def _check_tf_config(text: str | None) -> None:
    example = '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}'
    try:
        config = json.loads(text or "{}")
        workers, task = config["cluster"]["worker"], config["task"]
        valid = set(config["cluster"]) == {"worker"} and task["type"] == "worker" and 0 <= task["index"] < len(workers)
    except (ValueError, TypeError, KeyError):
        valid = False
    if not valid:
        raise SettingError(f"--strategy multi_worker needs the environment variable TF_CONFIG, such as {example}")


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the chief: the worker that validates and writes the files."""
    return _resolver(strategy) is None or strategy.cluster_resolver.task_id == 0


def value_of_chief(strategy: tf.distribute.Strategy, number: int) -> int:
    """Send a number from the chief to all workers: each returns the one that the chief gave.

    All workers have to call it, and wait here for each other.
    """
    if _resolver(strategy) is None:
        return number

    def of_replica(context):
        return tf.constant(float(number if context.replica_id_in_sync_group == 0 else 0))

    values = strategy.experimental_distribute_values_from_function(of_replica)
    return int(strategy.reduce("SUM", values, axis=None))


@contextlib.contextmanager
def chief_first(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Run the block on the chief first; the other workers wait for its end and then run it."""
    if not is_chief(strategy):
        value_of_chief(strategy, 0)
    yield
    if is_chief(strategy):
        value_of_chief(strategy, 0)


@contextlib.contextmanager
def lost_workers() -> Iterator[None]:
    """Turn TensorFlow's error for a worker that has ended, within the block, into a DataError of one line."""
    try:
        yield
    except tf.errors.OpError as error:
        if "Collective ops is aborted" not in str(error):
            raise
        raise DataError(
            "another worker has ended: start the command again on all workers, and it goes on from the last checkpoint"
        ) from error


def check_batch(stage_name: str, batch_size: int, strategy: tf.distribute.Strategy) -> None:
    """Raise SettingError unless the batch can be divided equally among the devices."""
    n = strategy.num_replicas_in_sync
    if batch_size % n:
        enough = -(-batch_size // n) * n
        raise SettingError(
            f"stage {stage_name}: a batch of {batch_size} cannot be shared by {n} devices: "
            f"--set stages.{stage_name}.batch_size={enough}, or that of all stages, "
            f'--set "stages.*.batch_size={enough}"'
        )


def distribute(strategy: tf.distribute.Strategy, stream: Callable[[WorkerShard], tf.data.Dataset]) -> Any:
    """Make the batches that ``fit`` is given: on one device the whole ones, else the part of each device.

    Args:
        strategy: what :func:`get_strategy` returned.
        stream: function from the part of a worker to an endless stream of batches for its devices, in turn. Endless,
            so that there is no smaller batch at the end.
    """
    if strategy is tf.distribute.get_strategy():
        return prefetch_to_gpu(stream(WorkerShard()))

    def of_worker(context):
        shard = WorkerShard(context.input_pipeline_id, context.num_input_pipelines, context.num_replicas_in_sync)
        return without_names(stream(shard))

    return strategy.distribute_datasets_from_function(of_worker)


def _resolver(strategy):
    """The resolver that knows the addresses of the other machines; None if there are none."""
    return strategy.cluster_resolver if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) else None
