"""Segmentation of scans of any orientation, voxel size and extent, each in its own grid."""

import csv
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np

from deepatlas_tf.apply.files import check_outputs, find_scans, header_of, save, stem, writing
from deepatlas_tf.apply.grids import apply_in_tiles, covering_transform, mirrored
from deepatlas_tf.messages import detail, progress, say
from deepatlas_tf.metrics.blocks import by_blocks
from deepatlas_tf.runs.model import Grid, note_on_sides, open_model
from deepatlas_tf.scans import nifti
from deepatlas_tf.scans.grid import GridTransform
from deepatlas_tf.scans.intensity import rescale
from deepatlas_tf.scans.nifti import Nifti
from deepatlas_tf.types import DataError


class Segmentation(NamedTuple):
    """label (X, Y, Z) class index on the scan's own grid; probabilities (X, Y, Z, C) float32, or None."""

    label: np.ndarray
    probabilities: np.ndarray | None


def segment_scan(segment: Callable, grid: Grid, scan: Nifti, keep_probabilities: bool = False) -> Segmentation:
    """Segment a scan: rescaled, brought to the voxel size of training, through the network, and back.

    The probabilities are brought to the scan's grid, where the most probable class wins. A scan of the voxel size of
    training is not resampled: the class that wins is found first, and one volume is brought back instead of one a
    class, with the same result.

    Args:
        segment: function ``image (*S, 1) -> class probabilities (*S, C)``.
        grid: that the network was trained on.
        scan: volume and affine.
        keep_probabilities: they need four bytes a voxel and class.
    """
    transform = covering_transform(scan, grid)
    probabilities = apply_in_tiles(segment, transform.image_to_network(rescale(scan.volume))[..., None])
    if keep_probabilities or set(transform.factors) != {1.0}:
        return _to_source(probabilities, transform, keep_probabilities)
    label = by_blocks(lambda rows: probabilities[rows].argmax(axis=-1).astype(np.float32), transform.shape)
    return Segmentation(transform.image_to_source(label).astype(_label_type(probabilities)), None)


def _label_type(probabilities: np.ndarray):
    return np.uint8 if probabilities.shape[-1] <= 256 else np.uint16


def _to_source(probabilities: np.ndarray, transform: GridTransform, keep: bool) -> Segmentation:
    n_classes = probabilities.shape[-1]
    best = np.full(transform.source_shape, -1, np.float32)
    label = np.zeros(transform.source_shape, _label_type(probabilities))
    kept = np.zeros((*transform.source_shape, n_classes), np.float32) if keep else None
    for index in range(n_classes):
        share = transform.image_to_source(probabilities[..., index])
        label[share > best] = index
        best = np.maximum(best, share)
        if keep:
            kept[..., index] = share
    if keep:  # the smoothing of a coarser scan may leave a sum that is not quite 1
        kept /= np.maximum(kept.sum(axis=-1, keepdims=True), 1e-6)
    return Segmentation(label, kept)


def segment(args) -> int:
    """``deepatlas segment``; takes the parsed options of the command. A bad scan does not stop the others."""
    scans = find_scans(args.scans)
    results = [args.output / scan.name for scan in scans]
    tables = [args.output / "volumes.csv", args.output / "labels.csv"]
    extra = [_probabilities_path(result) for result in results] if args.probabilities else []
    check_outputs([*results, *extra, *tables], args.overwrite, inputs=scans)
    model = open_model(args.model)
    function, names = model.segmenter(args.stage), model.grid.class_names
    note_on_sides(model, args.mirror)
    _write_table(tables[1], ["label", "name"], list(enumerate(names)))
    rows, failed = [], 0
    bar = progress(scans, desc="segmenting", unit="scan")
    for scan, result in zip(bar, results, strict=True):
        try:
            rows.append([scan.name, *_segment_file(function, model.grid, scan, result, args)])
        except DataError as error:
            failed += 1
            bar.write(f"error: {error}", file=sys.stderr)
            continue
        _write_table(tables[0], ["scan", *(f"{name}_ml" for name in names[1:])], rows)
    if rows:
        say(f"{len(rows)} label map{'s' * (len(rows) > 1)} and volumes.csv in {args.output}")
    return 1 if failed else 0


def _segment_file(function, grid: Grid, scan: Path, result: Path, args) -> list[str]:
    """Writes the label map, and the probabilities if asked for; the volume of each class in ml."""
    detail(f"reading {scan}")
    source = nifti.read_image(scan, stem(scan), len(grid.shape))
    shown = mirrored(source) if args.mirror else source  # voxels keep their places, so the result lies on the scan
    found, header = segment_scan(function, grid, shown, args.probabilities), header_of(scan)
    if args.probabilities:
        save(_probabilities_path(result), found.probabilities, source.affine, header)
    save(result, found.label, source.affine, header)
    size = abs(np.linalg.det(nib.load(scan).affine[:3, :3]))  # mm3, also of a slice, which has a thickness
    counts = np.bincount(found.label.ravel(), minlength=len(grid.class_names))
    return [f"{count * size / 1000:.6g}" for count in counts[1:]]


def _probabilities_path(result: Path) -> Path:
    return result.with_name(result.name.replace(stem(result), f"{stem(result)}_probabilities", 1))


def _write_table(path: Path, heading: list[str], rows) -> None:
    with writing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([heading, *rows])
