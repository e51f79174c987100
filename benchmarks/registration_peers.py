"""Registration beside ANTs, greedy, ConvexAdam and elastix: the same pairs, grid and evaluation, on the same two cores.

    python benchmarks/registration_peers.py all RUN runs/peers_brains --instance-steps 100 --anatomy

or its steps one by one, each of which goes on where it was interrupted:

    python benchmarks/registration_peers.py write RUN OUT     # pairs as NIfTI, and the fields of the run's networks
    python benchmarks/registration_peers.py peers OUT         # every setting of every peer on the validation pairs
    python benchmarks/registration_peers.py choose OUT        # the best setting of each peer, by mean Dice
    python benchmarks/registration_peers.py peers OUT         # the chosen settings on the test pairs
    python benchmarks/registration_peers.py score OUT         # everything on the test pairs, with the package's code

``write`` may be called again with other runs on the same data. A run is finished, on volumes of one domain. ``score``
writes ``benchmarks/results/registration_peers/NAME.json``, one row for each pair, method and class in ``NAME.csv``,
and ``NAME.png``, Dice against seconds; NAME is that of OUT unless it is given.

Seconds are of the registration alone, from images in memory to a transform, in one process, after the imports and, of
ours, after a first call. Where scans are aligned to a reference when data are prepared, the peers get them without and
align each pair themselves, within their seconds; the seconds of that preparation are not in ours. No peer and no
setting is chosen by test pairs; no peer sees a label map. A tool that cannot be installed is named and left out.

The peers run in ``.venv-registration-peers``, made from ``benchmarks/requirements-registration-peers.txt``.
"""

import argparse
import os
import subprocess
from pathlib import Path

from peers.environment import peers_python
from peers.folder import PeersFolder, use_two_cores
from peers.settings import METHODS

from deepatlas_tf.types import DataError

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "registration_peers"
PEERS, REQUIREMENTS = HERE.parent / ".venv-registration-peers", HERE / "requirements-registration-peers.txt"


def run_peers(folder: PeersFolder, methods, python: Path | None) -> None:
    """The peers' step, in their environment."""
    interpreter = python.absolute() if python else peers_python(PEERS, REQUIREMENTS)
    command = [str(interpreter), "-m", "peers.run", str(folder.path.absolute())]
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    subprocess.run([*command, *methods], cwd=HERE, env=environment, check=True)


def write(args) -> None:
    """The pairs, and the fields of a run."""
    from peers import ours  # imports TensorFlow, which takes the two cores of this process

    refinement = ours.Refinement(args.instance_steps, args.anatomy)
    most_pairs = {"validation": args.validation_pairs, "test": args.test_pairs}
    ours.write(args.run, PeersFolder(args.out), refinement, most_pairs, args.data_dir, args.manual_dir)


def choose(args) -> None:
    """The settings of the peers."""
    from peers import score

    for method, setting in score.choose(PeersFolder(args.out)).items():
        print(f"{method}: {setting}")


def keep(args) -> None:
    """Score, print, and write the result."""
    from machine import machine
    from peers import score, shown
    from turns import commit

    from deepatlas_tf.keras_stack import versions
    from deepatlas_tf.runs.files import write_json, write_rows

    result, rows = score.result(PeersFolder(args.out))
    name = args.name or args.out.resolve().name
    about = {"machine": machine(), "commit": commit(), "versions": versions()}
    write_json(args.results / f"{name}.json", {**about, **result})
    write_rows(args.results / f"{name}.csv", rows)
    shown.draw(result, args.results / f"{name}.png")
    print(shown.markdown(result))


def everything(args) -> None:
    """All steps."""
    write(args)
    run_peers(PeersFolder(args.out), args.methods, args.peers_python)
    choose(args)
    run_peers(PeersFolder(args.out), args.methods, args.peers_python)
    keep(args)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    steps = {
        "write": write,
        "peers": lambda args: run_peers(PeersFolder(args.out), args.methods, args.peers_python),
        "choose": choose,
        "score": keep,
        "all": everything,
    }
    commands = top.add_subparsers(dest="step", required=True)
    for name, function in steps.items():
        step = commands.add_parser(name)
        step.set_defaults(function=function)
        if name in ("write", "all"):
            step.add_argument("run", type=Path, help="folder of a finished run")
        step.add_argument("out", type=Path, help="folder of the comparison")
        if name in ("write", "all"):
            step.add_argument("--instance-steps", type=int, default=0, help="as for deepatlas evaluate")
            step.add_argument("--anatomy", action="store_true", help="as for deepatlas evaluate")
            step.add_argument("--validation-pairs", type=int, help="at most; all where it is not given")
            step.add_argument("--test-pairs", type=int, help="at most; all where it is not given")
            step.add_argument("--data-dir", type=Path, help="as for deepatlas train")
            step.add_argument("--manual-dir", type=Path, help="as for deepatlas train")
        if name in ("peers", "all"):
            step.add_argument("--methods", nargs="+", default=[], choices=METHODS, metavar="METHOD")
            step.add_argument("--peers-python", type=Path, help="interpreter of an environment with the peers")
        if name in ("score", "all"):
            step.add_argument("--name", help="of the result")
            step.add_argument("--results", type=Path, default=RESULTS, help="folder of results")
    return top


def main() -> None:
    """Run a step."""
    args = parser().parse_args()
    use_two_cores()
    try:
        args.function(args)
    except DataError as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
