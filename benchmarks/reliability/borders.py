"""How much a border around the anatomy changes what a trained network says: Dice with and without it.

    python benchmarks/reliability/borders.py runs/demo
    python benchmarks/reliability/borders.py runs/hippo5 --images DATA/imagesTr --labels DATA/labelsTr

Without --images, synthetic knees are drawn that no training has seen, on the run's grid. ``whole`` is the Dice of the
network on the whole file in one pass, as it was done before scans were cut to their anatomy. Written to
``benchmarks/results/reliability/borders_<name of the run>.json``.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from deepatlas_tf.apply.grids import covering_transform
from deepatlas_tf.apply.segment import segment_scan
from deepatlas_tf.metrics.overlap import dice
from deepatlas_tf.phantoms.knee import knee
from deepatlas_tf.runs.model import Grid, open_model
from deepatlas_tf.scans.intensity import rescale
from deepatlas_tf.scans.nifti import Nifti, read_image, read_label

OFF_CENTRE = ((0, 40), (20, 0), (8, 3))
BORDERS: dict[str, tuple] = {"none": ((0, 0), "black")}
BORDERS |= {f"{n} {kind}": (n, kind) for n in (4, 8, 16, 32, 64) for kind in ("black", "continued")}
BORDERS |= {f"off-centre {kind}": (OFF_CENTRE, kind) for kind in ("black", "continued", "noise")}
BORDERS |= {"16 grey": (16, "grey"), "8 noise": (8, "noise"), "32 noise": (32, "noise")}
RESULTS = Path(__file__).parents[1] / "results" / "reliability"
WHOLE_VOXELS = 130**3  # more take too much memory in one pass


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--subjects", type=int, default=3)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--larger", type=float, default=1.0, help="knees on a grid so many times as large")
    args = parser.parse_args()
    model = open_model(args.run)
    segment, grid = model.segmenter(), model.grid
    subjects = list(_files(args) if args.images else _knees(grid, args.subjects, args.larger))
    print("| border | Dice | least | whole |\n| --- | ---: | ---: | ---: |")
    rows = []
    for name, (widths, kind) in BORDERS.items():
        scores, whole = [], []
        for scan, label in subjects:
            padded, target = _padded(scan, widths, kind), np.pad(label, widths)
            scores.append(_mean_dice(segment_scan(segment, grid, padded).label, target, grid))
            if target.size < WHOLE_VOXELS:
                whole.append(_mean_dice(_in_one_pass(segment, grid, padded), target, grid))
        last = f"{np.mean(whole):.3f}" if whole else "-"
        print(f"| {name} | {np.mean(scores):.3f} | {np.min(scores):.3f} | {last} |", flush=True)
        of_subjects = {"dice": scores, "whole_dice": whole}
        rows.append({"border": name} | {key: [round(x, 4) for x in found] for key, found in of_subjects.items()})
    from results import write

    write(RESULTS / f"borders_{args.run.name}.json", {"dataset": model.about["dataset"], "rows": rows})


def _knees(grid: Grid, n: int, larger: float) -> Iterator[tuple[Nifti, np.ndarray]]:
    shape = tuple(round(larger * size) for size in grid.shape)
    for seed in range(n):
        image, label = knee(9000 + seed, shape, grid.spacing)
        yield Nifti(np.rint(1000 * image).astype(np.float32), np.diag([*grid.spacing, 1.0])), label


def _files(args) -> Iterator[tuple[Nifti, np.ndarray]]:
    for path in sorted(args.images.glob("*.nii.gz"))[-args.subjects :]:
        yield read_image(path, path.name), read_label(args.labels / path.name, path.name).volume


def _padded(scan: Nifti, widths, kind: str) -> Nifti:
    if kind == "continued":
        return Nifti(np.pad(scan.volume, widths, mode="edge"), scan.affine)
    if kind != "noise":
        return Nifti(np.pad(scan.volume, widths, constant_values=500 if kind == "grey" else 0), scan.affine)
    inside = np.pad(np.ones(scan.volume.shape, bool), widths)
    noise = np.abs(np.random.default_rng(0).normal(size=inside.shape)) * 0.02 * np.percentile(scan.volume, 99)
    volume = noise.astype(np.float32)
    volume[inside] = scan.volume.ravel()
    return Nifti(volume, scan.affine)


def _in_one_pass(segment, grid: Grid, scan: Nifti) -> np.ndarray:
    transform = covering_transform(scan, grid)
    probabilities = segment(transform.image_to_network(rescale(scan.volume))[..., None])
    return transform.image_to_source(probabilities.argmax(axis=-1).astype(np.float32)).astype(np.uint8)


def _mean_dice(found: np.ndarray, label: np.ndarray, grid: Grid) -> float:
    return float(np.nanmean(dice(found, label, len(grid.class_names))[1:]))


if __name__ == "__main__":
    main()
