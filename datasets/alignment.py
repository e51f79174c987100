"""The space of a reference: which subject it is, and how the scan of another subject is brought to it.

``data.alignment`` is ``none``, ``rigid`` or ``affine``; ``affine:SUBJECT`` names the training subject that is the
reference. Where none is named, it is the one whose size and shape are closest to those of the others.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from deepatlas_tf.scans import affine
from deepatlas_tf.scans.aligned_grid import AlignedGridTransform
from deepatlas_tf.scans.intensity import rescale
from deepatlas_tf.scans.nifti import Nifti
from deepatlas_tf.types import DataError, SettingError

NONE = "none"
FINE = 64  # voxels along each axis are enough to see the size and shape of a scan


def parse(text: str) -> tuple[str, str | None]:
    """``affine:s03`` -> (``affine``, ``s03``), None where no reference is named. Raises SettingError for others."""
    kind, _, subject = text.partition(":")
    if kind not in (NONE, *affine.KINDS) or (kind == NONE and subject):
        kinds = ", ".join((NONE, *affine.KINDS))
        raise SettingError(f"data.alignment is one of {kinds}, or KIND:SUBJECT with the reference, not {text!r}")
    return kind, subject or None


def choose_reference(subjects: Sequence[str], load: Callable[[str], Nifti], named: str | None = None) -> str:
    """The named subject, or the one whose size and shape differ least from those of all.

    Size and shape are the covariance (mm2) of where a scan is bright; they differ by the Frobenius norm of the
    difference of the logarithms of their matrices (Arsigny et al., Magn Reson Med 2006).

    Args:
        subjects: of the training split.
        load: the image of a subject.
        named: the subject that is asked for.

    Raises:
        DataError: if the named one is none of the subjects, or there is none.
    """
    if named is not None:
        if named not in subjects:
            raise DataError(f"data.alignment names subject {named} as the reference, which is no training subject")
        return named
    if not subjects:
        raise DataError("data.alignment needs a training subject as the reference: there is none")
    shapes = np.stack([_log_covariance(load(subject)) for subject in subjects])
    distances = np.linalg.norm(shapes[:, None] - shapes[None], axis=(-2, -1)).sum(axis=1)
    return subjects[int(distances.argmin())]


def aligned_transform(scan: Nifti, reference: Nifti, kind: str) -> AlignedGridTransform:
    """The way of a scan to the grid of the reference.

    Args:
        scan: image and affine.
        reference: the image of the reference on the network's grid, and the affine of that grid.
        kind: ``"rigid"`` or ``"affine"``.

    Raises:
        DataError: if the scans cannot be aligned, or the result cannot be right.
    """
    found = affine.register_affine(scan, reference, kind)
    reason = affine.failure(found)
    if reason:
        raise DataError(f"the {kind} alignment to the reference failed ({reason}): look at the scan")
    return placed(scan, reference.volume.shape, found.matrix @ reference.affine)


def placed(scan: Nifti, shape: Sequence[int], placement: np.ndarray) -> AlignedGridTransform:
    """The way of a scan to a grid ``shape`` whose voxels lie in the scanner's mm where ``placement`` says."""
    spacing = tuple(np.linalg.norm(placement[:-1, :-1], axis=0).tolist())
    return AlignedGridTransform(scan.affine, scan.volume.shape, tuple(shape), spacing, placement)


def plain_to_network(record: Mapping[str, np.ndarray]) -> np.ndarray:
    """(D+1, D+1), from voxels of a subject's grid without alignment to voxels of the network's grid.

    record: with ``affine`` and ``plain_affine``, voxels of either grid to mm of the scanner.
    """
    return np.linalg.inv(record["affine"]) @ record["plain_affine"]


def _log_covariance(scan: Nifti) -> np.ndarray:
    """(D, D), the logarithm of the covariance of the positions (mm) of a scan's voxels, weighted by brightness."""
    steps = [max(1, n // FINE) for n in scan.volume.shape]
    weights = rescale(scan.volume)[tuple(slice(None, None, step) for step in steps)]
    voxels = np.indices(weights.shape).reshape(len(steps), -1)
    covariance = np.cov(np.asarray(scan.affine)[:-1, :-1] * steps @ voxels, aweights=weights.ravel())
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.log(np.maximum(values, 1e-6))) @ vectors.T
