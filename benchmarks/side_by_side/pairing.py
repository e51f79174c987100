"""Two or more processes, one for each side, that compute in turns; only one at a time."""

import contextlib
import json
import math
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from deepatlas_tf.processor import usable_cores
from side_by_side.rows import MODULES, OURS, Case
from side_by_side.table import QUIET

FOLDER = Path(__file__).resolve().parents[1]
THREADS = 2
AGREE = 1e-3  # relative
ENOUGH = 1.0  # seconds of a repeat
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Side:
    """The process of one side; a context manager that ends it."""

    def __init__(self, name: str, python: str):
        self.name = name
        path = os.pathsep.join(filter(None, (str(FOLDER), os.environ.get("PYTHONPATH"))))
        environment = {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, str(THREADS)), "PYTHONPATH": path}
        command = [python, "-m", "side_by_side.worker", MODULES[name], str(THREADS)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        # -m puts the working folder before PYTHONPATH, which may name another checkout of the package
        self.process = subprocess.Popen(command, env=environment, cwd=FOLDER, **pipes)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()

    def ask(self, command: str, **arguments) -> dict:
        """The answer to a command of :class:`side_by_side.worker.Session`.

        Raises:
            RuntimeError: if the process has ended; it has printed why.
        """
        try:
            self.process.stdin.write(json.dumps({"do": command, **arguments}) + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise RuntimeError(f"the process of {self.name} ended during {command!r}; its error is above")
        return json.loads(answer)


def compare_seconds(sides: Mapping[str, Side], case: Case, repeats: int, warm_up: int = 3) -> dict:
    """Seconds of a case on each side, its steps taken in turns, and the agreement of the results.

    ``others``: the share of the two cores that other programs had during each round of turns. Rounds in which that was
    more than ``QUIET`` are repeated, up to three times as many as were asked for; the quietest count.
    """
    prepared = prepare(sides, case)
    taking = [sides[name] for name in prepared]
    first = {side.name: side.ask("warm", times=warm_up)["seconds"] for side in taking}
    calls = {name: max(1, math.ceil(ENOUGH / seconds)) if repeats > 1 else 1 for name, seconds in first.items()}
    # a step of more than two seconds less often
    wanted = max(3, repeats // 2) if max(first.values()) > 2 and repeats > 1 else repeats
    rounds = []
    while sum(one["others"] <= QUIET for one in rounds) < wanted and len(rounds) < 3 * wanted:
        with load_of_others(os.getpid(), *(side.process.pid for side in taking)) as load:
            seconds = {s.name: s.ask("measure", calls=calls[s.name])["seconds"] / case.n for s in taking}
        rounds.append({**load, "seconds": seconds})
        if repeats == 1:
            break
    kept = sorted(rounds, key=lambda one: one["others"])[:wanted]
    seconds = {name: [one["seconds"][name] for one in kept] for name in first}
    others = {"others": [one["others"] for one in kept], "rounds_left_out": len(rounds) - len(kept)}
    return {"calls_in_a_repeat": calls, "seconds": seconds, **others, **agreement(prepared)}


@contextlib.contextmanager
def load_of_others(*processes: int):
    """A dictionary that is filled at the end: ``others``, the share of all cores that other processes had meanwhile."""
    found = {}
    before, start = _core_seconds(processes), time.perf_counter()
    yield found
    elapsed = (time.perf_counter() - start) * usable_cores()
    found["others"] = max(0.0, (_core_seconds(processes) - before) / elapsed)


def _core_seconds(processes) -> float:
    """Seconds that all cores have worked, but for these processes; Linux."""
    tick = os.sysconf("SC_CLK_TCK")
    user, nice, system, _, _, interrupts, soft_interrupts = Path("/proc/stat").read_text().split()[1:8]
    total = sum(map(int, (user, nice, system, interrupts, soft_interrupts)))
    # after the name in parentheses, utime and stime are the 12th and 13th
    own = (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13] for pid in processes)
    return (total - sum(int(ticks) for two in own for ticks in two)) / tick


def compare_bytes(pythons: Mapping[str, str], case: Case, steps: int) -> dict:
    """Peak memory of a case on each side above what the process holds after its imports; new processes."""
    found, about, answers = {}, {}, {}
    with tempfile.TemporaryDirectory() as folder:
        files = _files(case, folder)
        for name in (OURS, *case.peers):
            with Side(name, pythons[name]) as side:
                answers[name] = side.ask("prepare", task=case.task, settings=case.settings, **files)
                side.ask("measure", calls=steps)
                found[name], about[name] = side.ask("memory"), side.ask("about")
    measured = {name: [one["bytes"]] for name, one in found.items()}
    imports = {name: one["after_imports"] for name, one in found.items()}
    return {"bytes": measured, "bytes_after_imports": imports, "about": about, **agreement(answers)}


def prepare(sides: Mapping[str, Side], case: Case) -> dict:
    """Every side's results on the inputs of a case; ours is first, and its weights become those of all."""
    with tempfile.TemporaryDirectory() as folder:
        files = _files(case, folder)
        names = (OURS, *case.peers)
        return {n: sides[n].ask("prepare", task=case.task, settings=case.settings, **files) for n in names}


def agreement(prepared: Mapping[str, dict]) -> dict:
    """For each peer and result: ours, theirs, relative difference.

    Raises:
        AssertionError: if the same quantity differs by more than ``AGREE``.
    """
    ours, found, differs = prepared[OURS]["values"], {}, {}
    for name, answer in prepared.items():
        if name == OURS:
            continue
        differs |= {f"{name}: {key}": why for key, why in answer["differs"].items() if key in ours}
        found[name] = {}
        for key in (key for key in answer["values"] if key in ours):
            pair = ours[key], answer["values"][key]
            relative = abs(pair[0] - pair[1]) / max(*map(abs, pair), 1e-12)
            found[name][key] = {"ours": pair[0], "theirs": pair[1], "relative_difference": relative}
            if key not in answer["differs"] and not relative <= AGREE:
                raise AssertionError(f"{key}: ours {pair[0]:.6g}, {name} {pair[1]:.6g}: they compute something else")
        if not found[name]:
            raise AssertionError(f"ours and {name} have no result in common to be compared")
    return {"agreement": found, "differs": differs}


def _files(case: Case, folder) -> dict[str, str]:
    arrays, weights = Path(folder) / "arrays.npz", Path(folder) / "weights.npz"
    np.savez(arrays, **case.arrays())
    return {"arrays": str(arrays), "weights": str(weights)}
