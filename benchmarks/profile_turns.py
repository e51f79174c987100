"""Where the time of DeepAtlas' two turns goes, from TensorFlow's profiler: the table in docs/speed.md.

    python benchmarks/profile_turns.py --name after

The trace says when each operation ran, on which thread. Two of them may run at once, and each may use both cores. So
two times are given: ``sum`` adds up how long the operations of a row took, without those that ran inside of them;
``wall`` shares each moment equally between the operations that ran in it, and so adds up to the length of the turn with
``idle``, when none ran. A function compiled by XLA is one operation, named as the function that it was made from.
Tracing slows a step: ``step`` is the median without it. Measure on idle cores; it takes two minutes.

Written to ``benchmarks/results/profile/NAME.json``; the table has a column for each file that is there, the older ones
measured by this script with an earlier commit of the package: ``PYTHONPATH=CLONE python benchmarks/profile_turns.py``.
"""

import argparse
import collections
import json
import re
import resource
import statistics
import tempfile
import time
from pathlib import Path

from machine import machine
from turns import TINY_NETWORKS, TURNS, commit, method_and_specs, synthetic_pair, traced_turn

from deepatlas_tf.keras_stack import tf, versions
from deepatlas_tf.runs.files import write_json

RESULTS = Path(__file__).parent / "results" / "profile"
SHAPE, CLASSES = (64, 64, 64), (4, 32)
ROWS = (
    "convolution, forward",
    "convolution, gradient of its input",
    "convolution, gradient of its kernel",
    "convolution, gradient of its bias",
    "normalisation, forward",
    "normalisation, gradient",
    "softmax, activations, elementwise",
    "concatenation, upsampling, pooling",
    "labels and anatomies",
    "warp",
    "warp, gradient",
    "optimizer",
    "everything else",
)
# What a kernel's name has in it, and its row; the first that fits. The names of oneDNN's kernels contain TensorFlow's
KERNELS = {
    "convolution, gradient of its kernel": r"Conv\dDBackpropFilter",
    "convolution, gradient of its bias": r"BiasAddGrad",
    # in a gradient, that of the input; a transposed convolution is BackpropInput forward, and Conv in its gradient
    "convolution, forward": r"Conv\dD|BiasAdd$",
    "normalisation, gradient": r"FusedBatchNormGrad",
    "normalisation, forward": r"FusedBatchNorm",
    "concatenation, upsampling, pooling": r"Concat|Split|Slice|Pool|^Pack$|^Unpack$|Pad|Transpose|Tile",
    "softmax, activations, elementwise": r"Relu|Softmax|Add|Mul|Sub|Div|Sum|Mean|Rsqrt|Square|Exp|Select|Eltwise",
}
# Names of compiled functions, and their row; any other is a loss of its own
FUNCTIONS = {
    "warp": r"warp_(linear|nearest)$|field$",
    "warp, gradient": r"weighted_corners$|matrix$",
    "labels and anatomies": r"mix$",
    "softmax, activations, elementwise": r"softmax$",
    "loss: soft_dice": r"dice_sums$",
    "loss: dice_and_cross_entropy": r"sums_and_cross_entropy$",
    "loss: warped_soft_dice": r"(label|probability)_corners|(dense_)?sums$",
}


def profiled(shape, n_classes: int, turn: str, steps: int, **networks) -> dict:
    """One column of the table: the turn's seconds, and the time of each row."""
    method, specs = method_and_specs(shape, n_classes, **networks)
    pair, step = synthetic_pair(shape, n_classes), traced_turn(method, specs, turn)
    seconds, cores = timed(lambda: step(pair), 3 * steps)
    with tempfile.TemporaryDirectory() as folder:
        options = tf.profiler.experimental.ProfilerOptions(host_tracer_level=3, python_tracer_level=0)
        tf.profiler.experimental.start(folder, options)
        for number in range(steps):
            with tf.profiler.experimental.Trace("turn", step_num=number):
                step(pair)
        tf.profiler.experimental.stop()
        spans, segments = read_trace(Path(folder))
    rows, operations = reduced(spans, segments, compiled_functions(step.graph))
    return {
        "turn": turn,
        "classes": n_classes,
        "step_s": round(seconds, 4),
        "traced_step_s": round(sum(end - start for start, end in spans) / len(spans), 4),
        "cores_used": round(cores, 2),
        "rows": rows,
        "longest_operations": operations,
    }


def timed(call, repeats: int) -> tuple[float, float]:
    """Median seconds of a call, and how many cores it uses; after three calls that are not counted."""
    for _ in range(3):
        call()
    seconds, used, begin = [], _processor_time(), time.perf_counter()
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), (_processor_time() - used) / (time.perf_counter() - begin)


