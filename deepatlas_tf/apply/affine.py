"""Affine pre-alignment of two scans with SimpleITK (the extra ``[itk]``), for scans that do not lie roughly alike."""

from types import ModuleType
from typing import Any

import numpy as np

from deepatlas_tf.scans.nifti import Nifti
from deepatlas_tf.types import DataError

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # NIfTI's mm are RAS, ITK's LPS
SHRINK, SMOOTH_MM = (4, 2, 1), (4.0, 2.0, 0.0)
FINEST_MM = 2.0  # finer voxels cost time and add little to 12 parameters
SAMPLED, SEED = 0.2, 1


def affine_registration(moving: Nifti, fixed: Nifti) -> np.ndarray:
    """(4, 4), from mm (RAS) of the fixed scan to mm of the moving one: rigid, then affine, by mutual information.

    It starts with the two centres of gravity on each other. Mutual information over 32 x 32 bins (Mattes et al., IEEE
    TMI 2003) is maximised from coarse to fine.

    Raises:
        DataError: SimpleITK is not installed, or the scans could not be aligned.
    """
    sitk = _simpleitk()
    target, source = _image(sitk, fixed), _image(sitk, moving)
    try:
        moments = sitk.CenteredTransformInitializerFilter.MOMENTS
        rigid = sitk.CenteredTransformInitializer(target, source, sitk.Euler3DTransform(), moments)
        rigid = _optimise(sitk, target, source, sitk.Euler3DTransform(rigid))
        start = sitk.AffineTransform(3)
        start.SetCenter(rigid.GetCenter())
        start.SetMatrix(rigid.GetMatrix())
        start.SetTranslation(rigid.GetTranslation())
        found = _optimise(sitk, target, source, start)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise DataError(f"--affine: the scans could not be aligned ({reason}); align them with another tool") from error
    return _matrix(found)


def check_simpleitk() -> None:
    """Raise DataError where SimpleITK is not installed."""
    _simpleitk()


def _simpleitk() -> ModuleType:
    try:
        import SimpleITK as sitk
    except ImportError:
        raise DataError("--affine needs SimpleITK: install it with pip install 'deepatlas_tf[itk]'") from None
    return sitk


def _optimise(sitk: ModuleType, fixed: Any, moving: Any, start: Any) -> Any:
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(SAMPLED, SEED)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-3, 200, relaxationFactor=0.6)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel(SHRINK)
    method.SetSmoothingSigmasPerLevel(SMOOTH_MM)
    method.SetInitialTransform(start, inPlace=True)
    method.Execute(fixed, moving)
    return start


def _image(sitk: ModuleType, scan: Nifti) -> Any:
    """A SimpleITK image of the scan, float32, shrunk towards ``FINEST_MM``."""
    affine = LPS @ scan.affine
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    image = sitk.GetImageFromArray(np.ascontiguousarray(scan.volume.T, np.float32))
    image.SetSpacing(sizes.tolist())
    image.SetDirection((affine[:3, :3] / sizes).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    # a side keeps 8 voxels at the coarsest level
    limits = np.maximum(1, np.array(scan.volume.shape) // (8 * SHRINK[0]))
    factors = np.clip(np.round(FINEST_MM / sizes), 1, limits).astype(int)
    return sitk.BinShrink(image, factors.tolist()) if factors.max() > 1 else image


def _matrix(transform: Any) -> np.ndarray:
    """``x -> A (x - c) + t + c`` as one (4, 4) matrix, RAS."""
    matrix, centre = np.eye(4), np.array(transform.GetCenter())
    matrix[:3, :3] = np.reshape(transform.GetMatrix(), (3, 3))
    matrix[:3, 3] = np.array(transform.GetTranslation()) + centre - matrix[:3, :3] @ centre
    return LPS @ matrix @ LPS
