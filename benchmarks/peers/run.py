"""The peers on the pairs of a folder, in an environment of their own: ``python -m peers.run OUT [METHOD ...]``.

All settings on the validation pairs, then the chosen ones on the test pairs, where a choice has been made. What is
there is not done again. Each method has a process of its own, so that a tool that crashes takes no other with it.
"""

import argparse
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import numpy as np

from peers.folder import SPLITS, THREADS, PeersFolder, pairs_of, read_volume, use_two_cores, write_field, write_json
from peers.settings import METHODS, seed_of
from peers.tools import TOOLS, difference

MOST_DIFFERENCE = 0.01  # of the image's range; another axis, sign or unit gives ten times that


def run_all(folder: PeersFolder, methods) -> None:
    """Each method in a process of its own; ``tools.json`` says what each was, or why it is left out."""
    about = folder.stored(folder.tools_file)
    for method in methods:
        missing = [name for name in METHODS[method].packages if not _version(name)]
        if missing:
            about[method] = {"left_out": f"{', '.join(missing)} is not installed"}
        else:
            status = _in_own_process(folder, method)
            versions = {name: _version(name) for name in METHODS[method].packages}
            ended = {"left_out": f"its process ended with status {status}"} if status else {}
            about[method] = {"versions": versions, "seed": seed_of(METHODS[method].tool), "threads": THREADS, **ended}
        write_json(folder.tools_file, about)
        if "left_out" in about[method]:
            print(f"{method} is left out: {about[method]['left_out']}", flush=True)


def _in_own_process(folder: PeersFolder, method: str) -> int:
    """The exit status of :func:`run_method` in a process of its own."""
    command = [sys.executable, "-m", "peers.run", str(folder.path.absolute()), method, "--alone"]
    return subprocess.run(command, cwd=Path(__file__).resolve().parents[1], check=False).returncode


def run_method(folder: PeersFolder, method: str) -> None:
    """The fields of a method that are not there yet."""
    about, choice = folder.about(), folder.stored(folder.choice_file)
    for split in SPLITS:
        for setting, values in METHODS[method].settings.items():
            if split == "test" and choice.get(method) != setting:
                continue
            for pair in pairs_of(about, split):
                place = method, setting, pair["pair"]
                if not folder.field_file(*place).exists() and not folder.failure_file(*place).exists():
                    _run_pair(folder, place, pair, about["spacing"], values)


def _run_pair(folder, place, pair, spacing, values):
    images = [read_volume(folder.image_file(pair[side])).astype(np.float32) for side in ("fixed", "moving")]
    path, failure = folder.field_file(*place), folder.failure_file(*place)
    try:
        found = TOOLS[METHODS[place[0]].tool](*images, spacing, values)
        differs = difference(found, images[1])
        if not differs <= MOST_DIFFERENCE:
            raise ValueError(f"the tool's own warped image differs from that of the field by {differs:.3g}")
        write_field(path, found.u, seconds=found.seconds, cpu_seconds=found.cpu_seconds, difference=differs)
        print(f"{', '.join(place)}: {found.seconds:.2f} s, warped images differ by {differs:.1g}", flush=True)
    except Exception as error:  # whatever a tool raises: that pair failed, and the table says so
        path.parent.mkdir(parents=True, exist_ok=True)
        failure.write_text(f"{type(error).__name__}: {error}\n", encoding="utf-8")
        print(f"{', '.join(place)} failed: {type(error).__name__}: {error}", flush=True)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("methods", nargs="*", metavar="METHOD", help=f"{', '.join(METHODS)}; all where none is given")
    parser.add_argument("--alone", action="store_true", help="in this process")
    args = parser.parse_args()
    unknown = sorted(set(args.methods) - set(METHODS))
    if unknown:
        parser.error(f"there is no method {unknown[0]!r}; there are {', '.join(METHODS)}")
    use_two_cores()
    if args.alone:
        run_method(PeersFolder(args.out), *args.methods)
    else:
        run_all(PeersFolder(args.out), args.methods or METHODS)


if __name__ == "__main__":
    main()
