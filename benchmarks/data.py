"""How fast prepared scans are read, and in how much memory: the figures quoted in docs/scale.md.

    python benchmarks/data.py encodings
    python benchmarks/data.py reading --subjects 16 128 1000

``encodings``: size of a record, time to read one and what is lost, for the ways in which TFDS can store an image and a
label map. ``reading``: pairs a second and peak memory of the stream that training draws from, and the time of a
registration step. Written to ``benchmarks/results/data/``. The scans are synthetic: phantom knees of 96 x 96 x 96
voxels, eight drawn ones and shifted copies of them. 1,000 need 4.5 GB of disk for a while.
"""

import argparse
import itertools
import multiprocessing
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from machine import machine
from side_by_side.worker import status_bytes

from deepatlas_tf.datasets.load import data_set
from deepatlas_tf.datasets.phantom_knee import phantom_knee_dataset_builder as phantom_knee
from deepatlas_tf.datasets.prepare import prepare
from deepatlas_tf.experiments import get_experiment
from deepatlas_tf.keras_stack import tf, tfds, versions
from deepatlas_tf.runs.files import write_json
from deepatlas_tf.streams.pairs import StreamSettings, pair_stream
from deepatlas_tf.training.build_method import build_method

RESULTS = Path(__file__).parent / "results" / "data"
DRAWN = 8  # phantoms; the other subjects are shifted copies, which take no time to make
EPOCHS = 3


