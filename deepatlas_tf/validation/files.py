"""Files of results, written whole or not at all."""

import contextlib
import os
from pathlib import Path

from google.protobuf import text_format
from google.protobuf.message import Message

from deepatlas_tf.types import DataError


def write_whole(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8; where the disk does not take all of it, an earlier file stays as it was.

    Raises DataError with the path.
    """
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(text.encode("utf-8"))
        os.replace(temporary, path)
    except OSError as error:
        raise DataError(f"cannot write {path} ({error.strerror or error}); choose another folder with -o") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def save_proto(path: Path, proto: Message) -> None:
    """Write a protocol buffer as text, readable and with UTF-8 names as they are. Raises DataError with the path."""
    write_whole(path, text_format.MessageToString(proto, as_utf8=True))
