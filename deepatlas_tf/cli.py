"""The command line: ``deepatlas train`` and ``deepatlas evaluate``. Options take hyphens or underscores."""

import argparse
import sys
from pathlib import Path

from deepatlas_tf.types import DataError, DivergedError, MissingDataError, SettingError

TRAIN_EXAMPLES = """examples:
  deepatlas train
  deepatlas train --dataset hippocampus --manual-dir DATA --labels 5 --workdir runs/hippo5
  deepatlas train --dataset hippocampus --set stages.deepatlas.turns.registration=5 --set data.labels=3
"""
EVALUATE_EXAMPLE = """example:
  deepatlas evaluate runs/hippo5 --split validation
"""


def main(argv: list[str] | None = None) -> int:
    """Run a command; 0 when it worked, 1 for bad input, 2 for a wrong call or data that are not there."""
    args = _parser().parse_args(_hyphens(sys.argv[1:] if argv is None else argv))
    try:
        args.command(args)
    except MissingDataError as error:
        print(error, file=sys.stderr)
        return 2
    except (DataError, DivergedError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, SettingError) else 1
    except KeyboardInterrupt:
        print("interrupted: the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="deepatlas", description="Learn registration and segmentation together.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_train(commands)
    _add_evaluate(commands)
    return parser


def _add_train(commands) -> None:
    raw = argparse.RawDescriptionHelpFormatter
    train = commands.add_parser("train", help="train, evaluate and draw", epilog=TRAIN_EXAMPLES, formatter_class=raw)
    train.add_argument("--dataset", default="phantom_knee", help="default: phantom_knee, synthetic, needs no download")
    train.add_argument(
        "--data-dir", type=Path, help="where prepared data sets are kept; default: TFDS's, ~/tensorflow_datasets"
    )
    train.add_argument("--manual-dir", type=Path, help="folder with the scans; default: DATA_DIR/downloads/manual")
    train.add_argument("--workdir", type=Path, help="where the run is written, and resumed from; default: runs/DATASET")
    train.add_argument("--method", default="deepatlas", help="default: deepatlas, with its baselines")
    train.add_argument("--labels", type=int, metavar="N", help="how many training subjects keep their label map")
    train.add_argument("--seed", type=int, help="of the choice of labels, first weights and pairs")
    train.add_argument("--steps-scale", type=float, default=1.0, metavar="X", help="X times the steps of every stage")
    train.add_argument(
        "--set", action="append", default=[], metavar="A.B=V", help="change any setting of experiment.json"
    )
    train.add_argument("--tiny", action="store_true", help="a very short run that shows that everything works")
    train.set_defaults(command=_train)


def _add_evaluate(commands) -> None:
    raw = argparse.RawDescriptionHelpFormatter
    evaluate = commands.add_parser("evaluate", help="measure a run again", epilog=EVALUATE_EXAMPLE, formatter_class=raw)
    evaluate.add_argument("workdir", type=Path, help="of a trained run")
    evaluate.add_argument("--split", default="test", choices=["train", "validation", "test"])
    evaluate.add_argument("--data-dir", type=Path, help="as for train")
    evaluate.add_argument("--manual-dir", type=Path, help="as for train")
    evaluate.set_defaults(command=_evaluate)


def _train(args) -> None:
    from deepatlas_tf.run import run  # TensorFlow takes seconds to import: not for --help

    run(args)


def _evaluate(args) -> None:
    from deepatlas_tf.run import evaluate_again

    evaluate_again(args)


def _hyphens(argv: list[str]) -> list[str]:
    """``--data_dir=x_y`` -> ``--data-dir=x_y``."""
    changed = []
    for word in argv:
        name, equals, value = word.partition("=")
        changed.append(name.replace("_", "-") + equals + value if name.startswith("--") else word)
    return changed
