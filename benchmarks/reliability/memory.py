"""Whether a long training grows: resident memory at step 200 and at step 2,000 of one stage.

    python benchmarks/reliability/memory.py

The joint stage of DeepAtlas on small synthetic volumes, in a process of its own; its memory is read whenever a line of
``metrics.jsonl`` says that an epoch of 100 steps is done. Written to ``benchmarks/results/reliability/memory.json``.
"""

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

from trained import train_command

RESULTS = Path(__file__).parents[1] / "results" / "reliability"
STAGE = "deepatlas"
MOST = 1.03  # of the memory at the first epoch's end that is compared


def resident_mib(process: int) -> float:
    """Resident memory of a process, in MiB."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def watch(command: list[str], workdir: Path) -> list[dict]:
    """Run a training; its step and memory at the end of each epoch of ``STAGE``."""
    path, rows = workdir / STAGE / "metrics.jsonl", []
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while process.poll() is None:
        lines = path.read_text().splitlines() if path.exists() else []
        if len(lines) > len(rows):
            rows.append({"step": json.loads(lines[-1])["step"], "mib": round(resident_mib(process.pid), 1)})
        time.sleep(0.05)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{process.stderr.read()}")
    return rows


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--output", type=Path, default=RESULTS / "memory.json")
    args = parser.parse_args()
    from results import write

    epochs = args.steps // 100
    settings = [
        f"stages.{STAGE}.steps={args.steps}",
        f"stages.{STAGE}.epochs={epochs}",
        "evaluation.validation_subjects=2",
    ]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        command = train_command("deepatlas", folder / "data", folder / "run")
        rows = watch([*command, *(word for setting in settings for word in ("--set", setting))], folder / "run")
    first = next(row for row in rows if row["step"] >= 200)
    ratio = rows[-1]["mib"] / first["mib"]
    write(args.output, {"rows": rows, "ratio": round(ratio, 4)})
    print(f"{first['mib']} MiB at step {first['step']}, {rows[-1]['mib']} at step {rows[-1]['step']}: {ratio:.3f}")
    if ratio > MOST:
        raise SystemExit("memory grows with the number of steps")


if __name__ == "__main__":
    main()
