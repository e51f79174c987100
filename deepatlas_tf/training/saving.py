"""What training writes for a stage, and what it says where the disk does not take it."""

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from deepatlas_tf.keras_stack import keras, tf
from deepatlas_tf.runs.files import replacing
from deepatlas_tf.runs.folder import StageFolder
from deepatlas_tf.types import DataError


@contextlib.contextmanager
def taken_by_disk(path: Path) -> Iterator[None]:
    """DataError with the path and what to do, where what the block writes cannot be written.

    TensorFlow and HDF5 raise errors of their own for a full disk or a folder without permission.
    """
    try:
        yield
    except (OSError, RuntimeError, tf.errors.OpError) as error:
        if isinstance(error, tf.errors.OpError):
            reason = error.message
        else:
            reason = getattr(error, "strerror", None) or str(error)
        raise DataError(
            f"cannot write {path} ({_short(reason)}): free space or change permissions, then run the same command "
            "again, which goes on from the last checkpoint"
        ) from error


def save_best_weights(net: keras.Model, path: Path) -> None:
    """Write the weights of a network, whole or not at all; DataError where the disk does not take them."""
    with taken_by_disk(path), replacing(path) as temporary:
        net.save_weights(str(temporary))


def save_nets(nets: Mapping[str, keras.Model], folder: StageFolder) -> None:
    """Write the best weights of each net as ``nets/<name>.keras``; the folder appears when all are written.

    A net without best weights is written as it is. Raises DataError where the disk does not take them.
    """
    with taken_by_disk(folder.nets):
        shutil.rmtree(folder.unfinished_nets, ignore_errors=True)
        folder.unfinished_nets.mkdir(parents=True)
        for name, net in nets.items():
            best = folder.best_weights(name)
            if best.exists():
                net.load_weights(str(best))
            net.save(folder.unfinished_nets / folder.net(name).name, save_format="keras")
        folder.unfinished_nets.rename(folder.nets)


def _short(reason: str) -> str:
    """The last part of a long reason in one line: TensorFlow and HDF5 put what the system said last."""
    line = " ".join(reason.split())
    return line if len(line) <= 160 else f"... {line[-160:]}"
