"""Bad input, a thousand cases: scans, lists, settings and folders of runs, each broken at random.

    python benchmarks/reliability/fuzz.py

Every case is one command in this process, on small synthetic files of which one was broken by a random change that a
seed repeats. It has to end with an exit status of 0, 1 or 2 and at most a few lines of text, within ten seconds, with
less than 2 GiB more memory, and without a file outside of its output folder. Every other end is kept with its seed:
``--first SEED --cases 1 --verbose`` runs one alone. Written to ``benchmarks/results/reliability/fuzz.json``.
"""

import argparse
import collections
import contextlib
import gzip
import io
import json
import random
import resource
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

import nibabel as nib
import numpy as np

RESULTS = Path(__file__).parents[1] / "results" / "reliability"
SECONDS, MIB, LINES = 10.0, 2048, 6
HEADER = 352  # bytes of a NIfTI-1 file before its voxels
NASTY = (
    b"\x00",
    b"$\\frac{$x",
    b"\xff\xfe",
    b"9" * 5000,
    b"../../out",
    b'"',
    b",,,",
    b"\n\n",
    b"\xed\xa0\x80",
    b"1e999",
)


def write_inputs(folder: Path) -> None:
    """Six small synthetic scans with label maps, their list, and the same in the layout of nnU-Net; a run beside."""
    rng = np.random.default_rng(0)
    rows = ["subject,image,label,split"]
    for place in ("imagesTr", "labelsTr"):
        (folder / "nnunet" / place).mkdir(parents=True)
    for index in range(6):
        label = np.zeros((14, 12, 10), np.uint8)
        label[3:9, 3:8, 2:7], label[5:8, 4:7, 3:6] = 1, 2
        image = (100 * label + rng.normal(100, 5, label.shape)).astype(np.float32)
        affine = np.diag([2.0, 2.0, 2.5, 1.0])
        for name, volume in ((f"s{index}.nii.gz", image), (f"s{index}_lab.nii.gz", label)):
            nib.save(nib.Nifti1Image(volume, affine), folder / name)
        shutil.copy(folder / f"s{index}.nii.gz", folder / "nnunet" / "imagesTr" / f"s{index}_0000.nii.gz")
        shutil.copy(folder / f"s{index}_lab.nii.gz", folder / "nnunet" / "labelsTr" / f"s{index}.nii.gz")
        split = ("train", "train", "train", "validation", "test", "test")[index]
        rows.append(f"s{index},s{index}.nii.gz,s{index}_lab.nii.gz,{split}")
    (folder / "scans.csv").write_text("\n".join(rows) + "\n")
    about = {"labels": {"background": 0, "shell": 1, "core": 2}, "channel_names": {"0": "T1"}, "file_ending": ".nii.gz"}
    (folder / "nnunet" / "dataset.json").write_text(json.dumps({**about, "numTraining": 6}))
    (folder / "labels.csv").write_text("label,name\n0,background\n1,shell\n2,core\n")


