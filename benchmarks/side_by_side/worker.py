"""One side of a comparison: a process that does what it is told on stdin, and answers on stdout, a JSON line each.

    python -m side_by_side.worker SIDE THREADS

``SIDE`` is a module with ``set_threads(n)``, ``threads()``, ``versions()`` and ``TASKS``: name -> function
``(settings, arrays) -> Task``.
"""

import contextlib
import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Task(NamedTuple):
    """What is measured, ready to go.

    step: what is timed; it returns when everything has been computed. values: results on the given inputs and weights,
    compared with those of the other side. differs: those of them that are defined differently -> why. weights: to be
    used by the other sides as well.
    """

    step: Callable[[], Any]
    values: Mapping[str, float] = {}
    differs: Mapping[str, str] = {}
    weights: Mapping[str, np.ndarray] = {}


class Session:
    """The commands; ``prepare`` and ``measure`` may come again and again."""

    def __init__(self, side: str, threads: int):
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
        self.side = importlib.import_module(side)
        self.side.set_threads(threads)
        self.after_imports = status_bytes("VmRSS")
        self.task = None

    def about(self):
        return {"versions": self.side.versions(), "threads": self.side.threads()}

    def prepare(self, task: str, settings: dict, arrays: str | None = None, weights: str | None = None):
        """Builds and traces. ``arrays``, ``weights``: .npz files; the second is written by a task that has weights."""
        self.task = None
        given = dict(np.load(arrays)) if arrays else {}
        if weights and Path(weights).exists():
            given |= np.load(weights)
        self.task = self.side.TASKS[task](settings, given)
        if weights and self.task.weights:
            np.savez(weights, **self.task.weights)
        return {"values": dict(self.task.values), "differs": dict(self.task.differs)}

    def warm(self, times: int):
        """Runs the step ``times`` times, or until one takes more than two seconds; the seconds of the last one."""
        for _ in range(times):
            seconds = self.measure(calls=1)["seconds"]
            if seconds > 2:
                break
        return {"seconds": seconds}

    def measure(self, calls: int):
        """Seconds of one of ``calls`` steps."""
        start = time.perf_counter()
        for _ in range(calls):
            self.task.step()
        return {"seconds": (time.perf_counter() - start) / calls}

    def memory(self):
        """Largest resident memory of this process so far, above what it held after its imports."""
        return {"bytes": status_bytes("VmHWM") - self.after_imports, "after_imports": self.after_imports}


def status_bytes(name: str) -> int:
    """A figure of Linux's ``/proc/self/status``. ``ru_maxrss`` would start with what the parent process held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not come between the answers
    session = Session(sys.argv[1], int(sys.argv[2]))
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        for line in sys.stdin:
            command = json.loads(line)
            answer = getattr(session, command.pop("do"))(**command)
            print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
