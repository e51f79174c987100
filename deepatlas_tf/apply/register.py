"""Registration of two scans, each of any orientation, voxel size and extent; results in millimetres."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from deepatlas_tf.apply.atlases import Functions, VoterFiles, check_guided, find_voters, read_voters
from deepatlas_tf.apply.fields import Field, invert, jacobian, warp_labels, warp_volume, write_field
from deepatlas_tf.apply.files import check_outputs, check_scan, header_of, save, stem, writing_together
from deepatlas_tf.apply.given_scans import channel_files, warped_names
from deepatlas_tf.apply.grids import anatomy, covering_transform, cropped, mirrored, network_transform
from deepatlas_tf.apply.itk_transform import write_transform
from deepatlas_tf.apply.points import sample, transformed_voxels
from deepatlas_tf.datasets.alignment import placed
from deepatlas_tf.messages import detail, say
from deepatlas_tf.metrics.blocks import by_blocks
from deepatlas_tf.runs.ensemble import Ensemble
from deepatlas_tf.runs.model import ExportedModel, Grid, TrainedModel, note_on_sides, open_model
from deepatlas_tf.runs.predict import Registrar
from deepatlas_tf.scans import nifti
from deepatlas_tf.scans.affine import check_simpleitk, failure, register_affine
from deepatlas_tf.scans.aligned_grid import AlignedGridTransform
from deepatlas_tf.scans.channels import read_channels, to_network
from deepatlas_tf.scans.checks import check_same_grid
from deepatlas_tf.scans.grid import GridTransform
from deepatlas_tf.scans.nifti import Nifti
from deepatlas_tf.types import DataError, SettingError

FIELD, INVERSE = "displacement_field.nii.gz", "inverse_displacement_field.nii.gz"
JACOBIAN, LABELS, TRANSFORM = "jacobian.nii.gz", "warped_labels.nii.gz", "transform.h5"
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
    """Register two scans: both cropped to their anatomy, rescaled and on one network grid; the field is brought back.

    Where those of training were aligned to a reference, so are both scans, and the field holds the affine parts: one
    field, for one interpolation. Where the fixed scan was cropped, the values at the border of the field are continued.

    Args:
        register: function ``moving (*S, K), fixed (*S, K) -> u (*S, D)`` in voxels.
        grid: that the network was trained on.
        moving: volume and affine, of all channels.
        fixed: volume and affine, of all channels.
        alignment: (4, 4), mm of the fixed scan to mm of the moving one, from an affine registration. None brings the
            scans' centres together and their axes in one order, as in training, or both to the reference.

    Raises:
        DataError: the network's field is not finite, or a scan's voxels are too many for it.
    """
    part, moving_part = (cropped(scan, anatomy(scan, grid)) for scan in (fixed, moving))
    transform, other = _transforms(part, moving_part, grid, alignment)
    alignment = other.affine @ np.linalg.inv(transform.affine)
    u = register(to_network(moving_part, other), to_network(part, transform))
    if not np.isfinite(u).all():
        raise DataError("the network's displacement field is not finite; its weights are damaged, or a scan is")
    return Registration(to_field(u, transform, fixed, alignment), alignment, transform)


def _transforms(
    fixed: Nifti, moving: Nifti, grid: Grid, alignment: np.ndarray | None
) -> tuple[GridTransform, GridTransform]:
    """The ways of both scans to one grid of the network."""
    if alignment is not None:
        transform = _bounded(covering_transform(fixed, grid), grid)
        return transform, placed(moving, transform.shape, alignment @ transform.affine)
    if grid.reference is not None:
        return network_transform(fixed, grid), network_transform(moving, grid)
    pairs = ((fixed, moving), (moving, fixed))
    transform, other = (_bounded(covering_transform(a, grid, b), grid) for a, b in pairs)
    return transform, other


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


def _register_mirrored(
    register: Callable, grid: Grid, moving: Nifti, fixed: Nifti, alignment: np.ndarray | None
) -> Registration:
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


@dataclasses.dataclass(frozen=True)
class RegistrationOptions:
    """How two files are registered.

    moving_labels: label map of the moving scan, which is warped too. affine: align the scans first, with SimpleITK.
    instance_steps: the network's field is refined by so many steps for these two scans; anatomy: by aligning the
    predictions of the run's segmentation network, too. atlases: (image, label map) of scans that vote with that, see
    :mod:`deepatlas_tf.runs.atlases`; templates: scans that vote without a label map, folders or CSVs of them. mirror:
    all scans are of left sides and the model knows right ones; they are mirrored for the network only. stage: of the
    run, None takes the last that registers. format: ``itk`` writes ``transform.h5`` too, see
    :mod:`deepatlas_tf.apply.itk_transform`. overwrite: replace results that are there.
    """

    moving_labels: Path | None = None
    affine: bool = False
    instance_steps: int = 0
    anatomy: bool = False
    atlases: Sequence[tuple[Path, Path]] = ()
    templates: Sequence[Path] = ()
    mirror: bool = False
    stage: str | None = None
    format: str = "nifti"
    overwrite: bool = False


def register_files(
    moving: Path, fixed: Path, model: Path, output: Path, options: RegistrationOptions | None = None
) -> Registration:
    """Register two NIfTI files and write the warped scan, the fields of both directions and the Jacobian determinant.

    All files are written, or none.

    Args:
        moving: the scan that is warped; for a model of several channels see :mod:`deepatlas_tf.apply.given_scans`.
        fixed: the scan that it is warped onto, likewise.
        model: folder of a run, or an exported model.
        output: folder of the results.
        options: None is the default ones.

    Raises:
        DataError: a file, the model or the output cannot be used, or a result is not finite.
        SettingError: an anatomy without steps, or atlases and templates without an anatomy to vote for.
    """
    options = options or RegistrationOptions()
    check_guided((*options.atlases, *options.templates), options.instance_steps, options.anatomy)
    opened = open_model(model)
    channels = opened.grid.channel_names
    files = channel_files(moving, channels), channel_files(fixed, channels)
    voters = find_voters(options.atlases, options.templates, channels)
    moving_labels = [check_scan(options.moving_labels)] if options.moving_labels else []
    inputs = [*files[0], *files[1], *moving_labels, *voters.paths]
    extra = {LABELS: options.moving_labels is not None, TRANSFORM: options.format == "itk"}
    names = [*warped_names(channels), FIELD, INVERSE, JACOBIAN, *(name for name, wanted in extra.items() if wanted)]
    check_outputs([output / name for name in names], options.overwrite, inputs)
    if options.affine and opened.grid.reference is not None:
        raise SettingError(f"--affine is not needed: {model} aligns both scans to its reference")
    if options.affine or options.format == "itk" or opened.grid.reference is not None:
        check_simpleitk()
    check_of_volumes(opened.path, opened.grid)
    note_on_sides(opened, options.mirror)
    for path in inputs:
        detail(f"reading {path}")
    source, target = (read_volume(paths, channels, stem(paths[0])) for paths in files)  # sooner than networks
    labels = _read_labels(options.moving_labels, files[0][0], source) if options.moving_labels else None
    function = _registrar(opened, options, voters, f"{files[0][0]} on {files[1][0]}")
    alignment = _affine(source, target, opened.grid) if options.affine else None
    register = _register_mirrored if options.mirror else register_scans
    found = register(function, opened.grid, source, target, alignment)
    folds = _write_results(
        output, (files[0][0], files[1][0]), (source, target), labels, found, channels, options.format == "itk"
    )
    _report_crop(found.transform, opened.grid)
    say(f"{', '.join(names)} in {output}; folds in {folds:.3g} % of the voxels")
    return found


def _registrar(
    opened: TrainedModel | ExportedModel | Ensemble, options: RegistrationOptions, files: VoterFiles, scans: str
) -> Registrar:
    """The function of the model, with the atlases where they are asked for; ``scans`` are what messages are about."""
    voters = read_voters(files, opened.grid, options.mirror)
    segment = Functions.of_model(opened).guiding(options.stage, voters, options.instance_steps, opened.grid, scans)
    return opened.registrar(options.stage, options.instance_steps, options.anatomy, segment)


def check_of_volumes(model: Path, grid: Grid) -> None:
    """Raise DataError where a model is one of slices, which cannot be registered here."""
    if len(grid.shape) != 3:
        raise DataError(f"{model} is a model of slices: deepatlas register takes volumes")


def read_volume(paths: Sequence[Path], channels: Sequence[str], subject: str) -> Nifti:
    """Read a scan to be registered. Raises DataError where it cannot be used, or is one slice."""
    scan = read_channels(paths, channels, subject)
    if min(scan.volume.shape) < 2:
        raise DataError(f"{paths[0]} is one slice {scan.volume.shape}: a model of volumes registers volumes only")
    return scan


def _affine(moving: Nifti, fixed: Nifti, grid: Grid) -> np.ndarray:
    """The affine registration of the anatomy alone: a border would be aligned too."""
    moving, fixed = (cropped(scan, anatomy(scan, grid)) for scan in (moving, fixed))
    found = register_affine(moving, fixed)
    reason = failure(found)
    if reason:
        raise DataError(f"--affine: the alignment of the two scans failed ({reason}); align them with another tool")
    return found.matrix


def _write_results(
    output: Path,
    paths: Sequence[Path],
    scans: Sequence[Nifti],
    labels: Nifti | None,
    found: Registration,
    channels: Sequence[str],
    itk: bool,
) -> float:
    """Write all files, or none. The share of the voxels that fold, in percent."""
    moving, fixed = scans
    inverse = invert(found.field, moving.affine, moving.volume.shape, found.alignment)
    determinant = jacobian(found.field)
    warped = {
        name: warp_volume(volume, moving.affine, found.field)
        for name, volume in zip(warped_names(channels), moving.channels, strict=True)
    }
    for name, values in {FIELD: found.field.vectors, INVERSE: inverse.vectors, **warped}.items():
        if not np.isfinite(values).all():
            raise DataError(
                f"{paths[0]} and {paths[1]}: {name} would not be finite; check the affines in the headers of both"
            )
    of_moving, of_fixed = (header_of(path) for path in paths)
    with writing_together(output) as folder:
        write_field(folder / FIELD, found.field, of_fixed)
        write_field(folder / INVERSE, inverse, of_moving)
        save(folder / JACOBIAN, determinant, fixed.affine, of_fixed)
        for name, values in warped.items():
            save(folder / name, values, fixed.affine, of_fixed)
        if labels is not None:
            save(folder / LABELS, warp_labels(labels.volume, labels.affine, found.field), fixed.affine, of_fixed)
        if itk:
            write_transform(folder / TRANSFORM, found.field, found.alignment)
    return 100 * float(np.mean(determinant <= 0))


def _report_crop(transform: GridTransform, grid: Grid) -> None:
    if isinstance(transform, AlignedGridTransform):
        return  # the grid of the reference is all that the network knows
    sizes = np.array(transform.canonical_shape) / transform.factors
    if (sizes > np.array(transform.shape) + 1).any():
        shown = " x ".join(f"{n * size:.0f}" for n, size in zip(transform.shape, grid.spacing, strict=True))
        say(f"the fixed scan is too large for one pass: the middle {shown} mm are registered, the rest moves along")


def _read_labels(path: Path, moving_path: Path, moving: Nifti) -> Nifti:
    labels = nifti.read_label(path, stem(path))
    check_same_grid(stem(moving_path), (moving_path, moving), (path, labels))
    return labels
