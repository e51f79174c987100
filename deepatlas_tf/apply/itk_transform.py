"""A registration as one transform file of ITK, which ANTs and 3D Slicer open: an affine transform and a field."""

from pathlib import Path

import numpy as np

from deepatlas_tf.apply.fields import LPS, Field
from deepatlas_tf.apply.files import writing
from deepatlas_tf.apply.points import apply_affine, voxels
from deepatlas_tf.metrics.blocks import by_blocks

FLIPS = np.diag([*LPS, 1.0])


def write_transform(path: Path, field: Field, alignment: np.ndarray) -> None:
    """Write a composite transform (HDF5, ``.h5``) that takes points of the fixed scan to the moving one.

    With ``p + d(p) = B(p + w(p))`` it holds ``B`` and then ``w``: ITK applies the last transform first. It needs
    SimpleITK, see :func:`~deepatlas_tf.scans.affine.check_simpleitk`.

    Args:
        path: its name ends in .h5.
        field: ``d``, on the fixed scan's grid.
        alignment: ``B`` (4, 4), mm of the fixed scan to mm of the moving one.

    Raises:
        DataError: if the disk does not take it.
    """
    import SimpleITK as sitk

    shape, back = field.vectors.shape[:3], np.linalg.inv(alignment)

    def rest(rows: slice) -> np.ndarray:
        points = apply_affine(field.affine, voxels(shape, rows))
        return apply_affine(back, points + field.vectors[rows]) - points

    vectors = by_blocks(rest, shape) * LPS
    image = sitk.GetImageFromArray(np.ascontiguousarray(vectors.transpose(2, 1, 0, 3), float), isVector=True)
    affine = FLIPS @ field.affine
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(sizes.tolist())
    image.SetDirection((affine[:3, :3] / sizes).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    matrix = FLIPS @ alignment @ FLIPS
    linear = sitk.AffineTransform(matrix[:3, :3].ravel().tolist(), matrix[:3, 3].tolist())
    with writing(path) as temporary:
        sitk.WriteTransform(sitk.CompositeTransform([linear, sitk.DisplacementFieldTransform(image)]), str(temporary))
