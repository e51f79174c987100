"""How well DeepAtlas' turns use the processor, and how their cost grows: the tables in docs/speed.md.

    python benchmarks/efficiency.py share
    python benchmarks/efficiency.py voxels
    python benchmarks/efficiency.py classes
    python benchmarks/efficiency.py channels

``share``: the floating-point operations of the turn's convolutions over its time, as a share of the speed of a large
float32 matrix multiplication just before it. Counted in the traced graph: a multiplication and an addition are 2, the
padding counts, and all but the convolutions is taken as no work. The medians of five processes for each case.
``voxels``, ``classes``, ``channels``: the turn's time for five sizes or numbers of classes, or four numbers of image
channels, and the straight line ``a + b n`` of least squares. Medians over rounds that measure each case once, so that
the clock of the processor is the same for all.
Written to ``benchmarks/results/efficiency/``. Measure on idle cores with 8 GB of memory; it takes two to eight minutes.
"""

import argparse
import collections
import itertools
import math
import multiprocessing
import re
import statistics
import time
from pathlib import Path

import numpy as np
from machine import machine
from turns import TINY_NETWORKS, TURNS, commit, method_and_specs, synthetic_pair, traced_turn

from deepatlas_tf.keras_stack import tf, versions
from deepatlas_tf.runs.files import write_json

RESULTS = Path(__file__).parent / "results" / "efficiency"
CLASSES = 4  # where they are not what is varied; so are the size in the middle and one channel
SIZES, NUMBERS, CHANNELS = (32, 48, 64, 80, 96), (2, 8, 16, 32, 100), (1, 2, 4, 8)
UNITS = {"voxels": "Mvoxel", "classes": "class", "channels": "channel"}  # of what is varied
PROCESSES = 5  # for each share
LINEAR = 0.1  # the largest deviation from the line, as a share of it
CONVOLUTION = re.compile(r"Conv[23]D(Backprop(Input|Filter)(V2)?)?")  # kinds of operations


class Case:
    """A turn that can be run again and again; ``seconds`` has the time of each run but the first two."""

    def __init__(self, size: int, n_classes: int, turn: str, channels: int = 1, **networks):
        method, specs = method_and_specs((size,) * 3, n_classes, channels=channels, **networks)
        self.size, self.n_classes, self.channels, self.seconds = size, n_classes, channels, []
        self.step = traced_turn(method, specs, turn)
        self.pair = synthetic_pair((size,) * 3, n_classes, channels=channels)
        self.step(self.pair), self.step(self.pair)

    def run(self, times: int = 1) -> float:
        """Median seconds of as many runs."""
        for _ in range(times):
            start = time.perf_counter()
            self.step(self.pair)
            self.seconds.append(time.perf_counter() - start)
        return statistics.median(self.seconds[-times:])


def convolution_operations(step, pair) -> dict[str, int]:
    """Floating-point operations of the convolutions of a concrete function, and of their gradients.

    Forward, and for either gradient: ``2 * prod(kernel's shape) * B * prod(*S)`` with the size ``*S`` of the
    convolution's output; for a transposed convolution, of its input. Of a ``tf.cond``, the branch that ``pair`` takes.

    Raises:
        ValueError: if a function that is called has convolutions, which would not be counted.
    """
    from tensorflow.python.ops.cond_v2 import get_func_graphs  # not in TensorFlow's public interface

    counted = collections.Counter(forward=0, gradients=0)
    for operation in executed(step.graph):
        if operation.type in ("If", "StatelessIf"):
            counted.update(_counted(get_func_graphs(operation)[0 if _is_true(operation.inputs[0], step, pair) else 1]))
    counted.update(_counted(step.graph))
    return dict(counted)


