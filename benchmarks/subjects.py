"""How preparation and training grow with the number of subjects: the tables in docs/scale.md.

    python benchmarks/subjects.py prepare
    python benchmarks/subjects.py train

``prepare``: seconds, memory and cores of ``deepatlas data prepare nifti`` on 125 to 1,000 synthetic scans, in one
process and with Apache Beam's DirectRunner and a worker for each core, from the start of the command to its end, and
the straight line ``a + b n`` of least squares. It needs the extra [beam]. OpenBLAS has one thread there: more change no
seconds, but count as used cores while they wait. ``train``: seconds of one registration and one segmentation turn, and
peak memory, of training with 20 to 500 synthetic subjects: once all of them are held in memory, and once
``data.memory_gib`` has room for 17. Each measurement is a process of its own. Written to
``benchmarks/results/subjects/``. Measure on idle cores; it takes about five minutes each.
"""

import argparse
import dataclasses
import importlib.metadata
import importlib.util
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil
from data import apart
from efficiency import line
from machine import machine
from side_by_side.worker import status_bytes
from turns import commit

from deepatlas_tf.datasets import beam
from deepatlas_tf.experiments import get_experiment
from deepatlas_tf.keras_stack import versions
from deepatlas_tf.phantoms import knee
from deepatlas_tf.processor import usable_cores
from deepatlas_tf.run import load_data
from deepatlas_tf.runs.files import write_json
from deepatlas_tf.streams.memory import resident_subjects, with_labels_of_a_byte
from deepatlas_tf.training import loop

RESULTS = Path(__file__).parent / "results" / "subjects"
SCANS, SHAPE, SPACING = (125, 250, 500, 1000), (24, 32, 24), (5.0, 5.0, 5.0)
DRAWN = 8  # phantoms; the other scans are shifted copies, which take no time to make
SUBJECTS, BUDGETS = (20, 100, 500), (2.0, 0.0125)  # GiB: the default, and room for 17 subjects
STEPS, EPOCHS = 30, 4  # steps of an epoch; the first one is not timed
BETWEEN_LOOKS = 0.1  # seconds
MIB = 2**20

# ------------------------------------------------------------------------------------------------------------ prepare


