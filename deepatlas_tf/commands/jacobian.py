"""Write the Jacobian determinant of a displacement field as a NIfTI image.

Above 1 the fixed scan's tissue is larger in the moving scan, below 1 smaller; 0 or less is a fold. The field may come
from deepatlas register, ITK or ANTs.
"""

import argparse
from pathlib import Path

EXAMPLES = """\
  deepatlas jacobian registered/displacement_field.nii.gz -o jacobian.nii.gz
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options to the command's parser."""
    parser.add_argument("field", type=Path, metavar="FIELD", help="displacement field (.nii, .nii.gz)")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="OUT", help="the result (.nii, .nii.gz)")
    parser.add_argument("--overwrite", action="store_true", help="replace a result that is there")


def run(args: argparse.Namespace) -> None:
    """Compute and write."""
    from deepatlas_tf.apply.field_commands import jacobian_file

    jacobian_file(args.field, args.output, args.overwrite)
