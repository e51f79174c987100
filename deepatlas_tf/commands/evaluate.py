"""Measure and draw a run again."""

import argparse
from pathlib import Path

from deepatlas_tf.view import add_option, turned

EXAMPLES = """\
  deepatlas evaluate runs/hippo5 --split validation
  deepatlas evaluate runs/hippo5 --instance-steps 100 --anatomy
  deepatlas evaluate runs/hippo5 --atlases 5
"""


def add_arguments(evaluate: argparse.ArgumentParser) -> None:
    """Add the options to the command's parser."""
    evaluate.add_argument("workdir", type=Path, help="of a trained run")
    evaluate.add_argument("--split", default="test", choices=["train", "validation", "test"])
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
    add_option(evaluate)
    evaluate.add_argument("--data-dir", type=Path, help="as for train")
    evaluate.add_argument("--manual-dir", type=Path, help="as for train")


def run(args: argparse.Namespace) -> None:
    """Measure the finished stages of the run."""
    from deepatlas_tf.run import evaluate  # TensorFlow takes seconds to import: not for --help

    data = {"data_dir": args.data_dir, "manual_dir": args.manual_dir}
    more = {"instance_steps": args.instance_steps, "anatomy": args.anatomy, "atlases": args.atlases}
    with turned(args.neurological):
        evaluate(args.workdir, args.split, **more, **data)
