"""Makes small synthetic brains in the layout that ``mindboggle101`` reads, for its tests.

    python -m deepatlas_tf.datasets.mindboggle101.make_dummy_data FOLDER

A brain is a grid of columns, one region each, that runs through both hemispheres; it is known exactly, voxel by voxel.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.spatial.transform import Rotation

SIZE, SPACING = (10, 12, 9), (14.0, 15.0, 16.0)  # along the axes that lead to right, anterior, superior
NUMBERS = np.array([0, 2, 3, *range(5, 32), 34, 35])  # class index -> number, without the hemisphere's thousand
SPACES = {  # end of the file's name: order of its axes, oblique turn in degrees, centre in mm
    ".MNI152": ("LAS", 0.0, (0, -18, 18)),
    "": ("ASL", 8.0, (4, 10, -30)),
}
GROUPS = {
    "MMRR-21_volumes": ("MMRR-21-1", "MMRR-21-2"),
    "Extra-18_volumes": ("HLN-12-1", "HLN-12-10", "Colin27-1", "Twins-2-1"),
    "NKI-TRT-20_volumes": ("NKI-TRT-20-1", "NKI-TRT-20-5"),
    "OASIS-TRT-20_volumes": ("OASIS-TRT-20-1",),
    "NKI-RS-22_volumes": tuple(f"NKI-RS-22-{number}" for number in range(1, 6)),
}


def class_index() -> np.ndarray:
    """(SIZE) int: background and the 31 regions in turn."""
    _, y, z = np.indices(SIZE)
    return (y * SIZE[2] + z) % len(NUMBERS)


def brain_label() -> np.ndarray:
    """(SIZE) float32 numbers as in the files: 1002... left, 2002... right."""
    number = NUMBERS[class_index()]
    side = np.where(np.indices(SIZE)[0] < SIZE[0] // 2, 1000, 2000)
    return np.where(number, side + number, 0).astype(np.float32)


def brain_image(seed: int) -> np.ndarray:
    """(SIZE) float32, different in all directions and for each seed; 0 around the brain."""
    x, y, z = np.indices(SIZE)
    image = 100 + 7 * class_index() + 11 * x + 3 * y + 2 * z + np.random.default_rng(seed).normal(0, 5, SIZE)
    image[0], image[-1] = 0, 0
    return image.astype(np.float32)


def brain_affine(degrees: float, centre: Sequence[float]) -> np.ndarray:
    """(4, 4) of voxels in the order right, anterior, superior, but for an oblique turn."""
    affine = np.eye(4)
    turn = Rotation.from_euler("xyz", [degrees, -degrees, degrees / 2], degrees=True).as_matrix()
    affine[:3, :3] = turn * SPACING
    affine[:3, 3] = centre - affine[:3, :3] @ (np.array(SIZE) - 1) / 2
    return affine


def save(path: Path, volume: np.ndarray, axes: str, affine: np.ndarray) -> None:
    """``volume`` and ``affine`` are in the order right, anterior, superior; the file is in the order ``axes``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    way = nib.orientations.ornt_transform(*map(nib.orientations.axcodes2ornt, ("RAS", axes)))
    nib.save(nib.Nifti1Image(volume, affine).as_reoriented(way), path)


def make(folder: Path, groups: Mapping[str, Sequence[str]] = GROUPS) -> Path:
    """``GROUP/SUBJECT/`` with image and label map in both spaces, and the files beside them that are not read."""
    for group, subjects in groups.items():
        for subject in subjects:
            place, seed = folder / group / subject, sum(map(ord, subject))
            for space, (axes, degrees, centre) in SPACES.items():
                affine = brain_affine(degrees, centre)
                save(place / f"t1weighted_brain{space}.nii.gz", brain_image(seed), axes, affine)
                save(place / f"labels.DKT31.manual{space}.nii.gz", brain_label(), axes, affine)
                for other in (f"t1weighted{space}.nii.gz", f"labels.DKT31.manual+aseg{space}.nii.gz"):
                    (place / other).touch()
    return folder


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    make(parser.parse_args().folder)
