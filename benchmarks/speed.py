"""Speed and memory side by side with PyTorch + MONAI and with voxelmorph as shipped: the table in docs/speed.md.

    python benchmarks/speed.py                       # all rows; half an hour on 2 idle cores
    python benchmarks/speed.py warp local_ncc        # some rows
    python benchmarks/speed.py table                 # the table of what has been measured
    python benchmarks/speed.py --tiny                # whether everything runs; nothing is written

Each side of a row has a process of its own on the same two cores, with two threads. Both get the same inputs and the
same weights, and take turns, so that only one computes at a time and a change of the machine's load meets all. The
steps are warmed up first; a ratio is that of the medians. Where both sides define a result in the same way, it has to
agree to 1e-3, or the row stops. Memory is the largest resident memory above that after the imports.

The peers run in ``.venv-peers``, which is made from ``benchmarks/requirements-peers.txt`` if it is not there.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

from side_by_side.pairing import THREADS, Side, compare_bytes, compare_seconds
from side_by_side.rows import MODULES, OURS, PEERS_PYTHON, ROWS
from side_by_side.table import markdown, ratios

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "speed"
PEERS, REQUIREMENTS = HERE.parent / ".venv-peers", HERE / "requirements-peers.txt"


def peers_python() -> str:
    """The interpreter of the peers' environment, which is made where there is none with these requirements."""
    python, installed = PEERS / "bin" / "python", PEERS / REQUIREMENTS.name
    if not installed.exists() or installed.read_text() != REQUIREMENTS.read_text():
        if sys.version_info[:2] not in ((3, 11), (3, 12)):
            raise SystemExit("the peers' versions are for Python 3.11 and 3.12: run the benchmark with one of them")
        subprocess.run([sys.executable, "-m", "venv", "--clear", PEERS], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", REQUIREMENTS], check=True)
        shutil.copy(REQUIREMENTS, installed)
    return str(python)


def measure(row: str, pythons, repeats: int, tiny: bool) -> dict:
    """All cases of a row, as they are written."""
    cases = ROWS[row](tiny)
    timed = [case for case in cases if case.unit == "s"]
    names = dict.fromkeys(name for case in timed for name in (OURS, *case.peers))
    sides = {name: Side(name, pythons[name]) for name in names}
    results, about = [], {}
    try:
        for case in cases:
            if case.unit == "s":
                found = compare_seconds(sides, case, repeats, warm_up=1 if tiny else 3)
            else:
                found = compare_bytes(pythons, case, steps=1 if tiny else 2)
                about |= found.pop("about")
            results.append({"name": case.name, "settings": case.settings, **found})
            print(_line(results[-1]), flush=True)
        about |= {name: side.ask("about") for name, side in sides.items()}
    finally:
        for side in sides.values():
            side.close()
    return {"row": row, "threads": THREADS, "sides": about, "cases": results}


def _line(case) -> str:
    shown = (f"{ratio:.3f} of {name}" for name, ratio in ratios(case.get("bytes") or case["seconds"]).items())
    text = f"{case['name']}: {', '.join(shown)}"
    for name, results in case["agreement"].items():
        same = {
            key: one["relative_difference"] for key, one in results.items() if f"{name}: {key}" not in case["differs"]
        }
        text += f"; agrees with {name} to {max(same.values()):.1g} in {', '.join(same)}" if same else ""
    return text


def stored(folder: Path) -> list[dict]:
    """What has been measured, in the order of ``ROWS``."""
    files = [folder / f"{row}.json" for row in ROWS]
    return [json.loads(path.read_text()) for path in files if path.exists()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"{', '.join(ROWS)}, or table; all where none is given")
    parser.add_argument("--repeats", type=int, default=9, help="of each side of a case")
    parser.add_argument("--tiny", action="store_true", help="small inputs, one repeat, nothing written")
    parser.add_argument("--peers-python", type=Path, help="interpreter of an environment with the peers")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    if args.rows == ["table"]:
        print(markdown(stored(args.out)))
        return
    unknown = sorted(set(args.rows) - set(ROWS))
    if unknown:
        parser.error(f"there is no row {unknown[0]!r}; there are {', '.join(ROWS)}")
    peers = str(args.peers_python.absolute()) if args.peers_python else peers_python()
    pythons = {name: peers if name in PEERS_PYTHON else sys.executable for name in MODULES}
    found = []
    for row in args.rows or ROWS:
        found.append(measure(row, pythons, 1 if args.tiny else args.repeats, args.tiny))
        if not args.tiny:
            _write(args.out / f"{row}.json", found[-1])
    print(markdown(found))


def _write(path: Path, result: dict) -> None:
    # both import TensorFlow, which the processes of the sides do not have to share memory with until then
    from machine import machine

    from deepatlas_tf.runs.files import write_json

    write_json(path, {"machine": machine(), **result})


if __name__ == "__main__":
    main()
