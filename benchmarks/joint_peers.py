"""Learning from few labels beside nnU-Net and MONAI's DeepAtlas: the same scans, label maps, grid, minutes and cores.

    python benchmarks/joint_peers.py all RUN runs/joint_brains

or its steps one by one, each of which goes on where it was interrupted:

    python benchmarks/joint_peers.py write RUN OUT     # scans and label maps as NIfTI, and the run's own results
    python benchmarks/joint_peers.py train OUT --peer nnunet --minutes 60 120
    python benchmarks/joint_peers.py train OUT --peer monai
    python benchmarks/joint_peers.py predict OUT       # the test scans and pairs, with every finished training
    python benchmarks/joint_peers.py score OUT         # everything with the package's code
    python benchmarks/joint_peers.py table OUT         # the tables of a result

RUN is finished and evaluated, on volumes of one domain. ``score`` writes ``benchmarks/results/joint_peers/NAME.json``
and one row for each case, class and method in ``NAME.csv``; NAME is that of OUT unless it is given. ``NAME.png`` shows
validation Dice against minutes of training.

Where no ``--minutes`` are given, a peer is trained for as long as all stages of the run together, and nnU-Net for twice
as long, too. Minutes are of training alone: imports, planning, preprocessing and validation are not counted. No peer
sees a label map of a test scan.

- ``nnunet``: nnU-Net v2 with its own plan, ``3d_fullres``, fold ``all``, on the labelled scans of training; its
  learning rate falls over the minutes. It predicts with mirroring, its default.
- ``monai``: the recipe of MONAI's tutorial on DeepAtlas, on all scans of training; each network keeps the weights that
  are best on the validation scans.

The peers run in ``.venv-joint-peers``, made from ``benchmarks/requirements-joint-peers.txt``, with two threads.
"""

import argparse
import os
import subprocess
from pathlib import Path

from joint.folder import JointFolder
from joint.given import PEERS
from peers.environment import peers_python
from peers.folder import use_two_cores

from deepatlas_tf.types import DataError

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "joint_peers"
ENVIRONMENT, REQUIREMENTS = HERE.parent / ".venv-joint-peers", HERE / "requirements-joint-peers.txt"
ROWS = {"nnunet": (1, 2), "monai": (1,)}  # trainings of a peer, as multiples of the run's minutes


def write(args) -> None:
    """The scans, and what the run has reached."""
    from joint import write as writing  # imports TensorFlow, which takes the two cores of this process

    writing.write(args.run, JointFolder(args.out), args.data_dir, args.manual_dir)


def train(args) -> None:
    """The trainings of the peers that are not finished yet."""
    folder = JointFolder(args.out)
    if not (ours := folder.stored(folder.ours_file)):
        raise DataError(f"{args.out}: the scans and the run's results are not all there; write them first")
    for peer in args.peer or PEERS:
        for minutes in args.minutes or [round(times * ours["minutes"], 2) for times in ROWS[peer]]:
            if not folder.given.trained(peer, minutes).record("train"):
                _in_peers_environment(args, "train", peer, minutes)


def predict(args) -> None:
    """The test scans and pairs, with every finished training that has not predicted yet."""
    for trained in JointFolder(args.out).given.all_trained():
        if not trained.record("predict"):
            _in_peers_environment(args, "predict", trained.peer, trained.minutes)


def _in_peers_environment(args, step: str, peer: str, minutes: float) -> None:
    """A step of a peer, in a process of its own."""
    python = args.peers_python.absolute() if args.peers_python else peers_python(ENVIRONMENT, REQUIREMENTS)
    command = [str(python), "-m", "joint.run", step, str(JointFolder(args.out).given.path.absolute()), peer]
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    subprocess.run([*command, f"{minutes:g}"], cwd=HERE, env=environment, check=True)


def score(args) -> None:
    """Score, print, and write the result and, where a peer was validated as it trained, a figure of the curves."""
    from joint import curves, shown
    from joint import score as scoring
    from machine import machine
    from turns import commit

    from deepatlas_tf.keras_stack import versions
    from deepatlas_tf.runs.files import write_json, write_rows

    result, rows = scoring.result(JointFolder(args.out))
    about = {"machine": machine(), "commit": commit(), "versions": versions()}
    write_json(_result_file(args), {**about, **result})
    write_rows(_result_file(args).with_suffix(".csv"), rows)
    if curves.peers(result):
        curves.draw(result, _result_file(args).with_suffix(".png"))
    print(shown.markdown(result))


def table(args) -> None:
    """Print the tables of a result that is there."""
    from joint import shown

    from deepatlas_tf.runs.files import read_json

    print(shown.markdown(read_json(_result_file(args))))


def _result_file(args) -> Path:
    return args.results / f"{args.name or args.out.resolve().name}.json"


def everything(args) -> None:
    """All steps."""
    for step in (write, train, predict, score):
        step(args)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = top.add_subparsers(dest="step", required=True)
    steps = {"write": write, "train": train, "predict": predict, "score": score, "table": table, "all": everything}
    for name, function in steps.items():
        step = commands.add_parser(name)
        step.set_defaults(function=function)
        if name in ("write", "all"):
            step.add_argument("run", type=Path, help="folder of a finished and evaluated run")
        step.add_argument("out", type=Path, help="folder of the comparison")
        if name in ("write", "all"):
            step.add_argument("--data-dir", type=Path, help="as for deepatlas train")
            step.add_argument("--manual-dir", type=Path, help="as for deepatlas train")
        if name in ("train", "all"):
            step.add_argument("--peer", nargs="+", choices=PEERS, help="default: all")
            step.add_argument("--minutes", type=float, nargs="+", help="a training for each; default: those of the run")
        if name in ("train", "predict", "all"):
            step.add_argument("--peers-python", type=Path, help="interpreter of an environment with the peers")
        if name in ("score", "table", "all"):
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
