"""Memory of a DeepAtlas training step at the paper's size, by counting: the table in docs/scale.md.

    python benchmarks/memory.py

Counted: the step is traced, not run. Its operations are gone through in the order in which they were made; a tensor
takes its bytes from the operation that makes it to the last one that reads it. The largest sum is the peak. Left out:
what one operation uses for itself, such as the workspace of a convolution or the inside of a function compiled by XLA;
too much: operations that TensorFlow lets write in the place of their input. So the same steps are also run at 64 x 64
x 64 voxels, in a process of its own, whose peak is compared with that of a process that runs them at 16 x 16 x 16.
Written to ``benchmarks/results/memory/``. 16-bit and recomputed networks are those of ``networks.precision`` and
``networks.recompute``. Measure on an idle machine with 8 GB of memory; it takes some minutes.
"""

import argparse
import itertools
import math
import multiprocessing
import resource
from pathlib import Path

from machine import machine
from tensorflow.python.ops.cond_v2 import get_func_graphs  # not in TensorFlow's public interface
from turns import TURNS, commit, method_and_specs, synthetic_pair, traced_turn

from deepatlas_tf.keras_stack import tf, versions
from deepatlas_tf.training.files import write_json

RESULTS = Path(__file__).parent / "results" / "memory"
PAPER, SMALL = (200, 200, 160), (64, 64, 64)
N_CLASSES = 32  # background and 31 structures, as in the paper's brains
# Their outputs are their inputs, or variables, which are counted by themselves
NO_COPY = {"Identity", "Reshape", "Squeeze", "ExpandDims", "StopGradient", "ReadVariableOp", "Placeholder", "NoOp"}


def counted_bytes(method, specs, turn) -> int:
    """Peak of the sum of all tensors that a step of the turn needs at a time."""
    graph = traced_turn(method, specs, turn).graph
    return sum(_n_bytes(spec) for spec in tf.nest.flatten(specs)) + _peak(graph)


def _peak(graph) -> int:
    """The same of a graph without its inputs; of a condition, of the branch that needs more."""
    operations = graph.get_operations()
    owner, last_read, size = {}, {}, {}
    for position, operation in enumerate(operations):
        for tensor in operation.inputs:
            last_read[owner[tensor.ref()]] = position
        for tensor in operation.outputs:
            same = operation.type in NO_COPY and len(operation.inputs) == 1
            owner[tensor.ref()] = owner[operation.inputs[0].ref()] if same else tensor.ref()
            if operation.type not in NO_COPY:
                size[tensor.ref()] = _n_bytes(tensor)
                last_read[tensor.ref()] = position
    freed = {}
    for tensor, n_bytes in size.items():
        freed[last_read[tensor]] = freed.get(last_read[tensor], 0) + n_bytes
    now = peak = 0
    for position, operation in enumerate(operations):
        if operation.type in ("If", "StatelessIf"):
            peak = max(peak, now + max(map(_peak, get_func_graphs(operation))))
        now += sum(size.get(tensor.ref(), 0) for tensor in operation.outputs)
        peak = max(peak, now)
        now -= freed.get(position, 0)
    return peak


def _n_bytes(tensor) -> int:
    if tensor.dtype in (tf.resource, tf.variant, tf.string):
        return 0
    if tensor.shape.rank is None:
        return 0
    # Only the batch, which is 1, may be unknown
    return math.prod(1 if n is None else n for n in tensor.shape) * tensor.dtype.size


def measured_bytes(precision, recompute, turn) -> int:
    """How much more two steps at 64^3 need than at 16^3, where it is TensorFlow and its compiling; two processes."""
    peaks = []
    for shape in (SMALL, (16, 16, 16)):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            peaks.append(pool.apply(process_peak, (shape, precision, recompute, turn)))
    return peaks[0] - peaks[1]


def process_peak(shape, precision, recompute, turn) -> int:
    """Peak of this process, in bytes, after two steps of the turn."""
    method, specs = method_and_specs(shape, N_CLASSES, precision=precision, recompute=recompute)
    step, pair = traced_turn(method, specs, turn), synthetic_pair(shape, N_CLASSES)
    for _ in range(2):
        step(pair)
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes on Linux


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS)
    folder = parser.parse_args().out
    rows = []
    print("| turn | networks | blocks recomputed | counted, paper's size | counted, 64^3 | measured, 64^3 |")
    print("|---|---|---|---|---|---|")
    for precision, recompute in itertools.product(("float32", "mixed_bfloat16"), (False, True)):
        for turn in TURNS:
            row = {"turn": turn, "precision": precision, "recompute": recompute}
            for name, shape in (("paper_counted", PAPER), ("small_counted", SMALL)):
                method, specs = method_and_specs(shape, N_CLASSES, precision=precision, recompute=recompute)
                row[name] = counted_bytes(method, specs, turn)
            row["small_measured"] = measured_bytes(precision, recompute, turn)
            rows.append(row)
            sizes = [f"{row[name] / 2**30:.2f} GiB" for name in ("paper_counted", "small_counted", "small_measured")]
            print(f"| {turn} | {precision} | {'yes' if recompute else 'no'} | {' | '.join(sizes)} |", flush=True)
    settings = {"paper_shape": PAPER, "small_shape": SMALL, "classes": N_CLASSES, "batch_size": 1}
    made_by = {"machine": machine(), "versions": versions(), "commit": commit()}
    write_json(folder / "step.json", {**made_by, **settings, "rows": rows})


if __name__ == "__main__":
    main()
