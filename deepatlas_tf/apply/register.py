"""Registration of two scans, each of any orientation, voxel size and extent; results in millimetres."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from deepatlas_tf.apply.affine import affine_registration
from deepatlas_tf.apply.fields import Field, invert, jacobian, warp_labels, warp_volume, write_field
from deepatlas_tf.apply.files import check_outputs, check_scan, header_of, save, stem
from deepatlas_tf.apply.grids import covering_transform, extent, mirrored
from deepatlas_tf.apply.points import apply_affine, sample, transformed_voxels, voxels
from deepatlas_tf.messages import detail, say
from deepatlas_tf.metrics.blocks import by_blocks
from deepatlas_tf.runs.model import Grid, note_on_sides, open_model
from deepatlas_tf.scans import nifti
from deepatlas_tf.scans.checks import check_same_grid
from deepatlas_tf.scans.grid import GridTransform
from deepatlas_tf.scans.intensity import rescale
from deepatlas_tf.scans.nifti import Nifti
from deepatlas_tf.types import DataError

WARPED, FIELD, INVERSE = "warped.nii.gz", "displacement_field.nii.gz", "inverse_displacement_field.nii.gz"
JACOBIAN, LABELS = "jacobian.nii.gz", "warped_labels.nii.gz"
MAX_VOXELS = 256**3  # a registration cannot be tiled; with the default widths it takes 0.6 kB a voxel, here 9.5 GiB


class Registration(NamedTuple):
    """field, on the fixed scan's grid; alignment (4, 4), its affine part: mm of the fixed scan to mm of the moving.

    transform: of the fixed scan, the network's grid.
    """

    field: Field
    alignment: np.ndarray
    transform: GridTransform


def register_scans(
    register: Callable, grid: Grid, moving: Nifti, fixed: Nifti, alignment: np.ndarray | None = None
) -> Registration:
    """Register two scans: both rescaled and on one network grid, the field brought back to the fixed scan's grid.

    Args:
        register: function ``moving (*S, 1), fixed (*S, 1) -> u (*S, D)`` in voxels.
        grid: that the network was trained on.
        moving: volume and affine.
        fixed: volume and affine.
        alignment: (4, 4), mm of the fixed scan to mm of the moving one, from an affine registration. None brings the
            scans' centres together and their axes in one order, as in training.
    """
    if alignment is None:
        transform, other = (
            _bounded(covering_transform(a, grid, b), grid) for a, b in ((fixed, moving), (moving, fixed))
        )
        alignment = other.affine @ np.linalg.inv(transform.affine)
        moving_image = other.image_to_network(rescale(moving.volume))
    else:
        transform = _bounded(covering_transform(fixed, grid), grid)
        moving_image = _aligned_image(moving, grid, transform, alignment)
    fixed_image = transform.image_to_network(rescale(fixed.volume))
    u = register(moving_image[..., None], fixed_image[..., None])
    return Registration(to_field(u, transform, fixed, alignment), alignment, transform)


def to_field(u: np.ndarray, transform: GridTransform, fixed: Nifti, alignment: np.ndarray) -> Field:
    """The field in mm on the fixed scan's grid of ``u (*S, 3)`` in voxels of the network's grid.

    The point ``p`` of the fixed scan goes to ``B A (x + u(x))`` with ``p = A x``: ``A`` is the network's affine, ``B``
    the alignment. Outside of the network's grid the values at its border are continued.
    """
    shape, to_network = fixed.volume.shape, np.linalg.inv(transform.affine) @ fixed.affine
    moved = alignment @ transform.affine
    without_u = (moved - transform.affine) @ to_network  # what the alignment alone does to a voxel
    values = _at_voxels(u, to_network, shape)

    def displacement(rows):
        from_u = values(rows) @ moved[:3, :3].T
        return (transformed_voxels(without_u, shape, rows) + from_u).astype(np.float32)

    return Field(by_blocks(displacement, shape), fixed.affine)


def _at_voxels(u: np.ndarray, to_network: np.ndarray, shape: Sequence[int]) -> Callable[[slice], np.ndarray]:
    """A function that gives, for rows of a scan ``shape``, the values of ``u (*S, 3)`` at their voxels."""
    whole = np.rint(to_network)
    if not np.allclose(to_network, whole, rtol=0, atol=1e-6) or np.count_nonzero(whole[:3, :3]) > 3:
        return lambda rows: sample(u, transformed_voxels(to_network, shape, rows))
    # The scan's voxels are voxels of the network, with axes flipped and in another order at most
    order = np.abs(whole[:3, :3]).argmax(axis=0)
    u = u.transpose(*order, 3)
    axes = zip(shape, whole[order, range(3)], whole[order, 3], u.shape[:3], strict=True)
    places = [np.clip(step * np.arange(n) + start, 0, m - 1).astype(int) for n, step, start, m in axes]
    return lambda rows: u[np.ix_(places[0][rows], *places[1:])]


def _register_mirrored(register, grid: Grid, moving: Nifti, fixed: Nifti, alignment: np.ndarray | None) -> Registration:
    """``register_scans`` of the mirror images of both scans, and the mirror image of its result."""
    mirror = np.diag([-1.0, 1.0, 1.0, 1.0])
    alignment = None if alignment is None else mirror @ alignment @ mirror
    found = register_scans(register, grid, mirrored(moving), mirrored(fixed), alignment)
    vectors = found.field.vectors * np.diag(mirror)[:3].astype(np.float32)
    return found._replace(field=Field(vectors, fixed.affine), alignment=mirror @ found.alignment @ mirror)


def _bounded(transform: GridTransform, grid: Grid) -> GridTransform:
    """The transform, or that of training where the network would need too much memory: then scans are cropped."""
    small = np.prod(transform.shape) <= max(MAX_VOXELS, np.prod(grid.shape))
    return (
        transform if small else GridTransform(transform.source_affine, transform.source_shape, grid.shape, grid.spacing)
    )


def _aligned_image(moving: Nifti, grid: Grid, transform: GridTransform, alignment: np.ndarray) -> np.ndarray:
    """The moving scan on the fixed one's network grid. First at the network's voxel size, which smooths it."""
    own = GridTransform(moving.affine, moving.volume.shape, extent(moving, grid), grid.spacing)
    image = own.image_to_network(rescale(moving.volume))
    to_own = np.linalg.inv(own.affine) @ alignment @ transform.affine
    return by_blocks(lambda rows: sample(image, apply_affine(to_own, voxels(transform.shape, rows))), transform.shape)


def register(args) -> None:
    """``deepatlas register``; takes the parsed options of the command."""
    inputs = [check_scan(path) for path in (args.moving, args.fixed, args.moving_labels) if path is not None]
    names = [WARPED, FIELD, INVERSE, JACOBIAN, *([LABELS] if args.moving_labels else [])]
    check_outputs([args.output / name for name in names], args.overwrite, inputs)
    model = open_model(args.model)
    if len(model.grid.shape) != 3:
        raise DataError(f"{args.model} is a model of slices: deepatlas register takes volumes")
    note_on_sides(model, args.mirror)
    function = model.registrar(args.stage, args.instance_steps)
    for path in inputs:
        detail(f"reading {path}")
    moving, fixed = (nifti.read_image(path, stem(path)) for path in (args.moving, args.fixed))
    labels = _read_labels(args, moving)
    alignment = affine_registration(moving, fixed) if args.affine else None
    found = (_register_mirrored if args.mirror else register_scans)(function, model.grid, moving, fixed, alignment)
    header = header_of(args.fixed)
    write_field(args.output / FIELD, found.field, header)
    inverse = invert(found.field, moving.affine, moving.volume.shape, found.alignment)
    write_field(args.output / INVERSE, inverse, header_of(args.moving))
    determinant = jacobian(found.field)
    save(args.output / JACOBIAN, determinant, fixed.affine, header)
    save(args.output / WARPED, warp_volume(moving.volume, moving.affine, found.field), fixed.affine, header)
    if labels is not None:
        warped = warp_labels(labels.volume, labels.affine, found.field)
        save(args.output / LABELS, warped, fixed.affine, header)
    _report_crop(found.transform, model.grid)
    say(f"{', '.join(names)} in {args.output}; folds in {100 * np.mean(determinant <= 0):.3g} % of the voxels")


def _report_crop(transform: GridTransform, grid: Grid) -> None:
    sizes = np.array(transform.canonical_shape) / transform.factors
    if (sizes > np.array(transform.shape) + 1).any():
        shown = " x ".join(f"{n * size:.0f}" for n, size in zip(transform.shape, grid.spacing, strict=True))
        say(f"the fixed scan is too large for one pass: the middle {shown} mm are registered, the rest moves along")


def _read_labels(args, moving: Nifti) -> Nifti | None:
    if args.moving_labels is None:
        return None
    labels = nifti.read_label(args.moving_labels, stem(args.moving_labels))
    check_same_grid(stem(args.moving), (args.moving, moving), (args.moving_labels, labels))
    return labels