def broken(data: bytes, rng: random.Random) -> bytes:
    """The bytes of a file after one to three random changes: bits, pieces cut out, put in or said twice."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(data) + 1)
        change = rng.choice(("bits", "cut", "end", "nasty", "twice"))
        if change == "bits" and data:
            data[at % len(data)] ^= 1 << rng.randrange(8)
        elif change == "cut":
            del data[at : at + rng.randint(1, 40)]
        elif change == "end":
            del data[at:]
        elif change == "nasty":
            data[at:at] = rng.choice(NASTY)
        else:
            data[at:at] = data[at : at + rng.randint(1, 60)]
    return bytes(data)


def broken_scan(path: Path, rng: random.Random) -> None:
    """Break a compressed scan: mostly numbers of its header, else its voxels or the compression itself."""
    kind, raw = rng.choice(("header", "header", "header", "any", "gzip")), gzip.decompress(path.read_bytes())
    if kind == "gzip":
        path.write_bytes(broken(path.read_bytes(), rng))
        return
    if kind == "any":
        raw = broken(raw, rng)
    else:
        header = bytearray(raw[:HEADER])
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(0, HEADER - 4, 2)
            value = rng.choice(
                (b"\xff\x7f", b"\x00\x80", b"\x00\x00", b"\x80\x7f", bytes(rng.randrange(256) for _ in "ab"))
            )
            header[at : at + 2] = value
        raw = bytes(header) + raw[HEADER:]
    path.write_bytes(gzip.compress(raw, 1))


def case(seed: int, folder: Path, inputs: Path, run: Path) -> tuple[str, list[str]]:
    """What is broken, and the command to be run on it; everything is copied into ``folder`` first."""
    rng = random.Random(seed)
    kind = rng.choice(("scan", "label", "csv", "dataset.json", "labels.csv", "setting", "run", "moving"))
    shutil.copytree(inputs, folder / "in")
    listed, out = folder / "in" / "scans.csv", folder / "out"
    if kind in ("scan", "label"):
        broken_scan(folder / "in" / ("s1.nii.gz" if kind == "scan" else "s1_lab.nii.gz"), rng)
        if kind == "scan" and rng.random() < 0.5:
            return kind, ["segment", str(folder / "in" / "s1.nii.gz"), "--model", str(run), "-o", str(out)]
        return kind, ["data", "validate", str(listed), "-o", str(out)]
    if kind == "moving":
        broken_scan(folder / "in" / "s1.nii.gz", rng)
        scans = [str(folder / "in" / name) for name in ("s1.nii.gz", "s2.nii.gz")]
        return kind, ["register", *scans, "--model", str(run), "-o", str(out)]
    if kind == "setting":
        text = broken(b"stages.deepatlas.weights.registration.anatomy=0.5", rng).decode("latin-1")
        return kind, [
            "train",
            "--data-dir",
            str(folder / "none"),
            "--workdir",
            str(out),
            "--method",
            "x",
            "--set",
            text,
        ]
    if kind == "run":
        shutil.copytree(run, folder / "run")
        names = ["experiment.json", "model.json", "experiment.json", "model.json", "deepatlas/nets/segmentation.keras"]
        path = folder / "run" / rng.choice(names)
        path.write_bytes(broken(path.read_bytes(), rng))
        command = rng.choice((["report", "-o", str(out / "report.html")], ["segment"]))
        if command == ["segment"]:
            return kind, ["segment", str(folder / "in" / "s1.nii.gz"), "--model", str(folder / "run"), "-o", str(out)]
        out.mkdir()
        return kind, [command[0], str(folder / "run"), *command[1:]]
    place = {"csv": listed, "dataset.json": folder / "in" / "nnunet" / "dataset.json"}.get(kind)
    place = place or folder / "in" / "labels.csv"
    place.write_bytes(broken(place.read_bytes(), rng))
    source = folder / "in" / "nnunet" if kind == "dataset.json" else listed
    return kind, ["data", "validate", str(source), "-o", str(out)]


def ended(command: list[str]) -> tuple[int | None, str, str]:
    """The exit status of a command, None after an exception that it did not catch, and both its streams."""
    from deepatlas_tf.cli import main

    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            status = main(command)
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 2
        except BaseException:
            return None, "", traceback.format_exc()
    return status, output.getvalue(), errors.getvalue()


def fault(seed: int, inputs: Path, run: Path, verbose: bool = False) -> tuple[str, str | None]:
    """What was broken in a case, and what was wrong with the end of its command, None for nothing."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        kind, command = case(seed, folder, inputs, run)
        before = {path for path in folder.rglob("*") if "out" not in path.relative_to(folder).parts[:1]}
        start, peak = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        status, output, errors = ended(command)
        seconds = time.perf_counter() - start
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) / 1024
        after = {path for path in folder.rglob("*") if "out" not in path.relative_to(folder).parts[:1]}
        if verbose:
            print(command, status, output, errors, f"{seconds:.1f} s", sep="\n")
    lines = errors.strip().splitlines()
    if status not in (0, 1, 2):
        return kind, f"exit status {status}: {lines[-1] if lines else ''}"
    if any("Traceback" in line for line in lines) or (kind != "setting" and len(lines) > LINES):
        return kind, f"{len(lines)} lines of text: {lines[0]}"
    if status and not lines and not output.strip():  # a validation reports on stdout what it found
        return kind, "no message"
    if seconds > SECONDS or grown > MIB:
        return kind, f"{seconds:.0f} s, {grown:.0f} MiB"
    new = sorted(str(path.relative_to(folder)) for path in after - before)
    return kind, f"wrote {new[0]}" if new else None


def fuzz(first: int, cases: int, run: Path, verbose: bool = False) -> dict:
    """How many cases of each kind were run, and the faults with their seeds."""
    counts, faults = collections.Counter(), []
    with tempfile.TemporaryDirectory() as place:
        write_inputs(Path(place))
        for seed in range(first, first + cases):
            kind, found = fault(seed, Path(place), run, verbose)
            counts[kind] += 1
            if found:
                faults.append({"seed": seed, "kind": kind, "fault": found})
                print(f"{seed} {kind}: {found}", flush=True)
    return {"cases": cases, "first_seed": first, "cases_by_kind": dict(sorted(counts.items())), "faults": faults}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--output", type=Path, default=RESULTS / "fuzz.json")
    args = parser.parse_args()
    from results import write
    from small_run import write_run

    with tempfile.TemporaryDirectory() as place:
        result = fuzz(args.first, args.cases, write_run(Path(place) / "run"), args.verbose)
    write(args.output, result)
    if result["faults"]:
        sys.exit(f"{len(result['faults'])} of {args.cases} cases ended as none should")


if __name__ == "__main__":
    main()
