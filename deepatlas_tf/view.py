"""How pictures are turned: as radiologists look at scans, with the patient's right on the left, or the other way."""

import argparse
import contextlib
import contextvars
from collections.abc import Iterator

_NEUROLOGICAL = contextvars.ContextVar("neurological", default=False)


def is_neurological() -> bool:
    """Whether the patient's right is on the right of coronal and axial pictures."""
    return _NEUROLOGICAL.get()


def add_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--neurological`` to a command that draws pictures."""
    parser.add_argument(
        "--neurological",
        action="store_true",
        help="pictures have the patient's right on the right; default: on the left, as radiologists see it",
    )


@contextlib.contextmanager
def turned(neurological: bool) -> Iterator[None]:
    """Draw pictures in neurological view within the block, or in radiological view."""
    token = _NEUROLOGICAL.set(neurological)
    try:
        yield
    finally:
        _NEUROLOGICAL.reset(token)
