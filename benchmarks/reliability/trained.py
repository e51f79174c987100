"""Tiny trainings in processes of their own, and what is compared of them: weights, losses and tables, no times."""

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

# method -> data set with a grid on which its tiny run takes seconds; seg_guided's stages are in both dimensions
SLICES = ("phantom_knee", "(16,16)", "(7.5,7.5)")
DOMAINS = ("phantom_knee/xray_dxa", "(16,16)", "(7.5,7.5)")
VOLUMES = ("phantom_knee", "(16,16,16)", "(7.5,9.0,7.5)")
METHODS = {
    "deepatlas": SLICES,
    "semi_deepatlas": VOLUMES,
    "one_shot": SLICES,
    "voxelmorph": VOLUMES,
    "mean_teacher": SLICES,
    "uniseg_reg": SLICES,
    "seg_guided": DOMAINS,
}
TIMES = ("seconds", "steps_per_second")


def train_command(method: str, data: Path, workdir: Path, *options: str) -> list[str]:
    """The command of a tiny run of a method on the synthetic data set that stands for it in ``METHODS``."""
    dataset, shape, spacing = METHODS[method]
    command = [sys.executable, "-m", "deepatlas_tf.train", "--tiny", "--quiet", "--method", method]
    command += ["--dataset", dataset, "--set", f"data.shape={shape}", "--set", f"data.spacing={spacing}"]
    return [*command, "--data-dir", str(data), "--workdir", str(workdir), *options]


def train(command: list[str]) -> float:
    """Run a command to its end; the seconds that it took. Raises RuntimeError, with what it printed, if it failed."""
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return time.perf_counter() - start


def train_and_kill(command: list[str], moments: list[float]) -> int:
    """Start a command again and again, killed (SIGKILL) after each of some seconds, then run to its end.

    Returns how many of the moments came before the end of the command; later ones are not used.
    """
    for kills, seconds in enumerate(moments):
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        try:
            _, errors = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            continue
        if process.returncode:
            raise RuntimeError(f"after {kills} kills {' '.join(command)} ended with {process.returncode}:\n{errors}")
        return kills
    train(command)
    return len(moments)


def digests(workdir: Path) -> dict[str, str]:
    """Digests of what must not depend on how often a run was interrupted, by its path in the folder of the run.

    The weights of each network (not the file, which holds the time), the rows of metrics.jsonl without times, the
    soft pseudo masks, and the tables of the evaluation.
    """
    found = {}
    for path in sorted(workdir.rglob("*")):
        name = path.relative_to(workdir).as_posix()
        if path.suffix == ".keras" and path.parent.name == "nets":
            found[name] = _digest(*_weights(path))
        elif path.name == "metrics.jsonl":
            found[name] = _digest(json.dumps(training_rows(path)).encode())
        elif path.parent.name == "evaluation" or "pseudo" in path.parts and path.is_file() and path.suffix != ".png":
            found[name] = _digest(path.read_bytes())
    return found


def training_rows(path: Path, with_validation: bool = True) -> list[dict]:
    """The rows of a metrics.jsonl without times; on demand without what was measured on validation subjects."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in TIMES and (with_validation or "val" not in k)} for row in rows]


def _weights(path: Path) -> list[bytes]:
    import h5py

    parts: list[bytes] = []

    def add(name, item):
        if isinstance(item, h5py.Dataset):
            parts.extend([name.encode(), item[()].tobytes()])

    with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
        file.visititems(add)
    return parts


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()[:16]
