"""Register two NIfTI scans with a trained model: MOVING is warped onto FIXED.

In OUT, on the fixed scan's grid: warped.nii.gz, displacement_field.nii.gz (mm, as ITK, ANTs and 3D Slicer read it) and
jacobian.nii.gz; on the moving scan's grid: inverse_displacement_field.nii.gz. The scans are brought together at their
centres first, as in training; where that is too far off, use --affine. A scan of several channels is NAME_0000.nii.gz,
beside which NAME_0001.nii.gz lies, or its files with commas between them; warped_CHANNEL.nii.gz is written for each.
"""

import argparse
import dataclasses
from pathlib import Path

from deepatlas_tf.commands import MODEL_HELP, add_voters

EXAMPLES = """\
  deepatlas register moving.nii.gz fixed.nii.gz --model runs/brains -o registered
  deepatlas register moving.nii.gz fixed.nii.gz --model runs/brains --moving-labels labels.nii.gz -o registered
  deepatlas register moving.nii.gz fixed.nii.gz --model runs/brains --affine --instance-steps 100 -o registered
  deepatlas register moving.nii.gz fixed.nii.gz --model runs/brains --instance-steps 100 --anatomy -o registered
  deepatlas register a.nii.gz b.nii.gz --model runs/brains --instance-steps 100 --anatomy --template scans/ -o out
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options to the command's parser."""
    parser.add_argument("moving", type=Path, metavar="MOVING", help="scan to be warped (.nii, .nii.gz)")
    parser.add_argument("fixed", type=Path, metavar="FIXED", help="scan that it is warped onto")
    parser.add_argument("--model", required=True, type=Path, help=MODEL_HELP)
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="OUT", help="folder of the results")
    parser.add_argument(
        "--moving-labels", type=Path, metavar="LABELS", help="label map of MOVING; warped_labels.nii.gz is written too"
    )
    parser.add_argument("--affine", action="store_true", help="align the scans first, with SimpleITK")
    parser.add_argument(
        "--instance-steps", type=int, default=0, metavar="N", help="refine the field for these two scans by N steps"
    )
    parser.add_argument(
        "--anatomy",
        action="store_true",
        help="refine it by what the run's segmentation network predicts for both scans, too",
    )
    add_voters(parser, "to both scans and votes with --anatomy")
    parser.add_argument(
        "--mirror",
        action="store_true",
        help="all scans are of left sides, and the model knows right ones: mirrored for the network only",
    )
    parser.add_argument(
        "--format",
        choices=("nifti", "itk"),
        default="nifti",
        help="itk: transform.h5 too, affine part and field as one transform for ANTs and 3D Slicer (needs SimpleITK)",
    )
    parser.add_argument("--stage", metavar="NAME", help="of the run; default: the last that registers")
    parser.add_argument("--overwrite", action="store_true", help="replace results that are there")


def run(args: argparse.Namespace) -> None:
    """Register and write."""
    if args.affine or args.format == "itk":
        from deepatlas_tf.scans.affine import check_simpleitk  # before the seconds that TensorFlow takes to import

        check_simpleitk()
    from deepatlas_tf.apply.register import RegistrationOptions, register_files

    names = [field.name for field in dataclasses.fields(RegistrationOptions)]
    options = RegistrationOptions(**{name: getattr(args, name) for name in names})
    register_files(args.moving, args.fixed, args.model, args.output, options)
