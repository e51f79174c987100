"""Small scans of one's own, listed in a CSV."""

import csv
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def own_scans(tmp_path, write_nifti):
    """make(n=6, shape=(10, 9, 8), unlabelled=(), columns={}) -> the CSV of scans s0, s1, ... with labels 0, 3 and 7.

    ``columns``: name -> cells of a further column.
    """

    def make(n: int = 6, shape=(10, 9, 8), unlabelled=(), columns=None) -> Path:
        columns = columns or {}
        folder = tmp_path / "scans"
        rows = [["subject", "image", "label", *columns]]
        for k in range(n):
            rng = np.random.default_rng(k)
            image, label = f"images/s{k}.nii.gz", f"labels/s{k}.nii.gz"
            write_nifti(folder / image, rng.gamma(2, 100, shape).astype(np.float32))
            if k in unlabelled:
                label = ""
            else:
                write_nifti(folder / label, rng.choice([0, 3, 7], shape).astype(np.uint8))
            rows.append([f"s{k}", image, label, *(cells[k] for cells in columns.values())])
        with open(folder / "scans.csv", "w", newline="") as file:
            csv.writer(file).writerows(rows)
        return folder / "scans.csv"

    return make


@pytest.fixture
def two_channels(own_scans, write_nifti):
    """make(n=6, shape=(10, 9, 8)) -> the CSV of ``own_scans`` with the channels t1, their image, and t2."""

    def make(n: int = 6, shape=(10, 9, 8)) -> Path:
        path = own_scans(n, shape, columns={"image_t2": [f"images/s{k}_t2.nii.gz" for k in range(n)]})
        for k in range(n):
            volume = np.random.default_rng(100 + k).gamma(2, 3, shape).astype(np.float32)
            write_nifti(path.parent / "images" / f"s{k}_t2.nii.gz", volume)
        path.write_text(path.read_text().replace("subject,image,", "subject,image_t1,"))
        return path

    return make
