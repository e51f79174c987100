"""``deepatlas warp`` and ``deepatlas jacobian``: from files to a file, without a network."""

from pathlib import Path

import numpy as np

from deepatlas_tf.apply import fields
from deepatlas_tf.apply.files import check_nifti_output, check_outputs, check_scan, header_of, save, stem
from deepatlas_tf.messages import say, warn
from deepatlas_tf.scans import nifti

FEW_VALUES = 200  # of a file of integers: more are grey values


def warp_file(image: Path, field: Path, output: Path, labels: bool = False, overwrite: bool = False) -> None:
    """Warp a NIfTI image or label map onto the grid of a displacement field, and write it.

    Args:
        image: in the space of the moving scan. Voxels that are not finite are missing values, as in maps of statistics.
        field: displacement field of ``deepatlas register``, ITK or ANTs.
        output: the NIfTI file that is written.
        labels: the image is a label map: nearest neighbours, integers.
        overwrite: replace ``output`` if it is there.

    Raises:
        DataError: a file cannot be read or written, or ``field`` is no displacement field.
    """
    inputs = [check_scan(image), check_scan(field)]
    check_nifti_output(output)
    check_outputs([output], overwrite, inputs)
    read = fields.read_field(field)
    if labels:
        label = nifti.read_label(image, stem(image))
        result = fields.warp_labels(label.volume, label.affine, read)
    else:
        values = nifti.read_values(image, stem(image))
        _suggest_labels(image, values.volume)
        result = fields.warp_values(values.volume, values.affine, read)
    save(output, result, read.affine, header_of(field))


def jacobian_file(field: Path, output: Path, overwrite: bool = False) -> None:
    """Write the Jacobian determinant of a displacement field as a NIfTI image; say its range and the share of folds.

    Raises:
        DataError: a file cannot be read or written, or ``field`` is no displacement field.
    """
    check_nifti_output(output)
    check_outputs([output], overwrite, [check_scan(field)])
    read = fields.read_field(field)
    determinant = fields.jacobian(read)
    save(output, determinant, read.affine, header_of(field))
    low, high, folds = determinant.min(), determinant.max(), 100 * np.mean(determinant <= 0)
    say(f"determinant {low:.3g} to {high:.3g}, mean {determinant.mean():.3g}; folds in {folds:.3g} % of voxels")


def _suggest_labels(path: Path, volume: np.ndarray) -> None:
    """Say so where a file looks like a label map, whose numbers must not be averaged."""
    if header_of(path).get_data_dtype().kind not in "iu":
        return
    n_values = np.unique(volume).size
    if 2 <= n_values <= FEW_VALUES:
        warn(f"{path} has {n_values} different integers: if it is a label map, pass --labels, which keeps them")
