"""Memory of a DeepAtlas training step at the paper's size, counted and measured: the table in docs/scale.md.

    python benchmarks/memory.py

Counted: the step is traced, not run. Its operations are gone through in the order in which they were made; a tensor
takes its bytes from the operation that makes it to the last one that reads it. The largest sum is the peak. Left out:
what one operation uses for itself, such as the workspace of a convolution or the inside of a function compiled by XLA;
too much: operations that TensorFlow lets write in the place of their input.

Measured, where the count is below ``--limit``: two steps on the CPU, each turn in a process of its own; the peak of its
resident memory less what it held after its imports. Written to ``benchmarks/results/memory/``. 16-bit and recomputed
networks are those of ``networks.precision`` and ``recompute`` of both networks. It takes half an hour.
"""

import argparse
import itertools
import math
import multiprocessing
import resource
from pathlib import Path

from machine import machine
from tensorflow.python.ops.cond_v2 import get_func_graphs  # not in TensorFlow's public interface
from turns import TINY_NETWORKS, TURNS, commit, method_and_specs, synthetic_pair, traced_turn

from deepatlas_tf.keras_stack import tf, versions
from deepatlas_tf.runs.files import write_json

RESULTS = Path(__file__).parent / "results" / "memory"
PAPER = (200, 200, 160)
N_CLASSES = 32  # background and 31 structures, as in the paper's brains
BRANCHES = {"If", "StatelessIf", "Case", "StatelessCase"}
WRAPPED = "OptionalFromValue"
NO_COPY = {"Identity", "Reshape", "Squeeze", "ExpandDims", "StopGradient", "ReadVariableOp"}


def counted_bytes(shape, n_classes, turn, partial_labels, networks) -> int:
    """Peak of the sum of all tensors that a step of the turn needs at a time."""
    method, specs = method_and_specs(shape, n_classes, partial_labels, **networks)
    inputs = sum(_n_bytes(spec) for spec in tf.nest.flatten(specs))
    return inputs + peak_of_graph(traced_turn(method, specs, turn).graph)


def peak_of_graph(graph) -> int:
    """The same of a graph without its inputs; of a condition, of the larger branch."""
    operations = graph.get_operations()
    last_read, size = {}, {}
    for position, operation in enumerate(operations):
        for tensor in operation.inputs:
            last_read[_source(tensor).ref()] = position
        for tensor in operation.outputs:
            if _source(tensor) is tensor:
                size[tensor.ref()] = _own_bytes(tensor)
                last_read[tensor.ref()] = position
        if operation.type in BRANCHES:
            size |= _kept_by_branches(operation)
    freed = {}
    for tensor, n_bytes in size.items():
        freed[last_read[tensor]] = freed.get(last_read[tensor], 0) + n_bytes
    now = peak = 0
    for position, operation in enumerate(operations):
        if operation.type in BRANCHES:
            peak = max(peak, now + max(map(peak_of_graph, get_func_graphs(operation))))
        now += sum(size.get(tensor.ref(), 0) for tensor in operation.outputs)
        peak = max(peak, now)
        now -= freed.get(position, 0)
    return peak


def _kept_by_branches(operation) -> dict:
    """Bytes of what a branch keeps for the gradient, which comes out of it wrapped; of the branch that keeps most."""
    by_branch = []
    for graph in get_func_graphs(operation):
        both = zip(operation.outputs, graph.outputs, strict=True)
        wrapped = {_source(inner.op.inputs[0]).ref(): outer for outer, inner in both if inner.op.type == WRAPPED}
        by_branch.append({outer.ref(): _own_bytes(source.deref()) for source, outer in wrapped.items()})
    return max(by_branch, key=lambda kept: sum(kept.values()))


def _source(tensor):
    """The tensor in whose memory it is."""
    operation = tensor.op
    if operation.type == "IdentityN":
        return _source(operation.inputs[tensor.value_index])
    if (operation.type in NO_COPY and operation.inputs) or (operation.type == "Pack" and len(operation.inputs) == 1):
        return _source(operation.inputs[0])
    return tensor


def _own_bytes(tensor) -> int:
    """Inputs of a graph are counted where they come from."""
    return 0 if tensor.op.type == "Placeholder" else _n_bytes(tensor)


def _n_bytes(tensor) -> int:
    if tensor.dtype in (tf.resource, tf.variant, tf.string) or tensor.shape.rank is None:
        return 0
    # Only the batch, which is 1, may be unknown
    return math.prod(1 if n is None else n for n in tensor.shape) * tensor.dtype.size


def measured_bytes(shape, precision, recompute, turn) -> int:
    """Peak of two steps above what the process holds after its imports, in a new process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_of_steps, (shape, precision, recompute, turn))


def _peak_of_steps(shape, precision, recompute, turn) -> int:
    before = _peak_of_process()
    method, specs = method_and_specs(shape, N_CLASSES, precision=precision, recompute=recompute)
    step, pair = traced_turn(method, specs, turn), synthetic_pair(shape, N_CLASSES)
    for _ in range(2):
        step(pair)
    return _peak_of_process() - before


def _peak_of_process() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes on Linux


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--limit", type=float, default=9.0, help="GiB that are counted of a step that is also measured")
    parser.add_argument("--tiny", action="store_true", help="16 x 16 x 16 voxels, two of the rows; nothing is written")
    args = parser.parse_args()
    shape, nets, rows = ((16, 16, 16), TINY_NETWORKS, []) if args.tiny else (PAPER, {}, [])
    print("| turn | networks | recomputed | counted | measured | counted, partial labels |")
    print("|---|---|---|---:|---:|---:|")
    every = itertools.product(("float32", "mixed_bfloat16"), (False, True), TURNS)
    some = zip(("float32", "mixed_bfloat16"), (False, True), TURNS, strict=True)
    for precision, recompute, turn in some if args.tiny else every:
        row = {"turn": turn, "precision": precision, "recompute": recompute}
        networks = {"precision": precision, "recompute": recompute, **nets}
        for name, partial_labels in (("counted", False), ("counted_partial", True)):
            row[name] = counted_bytes(shape, N_CLASSES, turn, partial_labels, networks)
        small = row["counted"] < args.limit * 2**30
        row["measured"] = measured_bytes(shape, precision, recompute, turn) if small else None
        rows.append(row)
        found = (row[name] for name in ("counted", "measured", "counted_partial"))
        sizes = ["-" if n is None else f"{n / 2**30:.3g} GiB" for n in found]
        print(f"| {turn} | {precision} | {'yes' if recompute else 'no'} | {' | '.join(sizes)} |", flush=True)
    if not args.tiny:
        made_by = {"machine": machine(), "versions": versions(), "commit": commit()}
        settings = {"shape": shape, "classes": N_CLASSES, "batch_size": 1}
        write_json(args.out / "step.json", {**made_by, **settings, "rows": rows})


if __name__ == "__main__":
    main()
