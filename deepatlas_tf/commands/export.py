"""Export a trained run as a SavedModel for TensorFlow Serving, with a model card.

Writes OUT/VERSION/ with the signatures segment and register, as far as the run has the networks. Images are given at
the voxel size and orientation of assets/metadata.json, with their own intensities, cut to the anatomy and in windows of
the size of training (docs/serving.md).
"""

import argparse
from pathlib import Path

EXAMPLES = """\
  deepatlas export runs/oai_knee -o exported/knee
  deepatlas export runs/oai_knee -o exported/knee --stage deepatlas --version 3
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options to the command's parser."""
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="folder of a run")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="OUT", help="folder of the versions")
    parser.add_argument("--version", type=int, metavar="N", help="default: one more than the newest in OUT")
    parser.add_argument(
        "--stage",
        metavar="NAME",
        help="of the run, such as full_resolution, which is exported alone; default: the last that has each network",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the version if it is there")


def run(args: argparse.Namespace) -> None:
    """Export and write."""
    from deepatlas_tf.export.save import export_folder  # TensorFlow takes seconds to import: not for --help

    export_folder(args.run_folder, args.output, args.version, args.stage, args.overwrite)
