"""What a command says: results and errors always, progress unless it is to be quiet, details when it is verbose.

Results are printed with ``print``. The rest goes through the functions below, which leave a progress bar whole.
"""

import sys

QUIET, NORMAL, VERBOSE = -1, 0, 1
_level = NORMAL
_warned: set[str] = set()


def set_level(level: int) -> None:
    """QUIET, NORMAL or VERBOSE, for the whole process."""
    global _level
    _level = level


def level() -> int:
    """The present level."""
    return _level


def say(text: str) -> None:
    """A line on what was done; not when quiet."""
    if _level > QUIET:
        _write(text, sys.stdout)


def detail(text: str) -> None:
    """A line on stderr for who looks for a fault; only when verbose."""
    if _level >= VERBOSE:
        _write(text, sys.stderr)


def warn(text: str) -> None:
    """A line on stderr, also when quiet, on what may be wrong; each text once in a process."""
    if text not in _warned:
        _warned.add(text)
        _write(f"warning: {text}", sys.stderr)


def progress(iterable=None, **settings):
    """A tqdm bar on stderr: in a terminal only, and not when quiet. ``settings`` are tqdm's."""
    from tqdm import tqdm  # not for --help

    hidden = True if _level == QUIET else None  # None: only in a terminal
    return tqdm(iterable, **{"disable": hidden, "dynamic_ncols": True, **settings})


def _write(text, file):
    from tqdm import tqdm

    tqdm.write(text, file=file)
    file.flush()


def spoken_time(seconds: float) -> str:
    """``45 s``, ``3 min``, ``2 h 5 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
