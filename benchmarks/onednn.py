"""What oneDNN's convolutions change: DeepAtlas' two turns with them, as the package has it, and with TensorFlow's own.

    python benchmarks/onednn.py

Each way has processes of its own, in turn. A time is the median of the steps after the first one. TensorFlow decides by
the processor which of the two it takes where ``TF_ENABLE_ONEDNN_OPTS`` is not set. Written to
``benchmarks/results/onednn/turns.json``; some five minutes on two idle cores.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "onednn"
WAYS = {"oneDNN": "1", "TensorFlow": "0"}


def turns(size: int, steps: int) -> dict[str, list[float]]:
    """Seconds of each step after the first, by turn, in this process; volumes of ``size`` voxels cubed, 4 classes."""
    from turns import TURNS, method_and_specs, synthetic_pair, traced_turn

    method, specs = method_and_specs((size,) * 3, 4)
    pair, seconds = synthetic_pair((size,) * 3, 4), {}
    for turn in TURNS:
        step, seconds[turn] = traced_turn(method, specs, turn), []
        for _ in range(1 + steps):
            start = time.perf_counter()
            step(pair)
            seconds[turn].append(time.perf_counter() - start)
    return {turn: values[1:] for turn, values in seconds.items()}


def in_a_process(way: str, size: int, steps: int) -> dict[str, list[float]]:
    """:func:`turns` in a process of its own, with oneDNN or without."""
    command = [sys.executable, __file__, "--here", "--size", str(size), "--steps", str(steps)]
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": WAYS[way]}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measured(size: int, steps: int, rounds: int) -> list[dict]:
    """A row for each turn: the median milliseconds of both ways and their ratio."""
    found = [{way: in_a_process(way, size, steps) for way in WAYS} for _ in range(rounds)]
    rows = []
    for turn in found[0]["oneDNN"]:
        medians = {way: statistics.median(s for one in found for s in one[way][turn]) for way in WAYS}
        milliseconds = {way: round(1000 * median, 1) for way, median in medians.items()}
        rows.append({"turn": turn, **milliseconds, "ratio": round(medians["oneDNN"] / medians["TensorFlow"], 3)})
    return rows


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--here", action="store_true", help="measure in this process and print the seconds")
    args = parser.parse_args()
    if args.here:
        print(json.dumps(turns(args.size, args.steps)))
        return
    rows = measured(args.size, args.steps, args.rounds)
    print(f"| turn, {args.size}^3, 4 classes | oneDNN | TensorFlow | ratio |\n|---|---|---|---:|")
    for row in rows:
        print(f"| {row['turn']} | {row['oneDNN']:.0f} ms | {row['TensorFlow']:.0f} ms | {row['ratio']:.3f} |")
    from machine import machine  # imports TensorFlow, which is not to be in this process while others are timed
    from turns import commit

    from deepatlas_tf.keras_stack import versions
    from deepatlas_tf.runs.files import write_json

    RESULTS.mkdir(parents=True, exist_ok=True)
    facts = {"machine": machine(), "versions": versions(), "commit": commit(), "size": args.size}
    write_json(RESULTS / "turns.json", {**facts, "rows": rows})


if __name__ == "__main__":
    main()
