"""Segmentation of scans of any orientation, voxel size and extent, each in its own grid."""

import dataclasses
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from deepatlas_tf.apply.atlases import Functions, VoterFiles, check_refined, find_voters, read_voters
from deepatlas_tf.apply.files import check_outputs, header_of, save, stem
from deepatlas_tf.apply.foreground import Region
from deepatlas_tf.apply.given_scans import GivenScan, complete_scans
from deepatlas_tf.apply.grids import anatomy, check_window, cropped, mirrored, network_transform
from deepatlas_tf.apply.result_tables import ResultTables
from deepatlas_tf.messages import detail, progress, say
from deepatlas_tf.runs.ensemble import Ensemble
from deepatlas_tf.runs.model import ExportedModel, Grid, TrainedModel, note_on_sides, open_model
from deepatlas_tf.runs.own_grid import Segmentation, segment_to_source
from deepatlas_tf.runs.predict import Segmenter
from deepatlas_tf.scans.channels import read_channels, to_network
from deepatlas_tf.scans.components import keep_largest, remove_specks
from deepatlas_tf.scans.nifti import Nifti
from deepatlas_tf.types import DataError, SettingError


def segment_scan(
    segment: Callable, grid: Grid, scan: Nifti, keep_probabilities: bool = False, windows: bool = True
) -> Segmentation:
    """Segment a scan: cropped to its anatomy, rescaled, at the voxel size of training, through the network, and back.

    Where the scans of training were aligned to a reference, so is this one. One that is larger than the training grid
    goes through the network in overlapping windows of that size. What is cropped away is background. Specks of
    ``grid.without_specks`` are given to what is around them; the probabilities stay as they are.

    Args:
        segment: function ``image (*S, K) -> class probabilities (*S, C)``.
        grid: that the network was trained on.
        scan: volume and affine, of all channels.
        keep_probabilities: they need four bytes a voxel and class.
        windows: False refuses a scan that is larger than the training grid, as ``segment`` takes no window of one.

    Raises:
        DataError: the network's result is not finite, the scan's voxels are too many for it, or it cannot be aligned.
    """
    region = anatomy(scan, grid)
    part = cropped(scan, region)
    transform = network_transform(part, grid)
    if not windows:
        check_window(transform.shape, grid)
    image = to_network(part, transform)
    found = segment_to_source(segment, image, grid.shape, transform, keep_probabilities)
    found = found._replace(label=remove_specks(found.label, grid.without_specks))
    return _in_whole(found, scan.volume.shape, region)


def _in_whole(found: Segmentation, shape: Sequence[int], region: Region) -> Segmentation:
    """The result of a region of a scan on the whole grid ``shape``: all else is background."""
    label = np.zeros(shape, found.label.dtype)
    label[region] = found.label
    if found.probabilities is None:
        return Segmentation(label, None)
    probabilities = np.zeros((*shape, found.probabilities.shape[-1]), np.float32)
    probabilities[..., 0] = 1
    probabilities[region] = found.probabilities
    return Segmentation(label, probabilities)


@dataclasses.dataclass(frozen=True)
class SegmentationOptions:
    """How files are segmented.

    probabilities: write ``NAME_probabilities.nii.gz`` (X, Y, Z, C) too. keep_largest: each class keeps its largest
    connected component only, of the label map; the probabilities stay as they are. mirror: the scans are of left sides
    and the model knows right ones; they are mirrored for the network only. stage: of the run, None takes the one of
    full resolution, else the last that segments. overwrite: replace results that are there. atlases: (image, label map)
    of scans that vote with the network, see :mod:`deepatlas_tf.runs.atlases`; with ``mirror`` they are of left sides,
    too. templates: scans that vote without a label map, folders or CSVs of them. instance_steps: the registrations of
    both are refined by so many steps for each scan. flips: the network's result is the mean over the scan and its
    mirror image, see :mod:`deepatlas_tf.runs.flips`.
    """

    probabilities: bool = False
    keep_largest: bool = False
    mirror: bool = False
    stage: str | None = None
    overwrite: bool = False
    atlases: Sequence[tuple[Path, Path]] = ()
    templates: Sequence[Path] = ()
    instance_steps: int = 0
    flips: bool = False

    @property
    def voters(self) -> tuple:
        """Whatever is registered to each scan."""
        return (*self.atlases, *self.templates)


