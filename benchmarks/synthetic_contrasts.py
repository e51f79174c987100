"""Synthetic images of two contrasts from real anatomy, after SynthSeg (Billot et al., Medical Image Analysis 2023).

    python benchmarks/synthetic_contrasts.py --label-maps DIR --output contrasts --subjects 80

DIR holds label maps of whole heads with FreeSurfer's numbers, such as the ten that SynthSeg publishes. Each synthetic
subject is one of them, turned, scaled and bent at random, and painted: one grey value for each tissue, drawn anew for
each subject, then a bias field, noise and blur. Written are NIfTI scans and a list for ``--dataset nifti``, with the
domains ``t1`` and ``t2``; no map is in two splits. The anatomy is real, **the images are synthetic**.
"""

import argparse
import csv
from pathlib import Path

import nibabel as nib
import numpy as np
import scipy.ndimage

from deepatlas_tf.ops.splines import smooth_field

CLASSES = {
    "cerebral_cortex": (3, 42),
    "cerebral_white_matter": (2, 41),
    "lateral_ventricle": (4, 43, 5, 44),
    "thalamus": (10, 49),
    "caudate": (11, 50),
    "putamen": (12, 51),
}
# numbers of a tissue that are no class; what is in neither is as dark as air
OTHERS = {"fluid": (14, 15, 24, 72), "grey": (8, 47, 13, 52, 17, 53, 18, 54, 26, 58), "white": (7, 46, 16, 28, 60, 85)}
HEAD = {"muscle": (507, 508, 509, 511, 512), "fat": (514, 515, 516), "vessel": (502, 506, 530, 30, 62)}
GREY_VALUES = {
    "t1": {
        "cerebral_cortex": 0.50,
        "cerebral_white_matter": 0.80,
        "lateral_ventricle": 0.15,
        "thalamus": 0.66,
        "caudate": 0.54,
        "putamen": 0.58,
        "fluid": 0.15,
        "grey": 0.52,
        "white": 0.78,
        "muscle": 0.35,
        "fat": 0.70,
        "vessel": 0.30,
    },
    "t2": {
        "cerebral_cortex": 0.62,
        "cerebral_white_matter": 0.36,
        "lateral_ventricle": 0.95,
        "thalamus": 0.45,
        "caudate": 0.56,
        "putamen": 0.50,
        "fluid": 0.95,
        "grey": 0.60,
        "white": 0.38,
        "muscle": 0.22,
        "fat": 0.55,
        "vessel": 0.08,
    },
}
DOMAINS = tuple(GREY_VALUES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--label-maps", type=Path, required=True, help="folder of *.nii.gz")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--subjects", type=int, default=80)
    parser.add_argument("--axes", type=int, default=2, choices=(2, 3), help="2: coronal slices through the thalamus")
    args = parser.parse_args()
    maps = [read_map(path) for path in sorted(args.label_maps.glob("*.nii*"))]
    if len(maps) < 4:
        parser.error(f"{args.label_maps} has {len(maps)} label maps: at least 4 are needed, for the three splits")
    args.output.mkdir(parents=True)
    write_table(args.output / "labels.csv", [("number", "name"), *enumerate(("background", *CLASSES))])
    rows = [write_subject(args.output, index, maps, args.axes) for index in range(args.subjects)]
    write_table(args.output / "scans.csv", [("subject", "image", "label", "split", "domain"), *rows])
    print(f"{args.subjects} synthetic subjects from {len(maps)} label maps: {args.output / 'scans.csv'}")


def read_map(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The map (X, Y, Z) in RAS orientation, voxels of 1 mm, and the middle of its thalamus and caudate in voxels."""
    image = nib.as_closest_canonical(nib.load(path))
    numbers = np.asarray(image.dataobj).astype(np.int16)
    return numbers, np.argwhere(np.isin(numbers, CLASSES["thalamus"] + CLASSES["caudate"])).mean(axis=0)


def split_of(index: int, n_maps: int) -> str:
    """The first two tenths of the maps (at least one) test, the next tenth validates, the rest trains."""
    n_test, n_validation = max(1, n_maps // 5), max(1, n_maps // 10)
    return "test" if index < n_test else "validation" if index < n_test + n_validation else "train"


def write_subject(output: Path, index: int, maps, n_axes: int):
    """Write image and label map of a subject; its row of the list. The domains alternate, then the maps do."""
    which, domain = (index // 2) % len(maps), DOMAINS[index % 2]
    rng = np.random.default_rng([index, n_axes])
    shape, spacing = ((64, 64), 3.0) if n_axes == 2 else ((48, 48, 48), 4.0)
    numbers = deformed(rng, *maps[which], shape, spacing)
    label = sum(n * np.isin(numbers, values) for n, values in enumerate(CLASSES.values(), start=1))
    affine = np.diag([spacing, spacing, spacing, 1.0])
    name = f"map{which:02d}_{index:03d}"
    for kind, volume in (("image", paint(rng, numbers, GREY_VALUES[domain])), ("label", label.astype(np.uint8))):
        nib.save(nib.Nifti1Image(volume, affine), output / f"{name}_{kind}.nii.gz")
    return name, f"{name}_image.nii.gz", f"{name}_label.nii.gz", split_of(which, len(maps)), domain


def deformed(rng, numbers: np.ndarray, centre: np.ndarray, shape: tuple[int, ...], spacing: float) -> np.ndarray:
    """The map on the grid, nearest neighbour: turned by up to 6 degrees, scaled by up to 8 %, bent by some 3 mm."""
    axes = np.meshgrid(*[spacing * (np.arange(n) - (n - 1) / 2) for n in shape], indexing="ij")
    x, y, z = axes if len(shape) == 3 else (axes[0], np.zeros(shape), axes[1])
    points = np.stack([x, y, z]) + rng.uniform(-4, 4, (3, *[1] * len(shape)))
    angles, scales = np.radians(rng.uniform(-6, 6, 3)), rng.uniform(0.92, 1.08, 3)
    for angle, (a, b) in zip(angles, ((0, 2), (0, 1), (1, 2)), strict=True):
        points[a], points[b] = (
            np.cos(angle) * points[a] - np.sin(angle) * points[b],
            np.sin(angle) * points[a] + np.cos(angle) * points[b],
        )
    knots = (7,) * len(shape)
    bends = [smooth_field(rng.normal(0, 5.0, knots).astype(np.float32), shape) for _ in range(3)]
    points = points * scales.reshape(3, *[1] * len(shape)) + bends
    return scipy.ndimage.map_coordinates(numbers, points + centre.reshape(3, *[1] * len(shape)), order=0)


def paint(rng, numbers: np.ndarray, grey_values: dict[str, float]) -> np.ndarray:
    """Image (*S,) float32 in [0, 1] of a map of numbers."""
    image = np.zeros(numbers.shape, np.float32)
    for tissue, values in (CLASSES | OTHERS | HEAD).items():
        image[np.isin(numbers, values)] = grey_values[tissue] + rng.normal(0, 0.03)
    bias = np.exp(smooth_field(rng.normal(0, 0.15, (4,) * image.ndim).astype(np.float32), image.shape))
    image = scipy.ndimage.gaussian_filter(image + 0.05 * rng.normal(size=image.shape), 0.5) * bias
    return np.clip(image, 0, 1).astype(np.float32)


def write_table(path: Path, rows) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


if __name__ == "__main__":
    main()
