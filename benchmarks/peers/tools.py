"""Each peer as a function ``fixed, moving, spacing, settings -> Found``, in the environment of the peers.

Images are given in memory with their voxel size, the origin 0 and no rotation, so that the axes of the physical space
of ITK are those of the array: a field in mm over the voxel size is one in voxels, whatever a tool thinks of left and
right. Each tool also resamples the moving image itself, and that has to be what its converted field gives.
"""

import contextlib
import dataclasses
import io
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.ndimage import map_coordinates

from peers.folder import THREADS
from peers.settings import SEED


@dataclasses.dataclass(frozen=True)
class Found:
    """u (*S, 3) in voxels; warped (*S): the moving image as the tool resamples it, linearly.

    seconds, cpu_seconds: of the registration alone, without the making of this field.
    """

    u: np.ndarray
    warped: np.ndarray
    seconds: float
    cpu_seconds: float


class _Clock:
    """A context that measures seconds on the clock and of all threads of this process."""

    def __enter__(self):
        self.start = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_):
        self.seconds, self.cpu_seconds = time.perf_counter() - self.start[0], time.process_time() - self.start[1]


def ants(fixed, moving, spacing, settings) -> Found:
    """``ants.registration``: an affine transform, then SyN where asked for. Two threads by the environment."""
    import ants

    images = [ants.from_numpy(volume, spacing=tuple(spacing)) for volume in (fixed, moving)]
    with _Clock() as clock:
        found = ants.registration(*images, random_seed=SEED, **settings)
    transforms = found["fwdtransforms"]
    try:
        with tempfile.TemporaryDirectory() as folder:
            composed = ants.apply_transforms(*images, transforms, compose=f"{folder}/")
            u = from_physical(ants.image_read(composed).numpy(), spacing)
        warped = ants.apply_transforms(*images, transforms).numpy()
    finally:
        for path in {*transforms, *found["invtransforms"]}:
            Path(path).unlink(missing_ok=True)
    return Found(u, warped, clock.seconds, clock.cpu_seconds)


def greedy(fixed, moving, spacing, settings) -> Found:
    """Greedy: affine, then deformable where the settings have a ``metric``; warps are saved without rounding."""
    images = {"fixed": _sitk_image(fixed, spacing), "moving": _sitk_image(moving, spacing)}
    with _Clock() as clock:
        run = _greedy_affine(images, settings["affine"])
        if "metric" in settings:
            options = f"-m {settings['metric']} -n {settings['iterations']} -s {settings['smooth']}"
            _execute(run, f"-i fixed moving -it affine {options} -wp 0 -o warp", warp=None)
    chain = "warp affine" if "metric" in settings else "affine"
    _execute(run, f"-rf fixed -rm moving warped -rc composed -wp 0 -r {chain}", warped=None, composed=None)
    return Found(from_itk(_array(run["composed"]), spacing), _array(run["warped"]).T, clock.seconds, clock.cpu_seconds)


def convex_adam(fixed, moving, spacing, settings) -> Found:
    """ConvexAdam on MIND features; ``affine`` has greedy align the moving image first, and is a part of the field."""
    import torch
    from convexAdam.apply_convex import apply_convex
    from convexAdam.convex_adam_MIND import convex_adam_pt

    torch.set_num_threads(THREADS)
    own = {name: value for name, value in settings.items() if name != "affine"}
    with _Clock() as clock:
        matrix, start = np.eye(4), moving
        if "affine" in settings:
            images = {"fixed": _sitk_image(fixed, spacing), "moving": _sitk_image(moving, spacing)}
            matrix = from_ras(_greedy_affine(images, settings["affine"])["affine"], spacing)
            start = warped_by(moving, affine_after(np.zeros((*fixed.shape, 3)), matrix))
        with contextlib.redirect_stdout(io.StringIO()):
            u = convex_adam_pt(fixed, start, dtype=torch.float32, device=torch.device("cpu"), **own)
    composed = affine_after(u, matrix)
    return Found(composed, apply_convex(composed, moving), clock.seconds, clock.cpu_seconds)