def _counted(graph):
    functions = {function.signature.name: function for function in graph.as_graph_def().library.function}
    counted = collections.Counter()
    for operation in executed(graph):
        found = CONVOLUTION.fullmatch(operation.type)
        if found:
            kernel = operation.outputs[0] if found[2] == "Filter" else operation.inputs[1]
            output = operation.inputs[2] if found[1] else operation.outputs[0]
            number = 2 * math.prod(kernel.shape) * math.prod(output.shape[:-1])
            counted["gradients" if "gradient" in operation.name else "forward"] += number
        elif "PartitionedCall" in operation.type:
            name = operation.get_attr("f").name
            if any(CONVOLUTION.fullmatch(node.op) for node in functions[name].node_def):
                raise ValueError(f"the function {name} has convolutions, which are not counted")
    return counted


def _is_true(condition, step, pair) -> bool:
    """Value of a tensor of the function's graph for a pair."""
    arguments = zip(step.graph.inputs, tf.nest.flatten(pair), strict=False)  # after them come the variables
    values = {argument.name: value.numpy() for argument, value in arguments}
    with tf.compat.v1.Session(graph=step.graph) as session:
        return session.run(condition.name, values)


def executed(graph):
    """The operations that something is done with: TensorFlow leaves out the others, such as gradients of the images."""
    needed, left = set(), [op for op in graph.get_operations() if op.op_def.is_stateful or op.type == "NoOp"]
    left += [tensor.op for tensor in graph.outputs]
    while left:
        operation = left.pop()
        if operation not in needed:
            needed.add(operation)
            left += [tensor.op for tensor in operation.inputs] + list(operation.control_inputs)
    return needed


def peak(size: int, repeats: int = 5):
    """A function that multiplies matrices ``(size, size)``, and gives the most floating-point operations a second."""
    a, b = (tf.random.stateless_normal((size, size), (seed, 0)) for seed in (0, 1))
    # The sum of a row makes that nothing but the product is waited for, and copies nothing
    multiply = tf.function(lambda: tf.reduce_sum(tf.matmul(a, b)[0]))

    def measure() -> float:
        seconds = []
        for _ in range(repeats):
            start = time.perf_counter()
            float(multiply())
            seconds.append(time.perf_counter() - start)
        return 2 * size**3 / min(seconds)

    measure()
    return measure


def share(size: int, numbers, rounds: int, matrix: int, processes: int, **networks) -> list[dict]:
    """A row for each turn and number of classes: medians of as many processes, which differ by a tenth and more."""
    cases, found = [(turn, n_classes) for turn in TURNS for n_classes in numbers], collections.defaultdict(list)
    for _ in range(processes):
        for case in cases:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                found[case].append(pool.apply(_measured_share, (size, *case, rounds, matrix), networks))
    rows = []
    for (turn, n_classes), measured in found.items():
        medians = {name: statistics.median(one[name] for one in measured) for name in ("step_s", "peak_per_s", "share")}
        shares, operations = [one["share"] for one in measured], measured[0]["convolutions"]
        rows.append({"turn": turn, "classes": n_classes, "convolutions": operations, **medians, "shares": shares})
    return rows


def _measured_share(size, turn, n_classes, rounds, matrix, **networks):
    measure_peak, case = peak(matrix), Case(size, n_classes, turn, **networks)
    operations, speeds, shares = convolution_operations(case.step, case.pair), [], []
    for _ in range(rounds):
        speeds.append(measure_peak())
        shares.append(sum(operations.values()) / case.run(3) / speeds[-1])
    return {
        "convolutions": operations,
        "step_s": round(statistics.median(case.seconds), 4),
        "peak_per_s": round(statistics.median(speeds)),
        "share": round(statistics.median(shares), 3),
    }


def scaling(what: str, fixed: dict, rounds: int, **networks) -> list[dict]:
    """A row for each turn: its seconds for each size or number in ``fixed``, and the line of ``what`` through them."""
    rows = []
    for turn in TURNS:
        combined = itertools.product(*(fixed[name] for name in ("sizes", "classes", "channels")))
        cases = [Case(size, n_classes, turn, channels, **networks) for size, n_classes, channels in combined]
        for _ in range(rounds):
            for case in cases:
                case.run()
        seconds = [statistics.median(case.seconds) for case in cases]
        n = [{"voxels": c.size**3 / 1e6, "classes": c.n_classes, "channels": c.channels}[what] for c in cases]
        row = {"turn": turn, "n": n, "step_s": [round(value, 4) for value in seconds], **line(n, seconds)}
        rows.append(row)
    return rows


