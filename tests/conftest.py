"""Small NIfTI files for the tests that read scans, the folder of real scans, and the order of the files of tests."""

import collections
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


def pytest_collection_modifyitems(items):
    """Files with many slow tests come first, so that at the end no process waits for another one's."""
    marked = (item for item in items if item.get_closest_marker("slow") or item.get_closest_marker("long"))
    slow = collections.Counter(item.path for item in marked)
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture
def real_data() -> Path:
    """The folder of real scans: DEEPATLAS_TEST_DATA, by default ../shared/data from the project's root."""
    folder = Path(os.environ.get("DEEPATLAS_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"DEEPATLAS_TEST_DATA: no folder {folder}")
    return folder


@pytest.fixture
def write_nifti():
    """write(path, volume, affine=identity) -> path; makes the folders."""

    def write(path: Path, volume: np.ndarray, affine: np.ndarray | None = None) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(volume, np.eye(4) if affine is None else affine), path)
        return path

    return write


@pytest.fixture
def write_scans(write_nifti):
    """write(folder, ids, unlabelled=()) -> folder: small random scans in the layout of Task04_Hippocampus."""

    def write(folder: Path, ids, unlabelled=()) -> Path:
        for seed, subject in enumerate(ids):
            rng = np.random.default_rng(seed)
            shape = tuple(rng.integers(10, 15, 3))
            write_nifti(folder / "imagesTr" / f"{subject}.nii.gz", rng.gamma(2, 100, shape).astype(np.float32))
            if subject not in unlabelled:
                label = rng.integers(0, 3, shape).astype(np.uint8)
                write_nifti(folder / "labelsTr" / f"{subject}.nii.gz", label)
        return folder

    return write
