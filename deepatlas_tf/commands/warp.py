"""Warp a NIfTI image or label map by a displacement field.

The field may come from deepatlas register, ITK or ANTs. The result lies on the field's grid.
"""

import argparse
from pathlib import Path

EXAMPLES = """\
  deepatlas warp moving.nii.gz --field registered/displacement_field.nii.gz -o warped.nii.gz
  deepatlas warp labels.nii.gz --field registered/displacement_field.nii.gz --labels -o warped_labels.nii.gz
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options to the command's parser."""
    parser.add_argument("image", type=Path, metavar="IMAGE", help="in the space of the moving scan (.nii, .nii.gz)")
    parser.add_argument("--field", required=True, type=Path, help="displacement field (.nii, .nii.gz)")
    parser.add_argument("--labels", action="store_true", help="IMAGE is a label map: nearest neighbours, integers")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="OUT", help="the result (.nii, .nii.gz)")
    parser.add_argument("--overwrite", action="store_true", help="replace a result that is there")


def run(args: argparse.Namespace) -> None:
    """Warp and write."""
    from deepatlas_tf.apply.field_commands import warp_file

    warp_file(args.image, args.field, args.output, args.labels, args.overwrite)
