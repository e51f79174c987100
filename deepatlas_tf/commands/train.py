"""Train, evaluate and draw; the same command resumes an interrupted run."""

import argparse
from pathlib import Path
from typing import Any

from deepatlas_tf.commands import PRETRAINED
from deepatlas_tf.view import add_option, turned

EXAMPLES = """\
  deepatlas train
  deepatlas train --dataset hippocampus --manual-dir DATA --labels 5 --workdir runs/hippo5
  deepatlas train --dataset nifti --data-dir scans.csv --workdir runs/scans
  deepatlas train --dataset nifti --data-dir scans.csv --full-resolution --workdir runs/fine
  deepatlas train --dataset hippocampus --set stages.deepatlas.turns.registration=5 --set data.labels=3
  deepatlas train --config runs/scans/experiment.json --data-dir more.csv --workdir runs/more
  deepatlas train --dataset nifti --data-dir more.csv --init-from runs/scans --workdir runs/finer
"""


def add_arguments(train: argparse.ArgumentParser) -> None:
    """Add the options to the command's parser."""
    train.add_argument("--dataset", help="default: phantom_knee, synthetic; nifti: your own scans")
    train.add_argument(
        "--data-dir",
        type=Path,
        help="where prepared data sets are kept, default: ~/tensorflow_datasets; for --dataset nifti the scans, "
        "a folder (nnU-Net, BIDS) or a CSV (subject,image,label,split; image_t1,image_t2 for channels)",
    )
    train.add_argument("--manual-dir", type=Path, help="folder with the scans; default: DATA_DIR/downloads/manual")
    train.add_argument("--workdir", type=Path, help="where the run is written, and resumed from; default: runs/DATASET")
    train.add_argument("--method", help="default: deepatlas, with its baselines")
    train.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="experiment.json of a run, or the same as .yaml (needs PyYAML), in place of --dataset and --method",
    )
    train.add_argument(
        "--init-from", type=Path, metavar="RUN", help=f"begin with the networks of RUN, or {PRETRAINED}, on its grid"
    )
    train.add_argument("--labels", type=int, metavar="N", help="how many training subjects keep their label map")
    train.add_argument("--seed", type=int, help="of the choice of labels, first weights and pairs")
    train.add_argument(
        "--steps-scale", type=_above_zero, default=1.0, metavar="X", help="X times the steps of every stage"
    )
    train.add_argument(
        "--set", action="append", default=[], metavar="A.B=V", help="change any setting of experiment.json"
    )
    _add_devices(train)
    train.add_argument(
        "--folds",
        type=int,
        metavar="K",
        help="cross-validation: K runs in WORKDIR/fold_0, ..., each labelled subject tested in one, as many as there "
        "are leave one out; segment and register take WORKDIR as one model",
    )
    train.add_argument(
        "--full-resolution",
        action="append_const",
        dest="set",
        const="data.full_resolution=True",
        help="a last stage learns to segment the scans at their own voxel size, from patches of them: with the label "
        "maps, and with what the networks are sure of in scans without one; segment then uses it",
    )
    add_option(train)
    train.add_argument("--tiny", action="store_true", help="a very short run that shows that everything works")


def _add_devices(train: argparse.ArgumentParser) -> None:
    """The options that say on what and how networks compute."""
    train.add_argument(
        "--strategy",
        choices=("none", "mirrored", "multi_worker"),
        default="none",
        help="mirrored: all GPUs of this machine; multi_worker: all machines of the variable TF_CONFIG; a batch is "
        "shared by all. default: none, one device",
    )
    train.add_argument(
        "--precision",
        action="append",
        dest="set",
        type="networks.precision={}".format,
        metavar="P",
        help="mixed_bfloat16 or mixed_float16: the networks compute in 16 bits, all else in 32. default: float32",
    )


def run(args: argparse.Namespace) -> None:
    """Everything from the scans to the pictures."""
    from deepatlas_tf.cross_validation import cross_validate  # TensorFlow takes seconds to import: not for --help
    from deepatlas_tf.run import experiment_from, train

    experiment = experiment_from(args.config, args.init_from, **experiment_options(args))
    places = {name: getattr(args, name) for name in ("workdir", "data_dir", "manual_dir", "strategy")}
    with turned(args.neurological):
        if args.folds is None:
            train(experiment, **places)
        else:
            cross_validate(experiment, args.folds, **places)


def experiment_options(args: argparse.Namespace) -> dict[str, Any]:
    """The options that were given, as :func:`~deepatlas_tf.run.make_experiment` takes them."""
    names = ("dataset", "method", "labels", "seed", "steps_scale", "tiny")
    given = {name: getattr(args, name) for name in names}
    return {"settings": args.set} | {name: value for name, value in given.items() if value is not None}


def _above_zero(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"a number above 0 is needed, not {text}")
    return value