class ManyKnees(phantom_knee.Builder, skip_registration=True):
    """As many phantom knees as are asked for."""

    VARIANTS = ("t1",)

    def find_subjects(self, manual_dir):
        _, labelled = super().find_subjects(manual_dir)
        subjects = sorted(labelled)
        return {"train": subjects[:-4], "validation": subjects[-4:-2], "test": subjects[-2:]}, labelled

    def read(self, subject):
        number = self.seed(subject)
        cache = self.__dict__.setdefault("_drawn", {})
        if number % DRAWN not in cache:
            cache[number % DRAWN] = super().read(f"knee_{number % DRAWN:04d}")
        found = dict(cache[number % DRAWN])
        for name in ("image", "label"):
            found[name] = np.roll(found[name], number // DRAWN, axis=0)
        return found


def knees(folder: Path, shape: tuple[int, ...], n_subjects: int):
    """The prepared data set, with as many subjects for training, and four others."""
    spacing = tuple(round(120 / n, 4) for n in shape)
    config = ManyKnees.config_for(shape, spacing, n_subjects + 4)
    return data_set("many_knees", prepare(ManyKnees, config, folder))


# ---------------------------------------------------------------------------------------------------------- encodings


def encodings(shape: tuple[int, ...], repeats: int) -> list[dict]:
    """One row for each way to store an image or a label map."""
    with tempfile.TemporaryDirectory() as folder:
        samples = list(knees(Path(folder), shape, 2 * DRAWN).samples("train").as_numpy_iterator())[:DRAWN]
    images = np.stack([sample["image"] for sample in samples])
    labels = np.stack([sample["label"] for sample in samples]).astype(np.uint8)
    rows = []
    for what, values, dtypes in (
        ("image", images, ("float32", "float16", "uint16", "uint8")),
        ("label", labels, ("uint8",)),
    ):
        for dtype, encoding in itertools.product(dtypes, ("none", "bytes", "zlib")):
            row = _encoding(values, dtype, encoding, repeats)
            rows.append({"what": what, "dtype": dtype, "encoding": encoding, **row})
            print(rows[-1], flush=True)
    return rows


def _encoding(values: np.ndarray, dtype: str, encoding: str, repeats: int) -> dict:
    feature = tfds.features.FeaturesDict(
        {"x": tfds.features.Tensor(shape=values.shape[1:], dtype=np.dtype(dtype), encoding=encoding)}
    )
    # whole numbers stand for [0, 1]; a label map is stored as it is
    scale = np.iinfo(dtype).max if values.dtype == np.float32 and dtype.startswith("uint") else 1
    stored = np.round(values * scale) if scale > 1 else values
    out = tf.float32 if values.dtype == np.float32 else tf.int32

    def decode(record):
        value = tf.cast(feature.deserialize_example(record)["x"], out)
        return value / scale if scale > 1 else value

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "records"
        with tf.io.TFRecordWriter(str(path)) as writer:
            for value in stored.astype(dtype):
                writer.write(feature.serialize_example({"x": value}))
        size = path.stat().st_size / len(values)
        dataset = tf.data.TFRecordDataset(str(path)).map(decode)
        read = np.stack(list(dataset.as_numpy_iterator()))
        stream, seconds = iter(dataset.repeat(repeats)), []
        for _ in range(repeats):
            start = time.perf_counter()
            for _ in values:
                next(stream)
            seconds.append((time.perf_counter() - start) / len(values))
    error = float(np.abs(read.astype(np.float64) - values).max())
    return {
        "megabytes": round(size / 1e6, 3),
        "milliseconds": round(statistics.median(seconds) * 1e3, 2),
        "error": error,
    }


# ------------------------------------------------------------------------------------------------------------ reading


def reading(folder: Path, shape: tuple[int, ...], n_subjects: int, memory_gib: float, batches: int) -> dict:
    """Pairs a second without and with augmentation, and peak memory; in a process of its own."""
    data = knees(folder, shape, n_subjects)
    size = sum(path.stat().st_size for path in Path(data.builder.data_dir).glob("*tfrecord*"))
    row = {"subjects": len(data.subjects["train"]), "gigabytes": round(size / 1e9, 2), "memory_gib": memory_gib}
    row["start_mib"] = status_bytes("VmRSS") // 2**20
    augmentation = get_experiment("oai_knee").stages[-1].augmentation
    for name, change in (("", None), ("augmented_", augmentation)):
        settings = StreamSettings(1, batches, seed=0, memory_gib=memory_gib, augmentation=change)
        subjects = data.subjects["train"]
        start = time.perf_counter()
        stream = iter(pair_stream(data.samples("train"), subjects, data.labelled["train"], (None, None), settings))
        next(stream)
        first = time.perf_counter()
        for _ in range(EPOCHS * batches - 1):
            next(stream)
        row[f"{name}first_pair_s"] = round(first - start, 2)
        row[f"{name}pairs_per_s"] = round((EPOCHS * batches - 1) / (time.perf_counter() - first), 2)
        del stream
    return {**row, "peak_mib": status_bytes("VmHWM") // 2**20}


def registration_step(folder: Path, shape: tuple[int, ...], steps: int) -> float:
    """Seconds of an update of the registration network, in ``fit``, on a pair that is in memory."""
    data = knees(folder, shape, 2 * DRAWN)
    experiment = get_experiment("oai_knee")
    stage = next(stage for stage in experiment.stages if stage.name == "registration_unsupervised")
    method = build_method(stage, experiment.networks, data, folder)
    settings = StreamSettings(1, 1, seed=0)
    pairs = pair_stream(data.samples("train"), data.subjects["train"], (), (None, None), settings)
    stream = tf.data.Dataset.from_tensors(next(iter(pairs))).repeat()
    method.fit(stream, steps_per_epoch=1, verbose=0)  # traces and compiles
    start = time.perf_counter()
    method.fit(stream, steps_per_epoch=steps, verbose=0)
    return (time.perf_counter() - start) / steps


def apart(function, *arguments):
    """Call in a new process, so that its memory is its own."""
    pool = multiprocessing.get_context("spawn").Pool(1)
    result = pool.apply(function, arguments)
    pool.close()
    pool.join()
    return result


def measure_reading(args) -> dict:
    """Everything but the versions."""
    shape = (args.size,) * 3
    rows = []
    for n_subjects in args.subjects:
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            apart(knees, Path(folder), shape, n_subjects)
            for memory_gib in args.memory_gib:
                rows.append(apart(reading, Path(folder), shape, n_subjects, memory_gib, args.batches))
                print(rows[-1], flush=True)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        seconds = apart(registration_step, Path(folder), shape, args.steps)
    slowest = min(min(row["pairs_per_s"], row["augmented_pairs_per_s"]) for row in rows)
    return {
        "shape": shape,
        "steps_per_epoch": args.batches,
        "streams": rows,
        "registration_step_s": round(seconds, 3),
        "stream_to_step": round(slowest * seconds, 1),
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("encodings", "reading"))
    parser.add_argument("--subjects", type=int, nargs="+", default=(16, 128, 1000), help="for training")
    parser.add_argument("--size", type=int, default=96, help="voxels along each axis")
    parser.add_argument("--memory-gib", type=float, nargs="+", default=(0.5, 2.0), help="of the tables of scans")
    parser.add_argument("--batches", type=int, default=100, help="pairs of an epoch; or repeats, for encodings")
    parser.add_argument("--steps", type=int, default=3, help="of the registration that are timed")
    parser.add_argument("--folder", type=Path, help="for the prepared scans, while it runs; default: the system's")
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    if args.what == "encodings":
        found = {"shape": (args.size,) * 3, "rows": encodings((args.size,) * 3, args.batches)}
    else:
        found = measure_reading(args)
        print({name: value for name, value in found.items() if name != "streams"})
    args.output.mkdir(parents=True, exist_ok=True)
    write_json(args.output / f"{args.what}.json", {**found, "machine": machine(), "versions": versions()})


if __name__ == "__main__":
    main()
