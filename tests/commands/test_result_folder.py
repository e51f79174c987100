"""What ``segment`` and ``register`` leave in OUT over several calls, and where a call fails."""

import csv

import nibabel as nib
import numpy as np
import pytest

from deepatlas_tf.cli import main
from deepatlas_tf.runs.model import TrainedModel

GRID = np.diag([2.0, 2.5, 2.0, 1.0])


def segment(*arguments):
    return main(["segment", *map(str, arguments)])


def table(out):
    with (out / "volumes.csv").open() as file:
        return {row["scan"]: row["femur_ml"] for row in csv.DictReader(file)}


@pytest.mark.slow
def test_a_batch_is_completed_scan_by_scan(run_folder, scans, tmp_path, capsys):
    out, arguments = tmp_path / "out", ("--model", run_folder, "-o", tmp_path / "out")
    whole = scans["flipped"].read_bytes()
    scans["flipped"].write_bytes(whole[:900])
    assert segment(scans["flipped"], scans["training"], *arguments) == 1
    assert f"1 label map, volumes.csv and labels.csv in {out}" in capsys.readouterr().out
    before, written = table(out), (out / "training.nii.gz").stat().st_mtime_ns
    scans["flipped"].write_bytes(whole)
    assert segment(scans["flipped"], *arguments) == 0  # without --overwrite: nothing that is there is replaced
    both = table(out)
    assert list(both) == ["training.nii.gz", "flipped.nii.gz"] and before.items() <= both.items()
    assert segment(scans["flipped"], *arguments) == 1 and "flipped.nii.gz exists" in capsys.readouterr().err
    assert segment(scans["flipped"], *arguments, "--overwrite") == 0
    assert table(out) == both and (out / "training.nii.gz").stat().st_mtime_ns == written
    (out / "volumes.csv").write_text("scan,liver_ml\nx.nii.gz,1\n")
    assert segment(scans["oblique"], *arguments, "--overwrite") == 1
    assert "volumes.csv has other columns than this model's" in capsys.readouterr().err
    assert not (out / "oblique.nii.gz").exists()


def test_where_all_scans_fail_no_folder_is_left(run_folder, scans, tmp_path):
    scans["flipped"].write_bytes(scans["flipped"].read_bytes()[:900])
    assert segment(scans["flipped"], "--model", run_folder, "-o", tmp_path / "a" / "out", "-q") == 1
    assert not (tmp_path / "a").exists()


@pytest.mark.slow
def test_a_scan_without_a_channel_does_not_stop_the_others(two_channel_run, tmp_path, write_nifti, capsys):
    rng = np.random.default_rng(0)
    for name in ("a_0000", "b_0000", "b_0001"):
        write_nifti(tmp_path / "scans" / f"{name}.nii.gz", rng.random((24, 24, 24)).astype(np.float32), GRID)
    out = tmp_path / "out"
    assert segment(tmp_path / "scans", "--model", two_channel_run, "-o", out, "-q") == 1
    error = capsys.readouterr().err.strip()
    assert error == f"error: {tmp_path / 'scans' / 'a'}: channel t2 is missing: there is no a_0001.nii.gz"
    assert {path.name for path in out.iterdir()} == {"b.nii.gz", "volumes.csv", "labels.csv"}


def test_labels_on_another_grid_are_told_before_the_network_is_read(
    run_folder, scans, tmp_path, write_nifti, monkeypatch, capsys
):
    image = nib.load(scans["flipped"])
    coarse = write_nifti(tmp_path / "l.nii.gz", np.ones([n // 2 for n in image.shape], np.uint8), image.affine)
    monkeypatch.setattr(TrainedModel, "net", None)
    call = ["register", scans["flipped"], scans["training"], "--moving-labels", coarse, "--model", run_folder]
    assert main([*map(str, call), "-o", str(tmp_path / "out")]) == 1
    assert "must be on one grid" in capsys.readouterr().err and not (tmp_path / "out").exists()
