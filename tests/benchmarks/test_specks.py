"""benchmarks/specks.py on a tiny run: the label maps as they are predicted, and cleaned."""

import csv
import importlib
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import deepatlas_tf
from deepatlas_tf.cli import main
from deepatlas_tf.phantoms.knee import draw

ROOT = Path(__file__).parents[2]


@pytest.fixture
def specks(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("specks")


def test_means_over_scans(specks):
    rows = [{"share": s, "dice": s + k, "hd95_mm": 2.0 * k} for k in (0, 1) for s in (0.0, 0.5)]
    assert specks.means(rows) == {0.0: (0.5, 1.0), 0.5: (1.0, 1.0)}


@pytest.mark.long
def test_a_tiny_run_is_measured(specks, tmp_path, monkeypatch):
    """Synthetic slices of 2 mm, on a grid of 6 mm for the other stages."""
    rows = [["subject", "image", "label", "split"]]
    for k, split in enumerate(["train"] * 3 + ["validation", "test"]):
        phantom = draw(k, (40, 48), (2.0, 2.0), "t1")
        for name, volume in (("image", (1000 * phantom.image).astype(np.int16)), ("label", phantom.label)):
            nib.save(nib.Nifti1Image(volume.astype(np.int16), np.diag([2.0, 2, 1, 1])), tmp_path / f"{k}_{name}.nii")
        rows.append([f"k{k}", f"{k}_image.nii", f"{k}_label.nii", split])
    with open(tmp_path / "scans.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    work, grid = tmp_path / "work", ["--set", "data.shape=(16, 16)", "--set", "data.spacing=(6, 6)"]
    options = ["--dataset", "nifti", "--data-dir", str(tmp_path / "scans.csv"), "--method", "segmentation", *grid]
    assert main(["train", *options, "--full-resolution", "--tiny", "--workdir", str(work)]) == 0
    monkeypatch.setattr("sys.argv", ["specks.py", str(work), "tiny", "--results", str(tmp_path)])
    specks.main()
    found = json.loads((tmp_path / "tiny.json").read_text())["rows"]
    assert [row["share"] for row in found] == list(specks.SHARES) and {row["subject"] for row in found} == {"k4"}
    label = np.asarray(deepatlas_tf.Run(work).segment(tmp_path / "4_image.nii").dataobj).squeeze()
    true = np.asarray(nib.load(tmp_path / "4_label.nii").dataobj).squeeze()
    parts = [[np.sum((label == c) & (true == c)), np.sum(label == c) + np.sum(true == c)] for c in range(1, 5)]
    by_hand = np.mean([2 * both / total for both, total in parts if total])
    cleaned = next(row["dice"] for row in found if row["share"] == specks.SPECK)
    assert cleaned == pytest.approx(by_hand, abs=1e-3)