def write_scans(folder: Path, numbers) -> None:
    """As many scans as the largest number, their classes, and for each number the list ``<number>.csv`` of so many."""
    drawn, rows = [knee.knee(seed, SHAPE, SPACING) for seed in range(DRAWN)], []
    for n in range(max(numbers)):
        for name, volume in zip(("image", "label"), drawn[n % DRAWN], strict=True):
            scan = nib.Nifti1Image(np.roll(volume, n // DRAWN, axis=0), np.diag([*SPACING, 1.0]))
            nib.save(scan, folder / f"{name}_{n:04d}.nii.gz")
        rows.append(f"knee_{n:04d},image_{n:04d}.nii.gz,label_{n:04d}.nii.gz")
    classes = [f"{number},{name}" for number, name in enumerate(knee.CLASS_NAMES)]
    (folder / "labels.csv").write_text("\n".join(["number,name", *classes, ""]))
    for n in numbers:
        (folder / f"{n}.csv").write_text("\n".join(["subject,image,label", *rows[:n], ""]))


def watched(command) -> dict:
    """Run a command: its seconds, the cores that it and its workers used, and their peak memory.

    ``own_mib`` is of the process itself, ``workers_mib`` of all that it started together, which Beam's are.

    Raises:
        CalledProcessError: if the command fails.
    """
    start, own, together, cpu = time.perf_counter(), 0, 0, {}
    process = psutil.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"})
    while process.poll() is None:
        found = []
        for one in (process, *_children(process)):
            try:
                found.append(one.memory_info().rss)
                cpu[one.pid] = sum(one.cpu_times()[:2])
            except psutil.Error:  # it has just ended
                found.append(0)
        own, together = max(own, found[0]), max(together, sum(found[1:]))
        time.sleep(BETWEEN_LOOKS)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    cores = sum(cpu.values()) / seconds
    return {"seconds": seconds, "cores": cores, "own_mib": own / MIB, "workers_mib": together / MIB}


def _children(process) -> list:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def preparations(numbers, workers: int, with_beam: bool) -> list[dict]:
    """A row for each way and number of scans."""
    runner = f"runner=DirectRunner,direct_num_workers={workers},direct_running_mode=multi_processing"
    ways = {"one process": [], **({"Beam": ["--beam-options", runner]} if with_beam else {})}
    grid = ["--set", f"data.shape={SHAPE}", "--set", f"data.spacing={SPACING}"]
    rows = []
    with tempfile.TemporaryDirectory() as scans:
        write_scans(Path(scans), numbers)
        for n, (way, options) in itertools.product(numbers, ways.items()):
            with tempfile.TemporaryDirectory() as prepared:
                places = ["--manual-dir", f"{scans}/{n}.csv", "--data-dir", prepared]
                command = [sys.executable, "-m", "deepatlas_tf", "data", "prepare", "nifti", *places, *grid, *options]
                found = watched(command)
            rows.append({"way": way, "scans": n, **{name: round(value, 2) for name, value in found.items()}})
    return rows


def lines_of(rows) -> dict[str, dict]:
    """For each way the line of seconds over scans."""
    ways = dict.fromkeys(row["way"] for row in rows)
    chosen = {way: [row for row in rows if row["way"] == way] for way in ways}
    return {way: line([r["scans"] for r in of], [r["seconds"] for r in of]) for way, of in chosen.items()}


def preparation_table(rows) -> str:
    """Markdown, and a sentence for each way."""
    lines = [
        "| scans | prepared by | seconds | cores used | MiB | MiB of its workers |",
        "|---:|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        workers = f"{row['workers_mib']:.0f}" if row["workers_mib"] else "-"
        numbers = f"{row['seconds']:.1f} | {row['cores']:.2f} | {row['own_mib']:.0f} | {workers}"
        lines.append(f"| {row['scans']} | {row['way']} | {numbers} |")
    lines.append("")
    for way, of in lines_of(rows).items():
        lines.append(f"- {way}: {of['a_s']:.1f} s and {1e3 * of['b_s']:.1f} ms a scan, R^2 {of['r2']:.4f}.")
    return "\n".join(lines)


# -------------------------------------------------------------------------------------------------------------- train


class Clock(loop.Watch):
    """The command's own callback, which also notes when each epoch begins and each of its steps ends."""

    epochs: list[list[float]] = []

    def on_epoch_begin(self, epoch, logs=None):
        super().on_epoch_begin(epoch, logs)
        self.epochs.append([time.perf_counter()])

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch, logs)
        self.epochs[-1].append(time.perf_counter())


def experiment(n_subjects: int, memory_gib: float, steps: int, tiny: bool):
    """The phantom's, with the stage DeepAtlas alone and networks made new; ``steps`` of an epoch."""
    found = get_experiment("phantom_knee", tiny)
    stage = dataclasses.replace(
        found.stages[-1], start_from={}, pseudo_from={}, steps=steps * EPOCHS, epochs=EPOCHS, patience=0
    )
    data = dataclasses.replace(found.data, n_subjects=n_subjects, memory_gib=memory_gib)
    return dataclasses.replace(found, data=data, stages=(stage,))


def train(chosen, data_dir: Path) -> dict:
    """Train in this process: what is measured of it."""
    loop.Watch = Clock
    data = load_data(chosen.data, data_dir=data_dir)
    subjects, memory_gib = data.subjects["train"], chosen.data.memory_gib
    with tempfile.TemporaryDirectory() as workdir:
        loop.train_experiment(chosen, data, Path(workdir))
    return {
        "subjects": chosen.data.n_subjects,
        "train": len(subjects),
        "memory_gib": memory_gib,
        "held": resident_subjects(with_labels_of_a_byte(data.samples("train")), len(subjects), memory_gib),
        **seconds_of(Clock.epochs[1:]),
        "peak_mib": round(status_bytes("VmHWM") / MIB),
    }


def seconds_of(epochs) -> dict[str, float]:
    """Of two steps, one of each turn: their median, and their mean with what an epoch waits for at its beginning."""
    both = [end - start for ends in epochs for start, end in zip(ends[:-2:2], ends[2::2], strict=True)]
    return {"median_s": round(statistics.median(both), 4), "mean_s": round(statistics.mean(both), 4)}


def trainings(numbers, budgets, steps: int, tiny: bool) -> list[dict]:
    """A row for each number of subjects and memory budget."""
    rows = []
    with tempfile.TemporaryDirectory() as data_dir:
        for n in numbers:
            load_data(experiment(n, budgets[0], steps, tiny).data, data_dir=Path(data_dir))
        for memory_gib, n in itertools.product(budgets, numbers):
            rows.append(apart(train, experiment(n, memory_gib, steps, tiny), Path(data_dir)))
            print(rows[-1], flush=True)
    return rows


def training_table(rows) -> str:
    """Markdown."""
    lines = [
        "| `data.memory_gib` | subjects | for training | in memory | both turns, median | mean | peak, MiB |",
        "|---:" * 7 + "|",
    ]
    for row in rows:
        counts = f"{row['memory_gib']:g} | {row['subjects']} | {row['train']} | {row['held']}"
        lines.append(f"| {counts} | {row['median_s']:.3f} s | {row['mean_s']:.3f} s | {row['peak_mib']} |")
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("prepare", "train"))
    parser.add_argument(
        "--tiny", action="store_true", help="a dozen scans, Beam only if it is there; nothing is written"
    )
    args = parser.parse_args()
    if args.what == "prepare":
        has_beam = importlib.util.find_spec("apache_beam") is not None
        if not args.tiny:
            beam.package()  # says how to get it
        rows = preparations((8, 12) if args.tiny else SCANS, usable_cores(), has_beam)
        print(preparation_table(rows))
        facts = {"shape": SHAPE, "workers": usable_cores(), "lines": lines_of(rows)}
    else:
        rows = trainings((8, 12), (2.0,), 2, True) if args.tiny else trainings(SUBJECTS, BUDGETS, STEPS, False)
        print(training_table(rows))
        facts = {"steps_per_epoch": STEPS, "epochs": EPOCHS}
    if not args.tiny:
        beams = {"apache-beam": importlib.metadata.version("apache-beam")} if args.what == "prepare" else {}
        made_by = {"machine": machine(), "versions": {**versions(), **beams}, "commit": commit()}
        RESULTS.mkdir(parents=True, exist_ok=True)
        write_json(RESULTS / f"{args.what}.json", {**made_by, **facts, "rows": rows})


if __name__ == "__main__":
    main()
