"""Writing the networks of a stage, and a plain message where the disk is full or a folder may not be written."""

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
    """Turn an error of writing within the block into a DataError that names ``path`` and says what to do.

    It is for a full disk or a missing permission, for which TensorFlow and HDF5 raise errors of their own.
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
    """Write the weights of a network to ``path``, whole or not at all. Raises DataError where that is impossible."""
    with taken_by_disk(path), replacing(path) as temporary:
        net.save_weights(str(temporary))


def save_nets(nets: Mapping[str, keras.Model], folder: StageFolder) -> None:
    """Write each network with its best weights as ``nets/<name>.keras`` in the folder of the stage.

    The folder ``nets`` appears only when all are written. A network of which no best weights were kept is written as it
    is now. Raises DataError where they cannot be written.
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
