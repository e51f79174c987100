"""What a command prints: results and errors always, progress unless it is quiet, details only if it is verbose.

Results are printed with ``print``. The rest goes through the functions below, which do not break a progress bar.
"""

import sys
from collections.abc import Iterable
from typing import Any, TextIO

QUIET, NORMAL, VERBOSE = -1, 0, 1
_level = NORMAL
_warned: set[str] = set()


def set_level(level: int) -> None:
    """Set how much is printed by this process: QUIET, NORMAL or VERBOSE."""
    global _level
    _level = level


def level() -> int:
    """How much is printed by this process: QUIET, NORMAL or VERBOSE."""
    return _level


def say(text: str) -> None:
    """Print a line on what was done, unless the level is QUIET."""
    if _level > QUIET:
        _write(text, sys.stdout)


def detail(text: str) -> None:
    """Print a line that helps to find a fault, on stderr, if the level is VERBOSE."""
    if _level >= VERBOSE:
        _write(text, sys.stderr)


def warn(text: str) -> None:
    """Print a line on stderr on what may be wrong, at every level; each text once in a process."""
    if text not in _warned:
        _warned.add(text)
        _write(f"warning: {text}", sys.stderr)


def progress(iterable: Iterable | None = None, **settings: Any) -> Any:
    """A tqdm bar on stderr, which shows in a terminal only, and not if the level is QUIET.

    Args:
        iterable: what the bar goes through; None for a bar that the caller moves.
        settings: arguments of ``tqdm.tqdm``.
    """
    from tqdm import tqdm  # not for --help

    hidden = True if _level == QUIET else None  # None: only in a terminal
    return tqdm(iterable, **{"disable": hidden, "dynamic_ncols": True, **settings})


def _write(text: str, file: TextIO) -> None:
    """Print a line above a bar that may be there."""
    from tqdm import tqdm

    tqdm.write(text, file=file)
    file.flush()


def spoken_time(seconds: float) -> str:
    """A duration as people say it: ``45 s``, ``3 min``, ``2 h 5 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
