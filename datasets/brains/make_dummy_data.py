"""Makes small synthetic scans in the layout of ``brains``, for the tests.

python -m deepatlas_tf.datasets.brains.make_dummy_data FOLDER
"""

import argparse
from pathlib import Path

import nibabel as nib
import numpy as np

NUMBERS = (4, 35, 59, 60, 100, 207)  # 4 is in no class; left and right thalamus; two of the cortex
AFFINE = np.diag([-1.0, 1.0, 1.0, 1.0])  # the first axis leads to the left, as in the real ones


def make_folder(folder: Path, n_subjects: int = 8) -> Path:
    """``folder/brains`` with cubes of 12 voxels of 1 mm: a slab of two voxels along x for each number; returns it."""
    root = folder / "brains"
    root.mkdir(parents=True)
    label = np.repeat(np.array(NUMBERS, np.int16), 2)[:, None, None] * np.ones((1, 12, 12), np.int16)
    for number in range(n_subjects):
        image = (label + np.random.default_rng(number).normal(0, 10, label.shape)).astype(np.float32)
        for end, volume in (("t1", image), ("labels", label)):
            nib.save(nib.Nifti1Image(volume, AFFINE), root / f"{1000 + number}_{end}.nii.gz")
    lines = ["Label Number,Label Name", *(f"{number},synthetic" for number in NUMBERS)]
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    make_folder(parser.parse_args().folder)
