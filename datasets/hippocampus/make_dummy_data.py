"""Makes small synthetic scans in the layout of Task04_Hippocampus, for the tests.

python -m deepatlas_tf.datasets.hippocampus.make_dummy_data FOLDER
"""

import argparse
import tarfile
from pathlib import Path

import nibabel as nib
import numpy as np


def make_folder(folder: Path, n_subjects: int = 8) -> Path:
    """``folder/Task04_Hippocampus``: crops of different sizes, an anterior and a posterior box, 1 mm; returns it."""
    root = folder / "Task04_Hippocampus"
    for number in range(1, n_subjects + 1):
        rng = np.random.default_rng(number)
        shape = tuple(rng.integers(10, 15, 3))
        label = np.zeros(shape, np.uint8)
        label[3:7, 2:5, 3:7], label[3:7, 5:9, 3:7] = 2, 1
        image = (80 + 40 * label + rng.normal(0, 10, shape)).astype(np.float32)
        for part, volume in (("imagesTr", image), ("labelsTr", label)):
            (root / part).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(volume, np.eye(4)), root / part / f"hippocampus_{number:03d}.nii.gz")
            (root / part / f"._hippocampus_{number:03d}.nii.gz").write_bytes(b"macOS")  # the published tar has them too
    return root


def make_tar(folder: Path, n_subjects: int = 8) -> Path:
    """``folder/Task04_Hippocampus.tar``; returns its path."""
    root = make_folder(folder / "unpacked", n_subjects)
    path = folder / "Task04_Hippocampus.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(root, root.name)
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    make_folder(parser.parse_args().folder)
