"""Seconds from the start of ``deepatlas train --tiny`` to the end of its first step: the table in docs/speed.md.

    python benchmarks/startup.py

Each run is a process of its own, in which the command itself runs until its first step is done; the parts are the
times between points that it passes on its way. The first run also prepares the data set, synthetic phantom knees, and
is given by itself; of the others, which find it prepared, the median of each part. Files that were read before are in
the system's cache, as they are for everybody's second run. Written to ``benchmarks/results/startup/start.json``.
Measure on idle cores; it takes about a minute.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Nothing else here: a run is this file too, and what it imports is to be timed
RESULTS = Path(__file__).parent / "results" / "startup"
PARTS = ("Python and the command line", "imports", "data set", "settings and validation subjects", "networks")
PARTS += ("checkpoints and stream", "tracing, XLA and the first step")
EXPLAINED = """\
imports: TensorFlow, voxelmorph and the rest of the package. data set: opening the prepared one. settings and validation
subjects: experiment.json and the scans that are measured after each epoch. checkpoints and stream: up to the first
callback of ``fit``. The first step is of the segmentation network; other turns are traced when they are due."""


class FirstStepDone(BaseException):
    """Leaves the command from inside; nothing on the way out catches it."""


def run_to_first_step(start: float, data: str, workdir: str) -> list[float]:
    """Seconds of each part of ``PARTS`` in this process, which was started at ``start``."""
    passed = [start]

    def mark():
        passed.append(time.time())

    from deepatlas_tf import cli

    mark()
    from deepatlas_tf import run
    from deepatlas_tf.training import loop

    mark()

    class Watch(loop.Watch):
        """The command's own first callback."""

        def on_train_begin(self, logs=None):
            super().on_train_begin(logs)
            mark()

        def on_train_batch_end(self, batch, logs=None):
            mark()
            raise FirstStepDone

    def after(function):
        def marked(*args, **kwargs):
            result = function(*args, **kwargs)
            mark()
            return result

        return marked

    def build_method(*args):
        mark()
        return after(original_build_method)(*args)

    original_build_method = loop.build_method
    run.load_dataset, loop.build_method, loop.Watch = after(run.load_dataset), build_method, Watch
    try:
        cli.main(["train", "--tiny", "--quiet", "--data-dir", data, "--workdir", workdir])
    except FirstStepDone:
        return [later - earlier for earlier, later in zip(passed, passed[1:], strict=False)]
    raise RuntimeError("the command ended before its first step")


def in_a_new_process(data: Path) -> dict[str, float]:
    """The parts of one run; the data set is prepared in ``data`` if it is not there."""
    with tempfile.TemporaryDirectory() as workdir:
        command = [sys.executable, __file__, "--one-run", repr(time.time()), str(data), str(Path(workdir) / "run")]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(zip(PARTS, json.loads(done.stdout.splitlines()[-1]), strict=True))


def measured(repeats: int) -> dict:
    """All runs, the median of each part, and the seconds that the preparation takes."""
    with tempfile.TemporaryDirectory() as data:
        first = in_a_new_process(Path(data))
        runs = [in_a_new_process(Path(data)) for _ in range(repeats)] or [first]
    median = {part: round(statistics.median(run[part] for run in runs), 2) for part in PARTS}
    return {
        "total_s": round(statistics.median(sum(run.values()) for run in runs), 2),
        "parts_s": median,
        "preparation_s": round(first["data set"] - median["data set"], 2),
        "runs_s": [{part: round(value, 2) for part, value in run.items()} for run in runs],
    }


def table(result) -> str:
    """Markdown."""
    lines = ["| from the start to the first training step | seconds |", "|---|---|"]
    lines += [f"| {part} | {seconds:.1f} |" for part, seconds in result["parts_s"].items()]
    lines.append(f"| **all** | **{result['total_s']:.1f}** |")
    lines.append(f"| to be added at the first run: the data set is prepared | {result['preparation_s']:.1f} |")
    return "\n".join([*lines, "", EXPLAINED])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tiny", action="store_true", help="the first run only; nothing is written")
    parser.add_argument("--one-run", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one_run:
        start, data, workdir = args.one_run
        print(json.dumps(run_to_first_step(float(start), data, workdir)))
        return
    result = measured(0 if args.tiny else args.repeats)
    print(table(result))
    if not args.tiny:
        from machine import machine
        from turns import commit

        from deepatlas_tf.keras_stack import versions
        from deepatlas_tf.runs.files import write_json

        RESULTS.mkdir(parents=True, exist_ok=True)
        write_json(RESULTS / "start.json", {"machine": machine(), "versions": versions(), "commit": commit(), **result})


if __name__ == "__main__":
    main()
