"""Makes small synthetic brains in the layout that ``oasis`` reads, for its tests.

    python -m deepatlas_tf.datasets.oasis.make_dummy_data FOLDER

A brain is a grid of columns, one structure each; it is known exactly, voxel by voxel.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

SIZE, SPACING = (10, 12, 14), 16.0  # along the files' axes, to left, inferior, anterior: a 16th of the real volumes
SLICE = 7  # which plane of the third axis the slices show
# As in the real files
AFFINE = np.array([[-SPACING, 0, 0, 80], [0, 0, SPACING, -112], [0, -SPACING, 0, 96], [0, 0, 0, 1]])
SUBJECTS = tuple(f"OASIS_OAS1_{number:04d}_MR1" for number in (1, 2, 3, 4, 5, 6, 7, 9, 10, 11))


def brain_label(n_classes: int) -> np.ndarray:
    """(SIZE) uint8: 0 to ``n_classes`` in turn, different in all directions."""
    x, y, z = np.indices(SIZE)
    return ((z * SIZE[1] + y + (x > 6)) % (n_classes + 1)).astype(np.uint8)


def brain_image(seed: int) -> np.ndarray:
    """(SIZE) float32 in [0, 1], different in all directions and for each seed."""
    x, y, z = np.indices(SIZE)
    image = 5.0 * brain_label(35) + 11 * x + 3 * y + 2 * z + np.random.default_rng(seed).normal(0, 5, SIZE)
    return ((image - image.min()) / np.ptp(image)).astype(np.float32)


def make(
    folder: Path, subjects: Sequence[str] = SUBJECTS, slice_axes: int = 3, slice_affine: np.ndarray = AFFINE
) -> Path:
    """``SUBJECT/`` with all files that are read, for all variants.

    slice_axes: 3 stores slices as (X, Y, 1), as the real ones are, 2 as (X, Y). slice_affine: (4, 4) of their headers.
    """
    for subject in subjects:
        place, image = folder / subject, brain_image(int(subject.split("_")[2]))
        place.mkdir(parents=True, exist_ok=True)
        volumes = {"norm": image, "seg35": brain_label(35), "seg4": brain_label(4)}
        slices = {"norm": image, "seg24": brain_label(24), "seg4": brain_label(4)}
        for name, volume in volumes.items():
            nib.save(nib.Nifti1Image(volume, AFFINE), place / f"aligned_{name}.nii.gz")
        for name, volume in slices.items():
            plane = volume[:, :, SLICE : SLICE + 1] if slice_axes == 3 else volume[:, :, SLICE]
            nib.save(nib.Nifti1Image(plane, slice_affine), place / f"slice_{name}.nii.gz")
    (folder / "subjects.txt").write_text("".join(f"{subject}\n" for subject in subjects))
    return folder


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    make(parser.parse_args().folder)
