"""``deepatlas warp`` and ``deepatlas jacobian``: commands on displacement fields, without a network."""

import numpy as np

from deepatlas_tf.apply import fields
from deepatlas_tf.apply.files import check_nifti_output, check_outputs, check_scan, header_of, save, stem
from deepatlas_tf.messages import say
from deepatlas_tf.scans import nifti


def warp(args) -> None:
    """Warp an image or a label map onto the field's grid. Takes the parsed options of the command."""
    inputs = [check_scan(args.image), check_scan(args.field)]
    check_nifti_output(args.output)
    check_outputs([args.output], args.overwrite, inputs)
    field = fields.read_field(args.field)
    if args.labels:
        labels = nifti.read_label(args.image, stem(args.image))
        result = fields.warp_labels(labels.volume, labels.affine, field)
    else:
        image = nifti.read_image(args.image, stem(args.image))
        result = fields.warp_volume(image.volume, image.affine, field)
    save(args.output, result, field.affine, header_of(args.field))


def jacobian(args) -> None:
    """Write the determinant, print its range and the share of folds. Takes the parsed options of the command."""
    check_nifti_output(args.output)
    check_outputs([args.output], args.overwrite, [check_scan(args.field)])
    field = fields.read_field(args.field)
    determinant = fields.jacobian(field)
    save(args.output, determinant, field.affine, header_of(args.field))
    low, high, folds = determinant.min(), determinant.max(), 100 * np.mean(determinant <= 0)
    say(f"determinant {low:.3g} to {high:.3g}, mean {determinant.mean():.3g}; folds in {folds:.3g} % of voxels")
