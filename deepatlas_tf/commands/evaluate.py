"""Measure and draw a run again."""

import argparse
from pathlib import Path

from deepatlas_tf.types import SettingError
from deepatlas_tf.view import add_option, turned

EXAMPLES = """\
  deepatlas evaluate runs/hippo5 --split validation
  deepatlas evaluate runs/hippo5 --instance-steps 100 --anatomy
  deepatlas evaluate runs/hippo5 --atlases 5 --templates 8
  deepatlas evaluate runs/hippo5 --split validation --learn2reg submission --pairs pairs_val.csv
"""


def add_arguments(evaluate: argparse.ArgumentParser) -> None:
    """Add the options to the command's parser."""
    evaluate.add_argument("workdir", type=Path, help="of a trained run")
    evaluate.add_argument("--split", default="test", choices=["train", "validation", "test"])
    _add_test_time(evaluate)
    evaluate.add_argument(
        "--learn2reg",
        type=Path,
        metavar="OUT",
        help="write the displacement fields of the last stage, refined as asked for, as the Learn2Reg challenge does",
    )
    evaluate.add_argument(
        "--pairs",
        type=Path,
        metavar="CSV",
        help="of --learn2reg, columns fixed and moving; default: each subject with those before it",
    )
    evaluate.add_argument("--overwrite", action="store_true", help="replace displacement fields that are there")
    add_option(evaluate)
    evaluate.add_argument("--data-dir", type=Path, help="as for train")
    evaluate.add_argument("--manual-dir", type=Path, help="as for train")


def _add_test_time(evaluate: argparse.ArgumentParser) -> None:
    evaluate.add_argument(
        "--instance-steps",
        type=int,
        default=0,
        metavar="N",
        help="measure registrations refined by N steps a pair, too",
    )
    evaluate.add_argument(
        "--anatomy",
        action="store_true",
        help="and refined by what the run's segmentation network predicts for both scans of a pair, too",
    )
    evaluate.add_argument(
        "--atlases",
        type=int,
        default=0,
        metavar="N",
        help="measure segmentations in which N label maps of training, registered to the scan, vote, too",
    )
    evaluate.add_argument(
        "--templates",
        type=int,
        default=0,
        metavar="N",
        help="measure segmentations in which, besides these, N scans of training without a label map vote, too; with "
        "--anatomy these and --atlases also refine registrations",
    )
    evaluate.add_argument(
        "--flips",
        action="store_true",
        help="measure segmentations that are the mean over a scan and its mirror image, too",
    )


def run(args: argparse.Namespace) -> None:
    """Measure the finished stages of the run, and write the displacement fields that are asked for."""
    from deepatlas_tf.run import evaluate  # TensorFlow takes seconds to import: not for --help
    from deepatlas_tf.runs.predict import AtTestTime

    if args.learn2reg is None and (args.pairs is not None or args.overwrite):
        raise SettingError("--pairs and --overwrite are for the displacement fields of --learn2reg")
    data = {"data_dir": args.data_dir, "manual_dir": args.manual_dir}
    at = AtTestTime(args.instance_steps, args.anatomy, args.atlases, args.templates, args.flips)
    if args.learn2reg is not None:
        _write_fields(args, data)
    with turned(args.neurological):
        evaluate(args.workdir, args.split, at, **data)


def _write_fields(args: argparse.Namespace, data: dict[str, Path | None]) -> None:
    from deepatlas_tf.apply.learn2reg import preceding_pairs, read_pairs, write_submission
    from deepatlas_tf.run import dataset_of_run
    from deepatlas_tf.runs.model import TrainedModel

    model, dataset = TrainedModel(args.workdir), dataset_of_run(args.workdir, **data)
    if args.pairs is None and len(set(dataset.domains.values())) > 1:
        raise SettingError(f"--learn2reg: {dataset.name} has several domains: name the pairs with --pairs")
    subjects = dataset.subjects[args.split]
    n = model.settings["evaluation"]["pairs_per_subject"]
    pairs = preceding_pairs(subjects, n) if args.pairs is None else read_pairs(args.pairs, subjects)
    register = model.registrar(None, args.instance_steps, args.anatomy)
    write_submission(register, dataset, pairs, args.learn2reg, args.overwrite)
