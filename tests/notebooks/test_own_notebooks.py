"""The notebooks that need no other one, executed as a user would with few steps."""

import csv
import json
import re

import nibabel as nib
import numpy as np
import pytest


@pytest.mark.long
def test_own_scans_are_segmented_and_registered_on_their_own_grids(executed, folder):
    cells = executed("02_your_own_scans")
    assert "no anomalies" in cells.printed("!deepatlas data validate").lower()
    moving, fixed = (nib.load(folder / "new" / f"new{seed}.nii.gz") for seed in (20, 21))
    (volumes,) = cells.tables()
    for name, scan in (("new20.nii.gz", moving), ("new21.nii.gz", fixed)):
        label = nib.load(folder / "segmented" / name)
        assert (
            label.shape == scan.shape and np.allclose(label.affine, scan.affine) and label.get_data_dtype().kind in "iu"
        )
        counts = np.bincount(np.asarray(label.dataobj).ravel(), minlength=5)[1:]
        np.testing.assert_allclose([float(ml) for ml in volumes[name]], counts * 6 * 6 * 7 / 1000, rtol=1e-4)
    for name in ("warped", "warped_labels", "jacobian"):
        result = nib.load(folder / "registered" / f"{name}.nii.gz")
        assert result.shape == fixed.shape and np.allclose(result.affine, fixed.affine)
    with (folder / "scans" / "scans.csv").open() as file:
        assert sum(not row["label"] for row in csv.DictReader(file)) == 6
    assert len(cells.shown("image/png")) == 1


@pytest.mark.long
def test_one_shot_compares_four_methods_with_one_label(executed, folder):
    cells = executed("03_one_shot")
    run = folder / "runs/one_shot"
    assert json.loads((run / "experiment.json").read_text())["experiment"]["data"]["labels"] == 1
    (methods,) = cells.tables()
    stages = ["segmentation_baseline", "registration_unsupervised", "semi_deepatlas", "deepatlas"]
    assert list(methods) == ["identity", *stages]
    comparison = cells.printed("!deepatlas compare")
    for pair in ("segmentation_baseline - deepatlas", "semi_deepatlas - deepatlas", "identity - deepatlas"):
        assert re.search(rf"^  {pair}: [+-]\d\.\d{{4}}  p \S+  q \S+  \(Wilcoxon, n = \d+\)", comparison, re.MULTILINE)
    assert len(cells.shown("image/png")) == 2


@pytest.mark.long
def test_a_method_is_fitted_on_pairs_of_ones_own(executed):
    cells = executed("05_own_tf_data")
    lines = cells.printed("not registered").splitlines()
    assert [line.partition(":")[0] for line in lines] == ["not registered", "registered", "segmented"]