def segment_files(
    paths: Sequence[Path], model: Path, output: Path, options: SegmentationOptions | None = None
) -> dict[Path, str]:
    """Segment NIfTI files: a label map for each in ``output``, with ``volumes.csv`` (ml) and ``labels.csv``.

    Args:
        paths: NIfTI files, folders of them or CSVs; for a model of several channels see
            :mod:`deepatlas_tf.apply.given_scans`.
        model: folder of a run, or an exported model.
        output: folder of the results; the numbers in the label maps are the model's ``written_numbers``. Rows of
            ``volumes.csv`` of earlier calls stay, but for scans that are segmented again.
        options: None for the defaults.

    Returns:
        The scans that failed, by their first file, and why. Each is named on stderr and does not stop the others. One
        that lacks a channel is among them.

    Raises:
        DataError: the model, an atlas or a template cannot be used, an output cannot be written, or is there of another
            model, or no scan has all channels.
        SettingError: no network that registers atlases, ``instance_steps`` without atlases, flips of one side only.
    """
    options = options or SegmentationOptions()
    check_refined(options.voters, options.instance_steps)
    opened = open_model(model)
    channels = opened.grid.channel_names
    scans, failed = complete_scans(paths, channels)
    voters = find_voters(options.atlases, options.templates, channels)
    stage = segmentation_stage(opened, options.stage, with_atlases=bool(options.voters))
    grid = opened.grid_of(stage)
    tables = ResultTables(output, opened.grid.written_numbers, grid.class_names)
    results = [output / scan.name for scan in scans]
    _check_results(results, tables, options, [*(path for scan in scans for path in scan.paths), *voters.paths])
    function = _segmenter(opened, options, stage, voters)
    note_on_sides(opened, options.mirror)
    bar = progress(scans, desc="segmenting", unit="scan")
    for problem in failed.values():
        bar.write(f"error: {problem}", file=sys.stderr)
    for scan, result in zip(bar, results, strict=True):
        try:
            row = _segment_file(function, grid, scan, result, options)
        except Exception as error:  # whatever one file does to a library must not stop the others
            failed[scan.paths[0]] = _reason(scan.paths[0], error)
            bar.write(f"error: {failed[scan.paths[0]]}", file=sys.stderr)
            continue
        tables.add(row)
    if n_done := sum(scan.paths[0] not in failed for scan in scans):
        say(_written(n_done, tables, options))
    return failed


def _check_results(
    results: Sequence[Path], tables: ResultTables, options: SegmentationOptions, inputs: Sequence[Path]
) -> None:
    """Raise DataError where a result is there and stays, or cannot be written. Tables that are there are extended."""
    probabilities = [_probabilities_path(result) for result in results] if options.probabilities else []
    check_outputs([*results, *probabilities], options.overwrite, inputs)
    check_outputs([tables.volumes, tables.labels], True, inputs)
    tables.check()


def _written(n: int, tables: ResultTables, options: SegmentationOptions) -> str:
    """What was written of ``n`` scans, and where."""
    maps = f"{n} label map{'s' * (n > 1)}"
    probabilities = [f"{n} file{'s' * (n > 1)} of probabilities"] if options.probabilities else []
    names = ", ".join([maps, *probabilities, tables.volumes.name])
    return f"{names} and {tables.labels.name} in {tables.volumes.parent}"


def segmentation_stage(
    model: TrainedModel | ExportedModel | Ensemble, stage: str | None, with_atlases: bool = False
) -> str | None:
    """The stage that segments: the one that is named, else one of full resolution where there is one.

    None is the last one on the run's grid, where atlases lie.

    Raises:
        SettingError: a stage of full resolution is named, and there are atlases.
    """
    found = model.full_resolution()
    if stage is not None and stage == found and with_atlases:
        raise SettingError(f"--stage {stage} segments at full resolution, where no atlas is registered: leave out one")
    return stage if stage is not None or with_atlases else found


def _segmenter(
    opened: TrainedModel | ExportedModel | Ensemble, options: SegmentationOptions, stage: str | None, files: VoterFiles
) -> Segmenter:
    """The function of the model, with flips and with the atlases where they are asked for."""
    voters = read_voters(files, opened.grid, options.mirror)
    functions = Functions.of_model(opened)
    if options.flips:
        functions = functions.with_flips(opened.grid, opened.about)
    return functions.voting(stage, voters, options.instance_steps)


def _segment_file(
    function: Callable, grid: Grid, scan: GivenScan, result: Path, options: SegmentationOptions
) -> list[str]:
    """Write the label map, and the probabilities if asked for; return the row of ``volumes.csv``."""
    first = scan.paths[0]
    detail(f"reading {first}")
    source = read_channels(scan.paths, grid.channel_names, stem(first), len(grid.shape))
    shown = mirrored(source) if options.mirror else source  # voxels keep their places, so the result lies on the scan
    found, header = segment_scan(function, grid, shown, options.probabilities, not options.voters), header_of(first)
    label = keep_largest(found.label) if options.keep_largest else found.label
    if found.probabilities is not None:
        save(_probabilities_path(result), found.probabilities, source.affine, header)
    save(result, with_numbers(label, grid.written_numbers), source.affine, header)
    size = abs(np.linalg.det(header.get_best_affine()[:3, :3]))  # mm3, also of a slice, which has a thickness
    counts = np.bincount(label.ravel(), minlength=len(grid.class_names))
    return [scan.name, *(f"{count * size / 1000:.6g}" for count in counts[1:])]


def with_numbers(label: np.ndarray, numbers: Sequence[int]) -> np.ndarray:
    """A label map (*S) of class indices with ``numbers`` (C,) in their place, of the smallest type that holds them."""
    types = (np.uint8, np.uint16, np.int32, np.int64)
    smallest = next(one for one in types if max(numbers) <= np.iinfo(one).max)
    return np.array(numbers, smallest)[label]


def _reason(scan: Path, error: Exception) -> str:
    """One line that names the scan."""
    if not isinstance(error, DataError):
        detail("".join(traceback.format_exception(error)))
    text = " ".join(str(error).split())[:200] or type(error).__name__
    if isinstance(error, DataError):
        return text if scan.name in text else f"{scan}: {text}"
    return f"{scan}: {type(error).__name__}: {text}; the scan was left out"


def _probabilities_path(result: Path) -> Path:
    return result.with_name(result.name.replace(stem(result), f"{stem(result)}_probabilities", 1))
