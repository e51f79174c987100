"""Rigid and affine registration of two scans with SimpleITK: how a scan is brought to the space of a reference.

Mutual information over 32 x 32 bins (Mattes et al., IEEE TMI 2003) is maximised from coarse to fine, first over rigid
maps, then over affine ones, from the two centres of gravity on each other. Volumes and slices alike.
"""

import contextlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from deepatlas_tf.scans.intensity import rescale
from deepatlas_tf.scans.nifti import Nifti
from deepatlas_tf.types import DataError, SettingError

KINDS = ("rigid", "affine")
FLIPS = (-1.0, -1.0, 1.0)  # NIfTI's mm are RAS, ITK's LPS
SHRINK, SMOOTH_MM = (4, 2, 1), (4.0, 2.0, 0.0)
FINEST_MM = 2.0  # finer voxels cost time and add little to 12 parameters
SAMPLED, SEED = 0.2, 1
SCALES = (0.5, 2.0)  # of what is plausible between two people
NOTHING_LOST = 0.01  # nats; the last steps from an optimum, such as that of a scan and itself, end a little beside it


class Alignment(NamedTuple):
    """matrix (D+1, D+1): from mm (RAS) of the fixed scan to mm of the moving one.

    gain: mutual information (nats) with it, less that of the scans with their centres of gravity on each other.
    """

    matrix: np.ndarray
    gain: float


def register_affine(moving: Nifti, fixed: Nifti, kind: str = "affine") -> Alignment:
    """The rigid or affine map that brings the moving scan to the fixed one; both volumes, or both slices.

    Args:
        moving: volume ``(*S)`` of any intensities, and affine.
        fixed: the same of the other scan, on any other grid.
        kind: ``"rigid"`` or ``"affine"``.

    Raises:
        SettingError: if there is no such kind.
        DataError: if one is a slice and the other a volume, or SimpleITK is not installed or cannot align them.
    """
    if kind not in KINDS:
        raise SettingError(f"an alignment is {' or '.join(KINDS)}, not {kind!r}")
    if moving.volume.ndim != fixed.volume.ndim:
        axes = f"{moving.volume.ndim} axes to a scan of {fixed.volume.ndim}"
        raise DataError(f"a scan of {axes} cannot be aligned: give volumes only, or slices only")
    sitk = _simpleitk()
    with _one_thread(sitk):
        return _registered(sitk, moving, fixed, kind)


@contextlib.contextmanager
def _one_thread(sitk: ModuleType) -> Iterator[None]:
    """Several threads add up in an order of their own, which gives other digits each time."""
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def _registered(sitk: ModuleType, moving: Nifti, fixed: Nifti, kind: str) -> Alignment:
    images = [_image(sitk, scan) for scan in (fixed, moving)]
    n_axes = fixed.volume.ndim
    try:
        rigid = sitk.Euler2DTransform() if n_axes == 2 else sitk.Euler3DTransform()
        moments = sitk.CenteredTransformInitializerFilter.MOMENTS
        start = type(rigid)(sitk.CenteredTransformInitializer(*images, rigid, moments))
        before = _method(sitk, start).MetricEvaluate(*images)
        found = _optimise(sitk, images, type(rigid)(start))
        if kind == "affine":
            found = _optimise(sitk, images, _as_affine(sitk, found, n_axes))
        after = _method(sitk, found).MetricEvaluate(*images)
        if before < after < before + NOTHING_LOST:
            found, after = start, before
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise DataError(f"the scans could not be aligned ({reason}); align them with another tool") from error
    return Alignment(_matrix(found, n_axes), before - after)  # ITK minimises the negative


def failure(alignment: Alignment) -> str | None:
    """Why an alignment cannot be right, in words for a message; None where nothing speaks against it."""
    linear = alignment.matrix[:-1, :-1]
    if not np.isfinite(alignment.matrix).all():
        return "its matrix is not finite"
    if np.linalg.det(linear) <= 0:
        return "it is a reflection"
    scales = np.linalg.svd(linear, compute_uv=False)
    if scales.max() > SCALES[1] or scales.min() < SCALES[0]:
        return f"it scales by {scales.min():.2g} to {scales.max():.2g}"
    if alignment.gain < 0:
        return "the scans fit less than with their centres on each other"
    return None


def check_simpleitk() -> None:
    """Raise DataError where SimpleITK is not installed."""
    _simpleitk()


def _simpleitk() -> ModuleType:
    try:
        import SimpleITK as sitk  # half a second
    except ImportError:
        raise DataError(
            "alignments and transforms of ITK need SimpleITK: install it with pip install -e '.[itk]'"
        ) from None
    return sitk


def _method(sitk: ModuleType, transform: Any) -> Any:
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(SAMPLED, SEED)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetInitialTransform(transform, inPlace=True)
    return method


def _optimise(sitk: ModuleType, images: list, start: Any) -> Any:
    method = _method(sitk, start)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-3, 200, relaxationFactor=0.6)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel(SHRINK)
    method.SetSmoothingSigmasPerLevel(SMOOTH_MM)
    method.Execute(*images)
    return start


def _as_affine(sitk: ModuleType, rigid: Any, n_axes: int) -> Any:
    affine = sitk.AffineTransform(n_axes)
    affine.SetCenter(rigid.GetCenter())
    affine.SetMatrix(rigid.GetMatrix())
    affine.SetTranslation(rigid.GetTranslation())
    return affine


def _image(sitk: ModuleType, scan: Nifti) -> Any:
    """A SimpleITK image of the scan, float32 in [0, 1], shrunk towards ``FINEST_MM``."""
    n_axes = scan.volume.ndim
    affine = _flips(n_axes) @ scan.affine
    sizes = np.linalg.norm(affine[:-1, :-1], axis=0)
    image = sitk.GetImageFromArray(np.ascontiguousarray(rescale(scan.volume).T, np.float32))
    image.SetSpacing(sizes.tolist())
    image.SetDirection((affine[:-1, :-1] / sizes).ravel().tolist())
    image.SetOrigin(affine[:-1, -1].tolist())
    # a side keeps 8 voxels at the coarsest level
    limits = np.maximum(1, np.array(scan.volume.shape) // (8 * SHRINK[0]))
    factors = np.clip(np.round(FINEST_MM / sizes), 1, limits).astype(int)
    return sitk.BinShrink(image, factors.tolist()) if factors.max() > 1 else image


def _matrix(transform: Any, n_axes: int) -> np.ndarray:
    """``x -> A (x - c) + t + c`` as one matrix, RAS."""
    matrix, centre = np.eye(n_axes + 1), np.array(transform.GetCenter())
    matrix[:-1, :-1] = np.reshape(transform.GetMatrix(), (n_axes, n_axes))
    matrix[:-1, -1] = np.array(transform.GetTranslation()) + centre - matrix[:-1, :-1] @ centre
    return _flips(n_axes) @ matrix @ _flips(n_axes)


def _flips(n_axes: int) -> np.ndarray:
    return np.diag([*FLIPS[:n_axes], 1.0])