def _processor_time() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


# -------------------------------------------------------------------------------------------------------- the trace


def read_trace(folder: Path):
    """The trace as ``(start, end)`` of each turn, and ``(start, end, operation's name, kernel)``, in seconds.

    Where an operation runs inside another one on its thread, the outer one is left out for that time.
    """
    from tensorflow.tsl.profiler.protobuf import xplane_pb2  # no public module of TensorFlow reads its own traces

    (path,) = folder.rglob("*.xplane.pb")
    plane = next(p for p in xplane_pb2.XSpace.FromString(path.read_bytes()).planes if p.name == "/host:CPU")
    names = {number: data.name for number, data in plane.event_metadata.items()}
    turns, segments = [], []
    for line in plane.lines:
        operations = []
        for event in line.events:
            start = line.timestamp_ns * 1e-9 + event.offset_ps * 1e-12
            end, name = start + event.duration_ps * 1e-12, names[event.metadata_id]
            if name == "turn":
                turns.append((start, end))
            found = re.fullmatch(r"([\w/.-]+):(_?[A-Z]\w+)", name)
            if found:
                operations.append((start, end, *found.groups()))
        segments += innermost(operations)
    return turns, segments


def innermost(operations):
    """Cut ``(start, end, ...)`` of one thread, which lie in each other or apart, so that no two overlap."""
    segments, open_ones, now = [], [], 0.0

    def advance(until):
        nonlocal now
        while open_ones and open_ones[-1][1] <= until:
            last = open_ones.pop()
            segments.append((now, last[1], *last[2:]))
            now = max(now, last[1])
        if open_ones and now < until:
            segments.append((now, until, *open_ones[-1][2:]))
        now = max(now, until)

    for operation in sorted(operations, key=lambda o: (o[0], -o[1])):
        advance(operation[0])
        open_ones.append(operation)
    advance(float("inf"))
    return [segment for segment in segments if segment[1] > segment[0]]


def compiled_functions(graph, path: str = "") -> dict[str, str]:
    """Operation's name -> name of the Python function that it calls, with ``, gradient`` for its gradient.

    ``path``: of the branch of a ``tf.cond`` or ``tf.switch_case`` that the graph is, as :func:`in_branches` writes it.
    """
    from tensorflow.python.ops.cond_v2 import get_func_graphs  # not in TensorFlow's public interface

    functions, inner = {}, {}
    for operation in graph.get_operations():
        if "PartitionedCall" in operation.type:
            called = operation.get_attr("f").name
            found = re.fullmatch(r"__(?:forward|inference)_(__backward)?_*(.+?)(?:_\d+)*", called)
            is_gradient = found[1] or found[2].endswith("_gradient")
            functions[operation.name] = found[2].removesuffix("_gradient") + (", gradient" if is_gradient else "")
        elif operation.type in ("If", "StatelessIf", "Case", "StatelessCase"):
            graphs = get_func_graphs(operation)
            branches = ("then", "else") if "If" in operation.type else [f"branch{n}" for n in range(len(graphs))]
            for branch, of_branch in zip(branches, graphs, strict=True):
                inner |= compiled_functions(of_branch, f"{path}{operation.name}/{branch}/")
    return inner | {path + name: function for name, function in functions.items()}


def in_branches(name: str) -> str:
    """An operation's name in a trace without the numbers that TensorFlow gives to branches."""
    return re.sub(r"/(then|else|branch\d+)/_\d+/", r"/\1/", name)


def row_of(name: str, kernel: str, functions: dict[str, str]) -> str:
    """The table's row of an operation."""
    path = in_branches(name)
    function = next((text for call, text in functions.items() if path == call or path.startswith(f"{call}/")), None)
    if function:
        python_name, _, gradient = function.partition(", ")
        row = next(
            (row for row, pattern in FUNCTIONS.items() if re.match(pattern, python_name)), f"loss: {python_name}"
        )
        return f"{row}, gradient" if gradient and (row not in ROWS or f"{row}, gradient" in ROWS) else row
    if name.startswith(("Adam", "LossScale")):
        return "optimizer"
    if name.endswith("gradient_of_bias"):
        return "convolution, gradient of its bias"
    row = next((row for row, pattern in KERNELS.items() if re.search(pattern, kernel)), "everything else")
    if row == "convolution, forward" and "gradient" in name:
        row = "convolution, gradient of its input"
    of_network = re.search(r"(^|/)(registration|segmentation)/", name)  # not in the normalisation's own gradient
    if of_network or "convolution" in row or re.search("FusedBatchNorm|Relu", kernel):
        return row
    in_condition = re.search(r"/(then|else)/", path)  # the loss chooses by what is labelled
    return "loss: warped_soft_dice" if in_condition else "labels and anatomies"


