"""The commands of ``deepatlas``, one file each."""

import argparse
from pathlib import Path

from deepatlas_tf.pretrained import pretrained_names

PRETRAINED = ", ".join(pretrained_names())
MODEL_HELP = f"folder of a run, a SavedModel of deepatlas export, or networks that come with the package: {PRETRAINED}"


def add_voters(parser: argparse.ArgumentParser, what_it_does: str) -> None:
    """Add ``--atlas`` and ``--template``; an atlas ``is registered`` as ``what_it_does`` says."""
    parser.add_argument(
        "--atlas",
        nargs=2,
        action="append",
        default=[],
        type=Path,
        dest="atlases",
        metavar=("IMAGE", "LABEL"),
        help="a scan and its label map, numbered as those of training or as segment writes them, which is registered "
        f"{what_it_does}; may be given several times; the scans must fit into the training grid",
    )
    parser.add_argument(
        "--template",
        action="append",
        default=[],
        type=Path,
        dest="templates",
        metavar="SCAN",
        help="a scan without a label map, a folder of them or a CSV: each votes like an atlas by what the network and "
        "the atlases say of it; may be given several times",
    )
