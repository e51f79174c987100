"""An exported model in TensorFlow and in OpenVINO: milliseconds of an answer, and seconds from the start to the first.

    deepatlas export deepatlas_tf/pretrained/hippocampus -o exported
    python benchmarks/serving.py exported/1 --sizes 48,64,48 160,192,160

The signature ``serving_default`` gets random images of each size. Each engine has processes of its own, in turn, and
TensorFlow's answer is compared with OpenVINO's. Written to ``benchmarks/results/serving/NAME.json``.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results" / "serving"
ENGINES = ("TensorFlow", "OpenVINO")


def tensorflow_model(folder: Path):
    """A function from named images to named answers."""
    import tensorflow as tf

    signature = tf.saved_model.load(str(folder)).signatures["serving_default"]
    return lambda images: {
        name: value.numpy() for name, value in signature(**{n: tf.constant(i) for n, i in images.items()}).items()
    }


def openvino_model(folder: Path):
    """The same in OpenVINO, in full precision."""
    import openvino

    core = openvino.Core()
    core.set_property("CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    model = core.compile_model(openvino.convert_model(folder), "CPU")
    return lambda images: {output.any_name: value for output, value in model(images).items()}


def answers(engine: str, folder: Path, size: tuple[int, ...], repeats: int, output: Path) -> dict:
    """Seconds from loading to the first answer, and of each answer after it; the last answer is kept in ``output``."""
    about = json.loads((folder / "assets" / "metadata.json").read_text(encoding="utf-8"))
    names = ("image",) if about["stages"].get("segmentation") else ("moving", "fixed")
    rng = np.random.default_rng(0)
    images = {name: rng.gamma(2, 300, (1, *size, 1)).astype(np.float32) for name in names}
    start = time.perf_counter()
    model = {"TensorFlow": tensorflow_model, "OpenVINO": openvino_model}[engine](folder)
    found = model(images)
    first, seconds = time.perf_counter() - start, []
    for _ in range(repeats):
        start = time.perf_counter()
        found = model(images)
        seconds.append(time.perf_counter() - start)
    np.savez(output, **found)
    return {"first": first, "seconds": seconds}


def in_a_process(engine: str, folder: Path, size: tuple[int, ...], repeats: int, output: Path) -> dict:
    """:func:`answers` in a process of its own."""
    options = ["--engine", engine, "--sizes", ",".join(map(str, size)), "--repeats", str(repeats)]
    command = [sys.executable, __file__, str(folder), *options, "--output", str(output)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def measured(folder: Path, size: tuple[int, ...], repeats: int, rounds: int) -> dict:
    """A row: medians of both engines, the ratio of an answer's time, and the largest difference of the answers."""
    with tempfile.TemporaryDirectory() as place:
        outputs = {engine: Path(place) / f"{engine}.npz" for engine in ENGINES}
        found = [{e: in_a_process(e, folder, size, repeats, outputs[e]) for e in ENGINES} for _ in range(rounds)]
        values = {engine: dict(np.load(output)) for engine, output in outputs.items()}
    row = {"size": list(size)}
    for engine in ENGINES:
        milliseconds = 1000 * statistics.median(s for one in found for s in one[engine]["seconds"])
        first = statistics.median(one[engine]["first"] for one in found)
        row[engine] = {"milliseconds": round(milliseconds, 1), "seconds_to_first": round(first, 2)}
    row["ratio"] = round(row["OpenVINO"]["milliseconds"] / row["TensorFlow"]["milliseconds"], 3)
    continuous = [name for name, value in values["TensorFlow"].items() if value.dtype.kind == "f"]
    errors = [np.abs(values["TensorFlow"][n] - values["OpenVINO"][n]).max() for n in continuous]
    row["largest_difference"] = dict(zip(continuous, map(float, errors), strict=True))
    return row


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of a version of an exported model")
    parser.add_argument("--name", default="hippocampus", help="of the result")
    parser.add_argument("--sizes", nargs="+", default=["48,64,48"], help="voxels along each axis")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--engine", choices=ENGINES, help="measure this one in this process and print the seconds")
    parser.add_argument("--output", type=Path, help="with --engine: the file of the answer")
    args = parser.parse_args()
    sizes = [tuple(map(int, size.split(","))) for size in args.sizes]
    if args.engine:
        print(json.dumps(answers(args.engine, args.folder, sizes[0], args.repeats, args.output)))
        return
    rows = [measured(args.folder, size, args.repeats, args.rounds) for size in sizes]
    print("| voxels | TensorFlow | OpenVINO | ratio | to the first answer |\n|---|---:|---:|---:|---:|")
    for row in rows:
        times = [f"{row[engine]['milliseconds']:.0f} ms" for engine in ENGINES]
        firsts = " / ".join(f"{row[engine]['seconds_to_first']:.1f} s" for engine in ENGINES)
        print(f"| {' x '.join(map(str, row['size']))} | {' | '.join(times)} | {row['ratio']:.2f} | {firsts} |")
    from machine import machine  # imports TensorFlow, which is not to be in this process while others are timed
    from turns import commit

    from deepatlas_tf.keras_stack import versions
    from deepatlas_tf.runs.files import write_json

    about = {"machine": machine(), "versions": {**versions(), "openvino": version("openvino")}, "commit": commit()}
    RESULTS.mkdir(parents=True, exist_ok=True)
    write_json(RESULTS / f"{args.name}.json", {**about, "repeats": args.repeats, "rounds": args.rounds, "rows": rows})


if __name__ == "__main__":
    main()
