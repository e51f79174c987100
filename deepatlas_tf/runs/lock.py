"""One process at a time trains in a folder: a lock that ends with its process, however that ends."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from deepatlas_tf.types import DataError

try:
    import fcntl
except ImportError:  # Windows, where nothing is locked
    fcntl = None  # type: ignore[assignment]

HELD = {errno.EACCES, errno.EAGAIN}


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file, which is made; a file that is left there is not a lock that is held.

    Raises:
        DataError: if another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in HELD:
                    raise DataError(_message(path.parent, file)) from None
                # a file system without locks: go on as if there were none
        with contextlib.suppress(OSError):  # a full disk: the number is only for the message
            file.seek(0)
            file.truncate()
            file.write(f"{os.getpid()}\n")
            file.flush()
        yield


def _message(folder: Path, file: TextIO) -> str:
    file.seek(0)
    process = file.read(20).strip()
    who = f"process {process}" if process.isdigit() else "another process"
    return f"{who} is training in {folder}: wait for it, or choose another --workdir"