def line(n, seconds) -> dict:
    """``a + b n`` of least squares, its R^2, and the largest deviation from it as a share of it."""
    b, a = np.polyfit(n, seconds, 1)
    fitted, seconds = a + b * np.asarray(n), np.asarray(seconds)
    r2 = 1 - np.sum((seconds - fitted) ** 2) / np.sum((seconds - seconds.mean()) ** 2)
    deviation = np.max(np.abs(seconds / fitted - 1))
    values = {"a_s": a, "b_s": b, "r2": r2, "deviation": deviation}
    return {name: round(float(value), 5) for name, value in values.items()}


# ----------------------------------------------------------------------------------------------------------- tables


def share_table(rows) -> str:
    """Markdown."""
    lines = [
        "| turn | classes | GFLOP of convolutions | step | GFLOP/s | matrix product | share |",
        "|---" * 7 + "|",
    ]
    for row in rows:
        operations = sum(row["convolutions"].values()) / 1e9
        lines.append(
            f"| {row['turn']} | {row['classes']} | {operations:.1f} | {row['step_s']:.3f} s "
            f"| {operations / row['step_s']:.0f} | {row['peak_per_s'] / 1e9:.0f} GFLOP/s | {100 * row['share']:.0f} % |"
        )
    return "\n".join(lines)


def scaling_table(what: str, rows) -> str:
    """Markdown, and a sentence for each turn."""
    unit = UNITS[what]
    heads = [f"{n:.3f} {unit}" if what == "voxels" else f"{n} {unit if n == 1 else what}" for n in rows[0]["n"]]
    lines = [f"| turn | {' | '.join(heads)} | each {unit} more | R^2 |", "|---" * (len(heads) + 3) + "|"]
    for row in rows:
        seconds = " | ".join(f"{value:.3f} s" for value in row["step_s"])
        lines.append(f"| {row['turn']} | {seconds} | {1e3 * row['b_s']:.1f} ms | {row['r2']:.4f} |")
    lines.append("")
    for row in rows:
        verdict = "grows linearly" if row["deviation"] <= LINEAR else "does not grow linearly"
        lines.append(
            f"{row['turn']}: {1e3 * row['a_s']:.1f} ms + {1e3 * row['b_s']:.1f} ms a {unit}, R^2 {row['r2']:.4f}; "
            f"largest deviation {100 * row['deviation']:.0f} % of the line: {verdict} within {100 * LINEAR:.0f} %"
        )
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("share", *UNITS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tiny", action="store_true", help="16 x 16 x 16 voxels and less; nothing is written")
    args = parser.parse_args()
    varied, matrix, networks = {"sizes": SIZES, "classes": NUMBERS, "channels": CHANNELS}, 3072, {}
    fixed = {"sizes": (SIZES[len(SIZES) // 2],), "classes": (CLASSES,), "channels": (1,)}
    if args.tiny:
        varied, matrix, networks = {"sizes": (8, 16), "classes": (2, 3), "channels": (1, 2)}, 64, TINY_NETWORKS
        fixed |= {"sizes": (16,), "classes": (3,)}
    if args.what == "share":
        fixed["classes"] = (3,) if args.tiny else (CLASSES, 32)
        processes = 1 if args.tiny else PROCESSES
        rows = share(fixed["sizes"][0], fixed["classes"], args.rounds, matrix, processes, **networks)
        print(share_table(rows))
    else:
        name = "sizes" if args.what == "voxels" else args.what
        fixed[name] = varied[name]
        rows = scaling(args.what, fixed, args.rounds, **networks)
        print(scaling_table(args.what, rows))
    if not args.tiny:
        RESULTS.mkdir(parents=True, exist_ok=True)
        facts = {"machine": machine(), "versions": versions(), "commit": commit(), "rows": rows}
        write_json(RESULTS / f"{args.what}.json", {**facts, **fixed})


if __name__ == "__main__":
    main()