def reduced(turns, segments, functions):
    """Milliseconds a step of each row, and of the 20 operations that take most."""
    wall, total = collections.Counter(), collections.Counter()
    for start, end in turns:
        inside = [(max(s, start), min(e, end), *which) for s, e, *which in segments if s < end and e > start]
        changes = sorted([(s, 1, which) for s, _, *which in inside] + [(e, -1, which) for _, e, *which in inside])
        running, now = collections.Counter(), start
        for moment, change, which in changes:
            for one, count in running.items():
                wall[one] += count * (moment - now) / running.total()
                total[one] += count * (moment - now)
            now, running[tuple(which)] = moment, running[tuple(which)] + change
            running = +running
    milliseconds = 1e3 / len(turns)
    idle = sum(end - start for start, end in turns) - wall.total()
    rows = collections.defaultdict(lambda: {"wall_ms": 0.0, "sum_ms": 0.0})
    for which, seconds in wall.items():
        row = rows[row_of(*which, functions)]
        row["wall_ms"] += seconds * milliseconds
        row["sum_ms"] += total[which] * milliseconds
    rows["idle"] = {"wall_ms": idle * milliseconds, "sum_ms": 0.0}
    rows = {name: {what: round(value, 2) for what, value in row.items()} for name, row in sorted(rows.items())}
    longest = [
        {"operation": name, "kernel": kernel, "wall_ms": round(seconds * milliseconds, 2)}
        for (name, kernel), seconds in wall.most_common(20)
    ]
    return rows, longest


# -------------------------------------------------------------------------------------------------------- the table


def table(results: dict[str, dict]) -> str:
    """Markdown; a column for each result's turn and number of classes: wall (sum), and the share of the wall time."""
    columns = [(name, column) for name, result in results.items() for column in result["columns"]]
    columns.sort(key=lambda c: (TURNS.index(c[1]["turn"]), c[1]["classes"]))  # the results of a turn side by side
    found = {row for _, column in columns for row in column["rows"]}
    losses = sorted(row for row in found if row not in (*ROWS, "idle"))
    order = [*ROWS[:11], *losses, *ROWS[11:], "idle"]
    lines = [
        ["ms", *[f"{column['turn']}, {column['classes']} classes, {name}" for name, column in columns]],
        ["---"] * (len(columns) + 1),
    ]
    for row in order:
        if row in found:
            lines.append([row, *[_cell(column, row) for _, column in columns]])
    lines.append(["**traced step**", *[f"{1e3 * column['traced_step_s']:.0f}" for _, column in columns]])
    lines.append(["**step**", *[f"**{1e3 * column['step_s']:.0f}**" for _, column in columns]])
    lines.append(["cores used", *[f"{column['cores_used']:.2f}" for _, column in columns]])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(column, row) -> str:
    if row not in column["rows"]:
        return "-"
    wall, total = column["rows"][row]["wall_ms"], column["rows"][row]["sum_ms"]
    share = f"{wall / column['traced_step_s'] / 10:.0f} %"
    return f"{wall:.1f} ({total:.1f}), {share}" if total else f"{wall:.1f}, {share}"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default="after", help="of the result, such as before or after a change")
    parser.add_argument("--steps", type=int, default=6, help="that are traced; three times as many are timed")
    parser.add_argument("--tiny", action="store_true", help="16 x 16 x 16 voxels, one step; nothing is written")
    parser.add_argument("--table-only", action="store_true", help="measure nothing, print what was measured")
    args = parser.parse_args()
    shape, classes, steps, networks = SHAPE, CLASSES, args.steps, {}
    if args.tiny:
        shape, classes, steps, networks = (16, 16, 16), (3,), 1, TINY_NETWORKS
    if not args.table_only:
        columns = [profiled(shape, n, turn, steps, **networks) for turn in TURNS for n in classes]
        result = {"machine": machine(), "versions": versions(), "commit": commit(), "shape": shape, "columns": columns}
    if args.tiny:
        print(table({"tiny": result}))
        return
    if not args.table_only:
        RESULTS.mkdir(parents=True, exist_ok=True)
        write_json(RESULTS / f"{args.name}.json", result)
    results = {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"), reverse=True)}
    print(table(results))


if __name__ == "__main__":
    main()