def elastix(fixed, moving, spacing, settings) -> Found:
    """elastix: affine, then B-splines, from its default parameters; two threads by the environment."""
    import itk  # its argument number_of_threads ends in a segmentation fault with itk-elastix 0.25

    images = [itk.image_from_array(np.ascontiguousarray(volume.T)) for volume in (fixed, moving)]
    for image in images:
        image.SetSpacing([float(step) for step in spacing])
    parameters = itk.ParameterObject.New()
    for kind in ("affine", "bspline"):
        values = parameters.GetDefaultParameterMap(kind, 3, float(settings["grid_voxels"] * np.mean(spacing)))
        for name, value in _elastix_parameters(settings, values["Metric"]).items():
            values[name] = value
        parameters.AddParameterMap(values)
    with _Clock() as clock:
        warped, transform = itk.elastix_registration_method(*images, parameter_object=parameters, log_to_console=False)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):  # it writes the field where it is, too
        field = itk.transformix_deformation_field(images[1], transform)
    u = from_itk(itk.array_from_image(field), spacing)
    return Found(u, itk.array_from_image(warped).T, clock.seconds, clock.cpu_seconds)


def _elastix_parameters(settings, metrics) -> dict[str, list[str]]:
    """What is not elastix's default; ``metrics``: the default ones, an image metric and maybe a bending energy."""
    changed = {"FinalBSplineInterpolationOrder": ["1"], "RandomSeed": [str(SEED)]}
    changed["MaximumNumberOfIterations"] = [str(settings["iterations"])]
    if len(metrics) > 1 and not settings["bending"]:
        return changed | {"Metric": [settings["metric"]], "Registration": ["MultiResolutionRegistration"]}
    return changed | {"Metric": [settings["metric"], *metrics[1:]]}


TOOLS = {"ants": ants, "greedy": greedy, "convex_adam": convex_adam, "elastix": elastix}


def from_physical(field: np.ndarray, spacing) -> np.ndarray:
    """A field ``(*S, 3)`` in mm along the axes of the array, in voxels."""
    return field / np.asarray(spacing, np.float64)


def from_itk(field: np.ndarray, spacing) -> np.ndarray:
    """A field of ITK as its arrays come, ``(Z, Y, X, 3)`` with components x, y, z in mm: ``(X, Y, Z, 3)`` in voxels."""
    return from_physical(field.transpose(2, 1, 0, 3), spacing)


def from_ras(matrix: np.ndarray, spacing) -> np.ndarray:
    """An affine ``(4, 4)`` between positions of NIfTI (RAS), fixed to moving, as one between voxels.

    Images with the origin 0 and no rotation in ITK's space (LPS) have the affine ``diag(-x, -y, z)`` in that of NIfTI.
    """
    to_ras = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    return np.linalg.inv(to_ras) @ matrix @ to_ras


def affine_after(u: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The field ``(*S, 3)`` in voxels of ``matrix (x + u(x))``, ``matrix (4, 4)`` between voxels."""
    voxels = np.moveaxis(np.indices(u.shape[:-1]), 0, -1)
    return (voxels + u) @ matrix[:3, :3].T + matrix[:3, 3] - voxels


def warped_by(image: np.ndarray, u: np.ndarray) -> np.ndarray:
    """``image (*S)`` at ``x + u(x)``, linear, its border continued: as ``deepatlas_tf.ops.warp`` defines it."""
    at = np.indices(image.shape) + np.moveaxis(u, -1, 0)
    return map_coordinates(image, at, order=1, mode="nearest").astype(np.float32)


def difference(found: Found, moving: np.ndarray) -> float:
    """The largest difference of the tool's warped image and that of its field, as a share of the image's range.

    Only where the field stays within the moving image: outside of it the tools put something of their own.
    """
    at = np.moveaxis(np.indices(moving.shape), 0, -1) + found.u
    inside = ((at >= 0) & (at <= np.asarray(moving.shape) - 1)).all(axis=-1)
    differences = np.abs(warped_by(moving, found.u) - found.warped)[inside]
    return float(differences.max(initial=0) / np.ptp(moving))


def _sitk_image(volume, spacing):
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.T))
    image.SetSpacing([float(step) for step in spacing])
    return image


def _array(image):
    import SimpleITK as sitk

    return sitk.GetArrayFromImage(image)


def _greedy_affine(images, settings):
    from picsl_greedy import Greedy3D

    run = Greedy3D()
    options = f"-m {settings['metric']} -n {settings['iterations']}"
    _execute(run, f"-a -dof 12 -ia-identity {options} -i fixed moving -o affine", affine=None, **images)
    return run


def _execute(run, command, **images):
    run.execute(f"-V 0 -threads {THREADS} {command}", out=io.StringIO(), **images)
