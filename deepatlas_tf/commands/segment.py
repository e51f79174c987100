"""Segment NIfTI scans with a trained model: label maps in each scan's own grid.

Scans may have any orientation, voxel size and extent. In OUT: a label map for each scan under the scan's file name,
volumes.csv (ml of each structure), labels.csv (the name of each number). The numbers are those of the label maps that
the model was trained on, where each class had one number there, else 1, 2, ... in the order of the classes. The exit
status is 1 if a scan failed; the others are done all the same. A further call with the same OUT adds its scans to
volumes.csv. A scan of several channels is NAME_0000.nii.gz, NAME_0001.nii.gz, ..., as for nnU-Net, its files with
commas between them, or a line of a CSV with columns image_NAME.
"""

import argparse
import dataclasses
from pathlib import Path

from deepatlas_tf.commands import MODEL_HELP, add_voters

EXAMPLES = """\
  deepatlas segment knee.nii.gz --model runs/oai_knee -o segmented
  deepatlas segment scans/ --model exported/knee --probabilities -o segmented
  deepatlas segment scans/ --model runs/oai_knee --keep-largest -o segmented
  deepatlas segment t1.nii.gz,t2.nii.gz --model runs/two_channels -o segmented
  deepatlas segment new.nii.gz --model runs/oai_knee --atlas a.nii.gz a_labels.nii.gz --template scans/ -o segmented
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options to the command's parser."""
    parser.add_argument("scans", nargs="+", type=Path, metavar="SCAN", help=".nii, .nii.gz, a folder of them, or a CSV")
    parser.add_argument("--model", required=True, type=Path, help=MODEL_HELP)
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="OUT", help="folder of the results")
    parser.add_argument(
        "--probabilities",
        action="store_true",
        help="NAME_probabilities.nii.gz too: (X, Y, Z, class), classes in the order of labels.csv; four bytes a voxel "
        "and class, before they are compressed",
    )
    parser.add_argument(
        "--keep-largest",
        action="store_true",
        help="each class keeps its largest connected component, the rest becomes background: not for a class of "
        "several parts, such as both sides in one",
    )
    parser.add_argument(
        "--mirror",
        action="store_true",
        help="the scans, and those that vote, are of left sides, and the model knows right ones: mirrored for the "
        "network only",
    )
    add_voters(parser, "to each scan and votes with the segmentation network")
    parser.add_argument(
        "--instance-steps",
        type=int,
        default=0,
        metavar="N",
        help="refine the registration of each --atlas and --template by N steps",
    )
    parser.add_argument(
        "--flips",
        action="store_true",
        help="the mean over each scan and its mirror image, left and right classes exchanged, in twice the time: for "
        "anatomy that is its own mirror image, such as a brain",
    )
    parser.add_argument(
        "--stage", metavar="NAME", help="of the run; default: the one of full resolution, else the last that segments"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace results that are there")


def run(args: argparse.Namespace) -> int:
    """Segment and write; 1 where a scan failed."""
    from deepatlas_tf.apply.segment import SegmentationOptions, segment_files  # TensorFlow takes seconds to import

    names = [field.name for field in dataclasses.fields(SegmentationOptions)]
    options = SegmentationOptions(**{name: getattr(args, name) for name in names})
    failed = segment_files(args.scans, args.model, args.output, options)
    return 1 if failed else 0
