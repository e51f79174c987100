"""The command line as a user meets it: what it prints, what it leaves, how it fails."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest

from deepatlas_tf.cli import main
from deepatlas_tf.experiments import get_experiment
from deepatlas_tf.training.experiment import set_value
from deepatlas_tf.training.loop import write_settings

METHODS = ["segmentation_baseline", "registration_unsupervised", "registration_weak", "semi_deepatlas", "deepatlas"]
PHANTOM_2D = ["--set", "data.shape=(24, 24)", "--set", "data.spacing=(5, 5)"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Where the 2D phantom is kept: it is prepared once."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def work(data, tmp_path_factory):
    """A tiny run of the default recipe on the 2D phantom."""
    folder = tmp_path_factory.mktemp("run") / "work"
    assert main(["train", "--tiny", "--data_dir", str(data), "--workdir", str(folder), *PHANTOM_2D]) == 0
    return folder


def _rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_run_leaves_what_is_promised(work):
    for stage in METHODS:
        assert (work / stage / "metrics.jsonl").read_text().count("\n") == 2
        assert list((work / stage / "checkpoints").glob("epoch-*"))
        assert list((work / stage / "nets").glob("*.keras"))
    assert {p.name for p in (work / "deepatlas" / "nets").iterdir()} == {"registration.keras", "segmentation.keras"}
    assert len(list((work / "figures").glob("*.png"))) == 9
    assert list((work / "tensorboard").iterdir())
    segmentation = _rows(work / "evaluation" / "segmentation.csv")
    registration = _rows(work / "evaluation" / "registration.csv")
    assert list(segmentation[0]) == ["method", "subject", "class", "dice", "hd95_mm", "assd_mm", "hausdorff_mm"]
    columns = ["method", "moving", "fixed", "class", "dice", "hd95_mm", "assd_mm", "folds_percent", "sdlogj"]
    assert list(registration[0]) == [*columns, "hausdorff_mm"]
    assert {row["method"] for row in segmentation} == {"segmentation_baseline", "deepatlas"}
    assert {row["method"] for row in registration} == {"identity", *METHODS[1:]}
    assert all(row["moving"] != row["fixed"] for row in registration)


@pytest.mark.slow
def test_the_summary_is_the_mean_of_the_rows(work):
    summary = json.loads((work / "evaluation" / "summary.json").read_text())
    rows = _rows(work / "evaluation" / "registration.csv")
    dice = [float(r["dice"]) for r in rows if r["method"] == "identity" and r["class"] == "femur"]
    assert summary["identity"]["registration"]["dice"]["per_class"]["femur"] == pytest.approx(np.mean(dice), rel=1e-4)
    folds = [float(r["folds_percent"]) for r in rows if r["method"] == "deepatlas"]
    assert summary["deepatlas"]["registration"]["folds_percent"]["mean"] == pytest.approx(np.mean(folds), abs=1e-6)
    assert set(summary["deepatlas"]) == {"segmentation", "registration"}


@pytest.mark.slow
def test_evaluate_measures_again(work, data, capsys):
    summary = work / "evaluation" / "summary.json"
    before = json.loads(summary.read_text())
    summary.unlink()
    assert main(["evaluate", str(work), "--split", "test", "--data-dir", str(data)]) == 0
    printed = capsys.readouterr().out
    assert json.loads(summary.read_text()) == before
    assert "phantom_knee (synthetic), test split" in printed
    assert all(method in printed for method in ["identity", *METHODS])
    assert str(work / "figures" / "registration.png") in printed


@pytest.mark.slow
def test_a_network_is_trained_on_scans_of_the_decathlon(write_scans, tmp_path, capsys):
    """Small random scans, through TFDS, as a user would call it. Every stage on NIfTI scans: notebooks."""
    scans = write_scans(tmp_path / "Task04_Hippocampus", [f"hippocampus_{i:03d}" for i in range(12)])
    arguments = ["train", "--dataset", "hippocampus", "--manual_dir", str(scans.parent), "--labels", "3", "--tiny"]
    arguments += ["--method", "segmentation"]
    arguments += ["--set", "data.shape=(16, 16, 16)", "--data-dir", str(tmp_path / "data")]
    assert main([*arguments, "--workdir", str(tmp_path / "work")]) == 0
    assert "training subjects, 3 with a label map" in capsys.readouterr().out
    rows = _rows(tmp_path / "work" / "evaluation" / "segmentation.csv")
    assert {row["class"] for row in rows} == {"anterior", "posterior"}


def test_one_method_alone(tmp_path, data):
    arguments = ["train", "--tiny", "--method", "segmentation", "--data-dir", str(data), *PHANTOM_2D]
    assert main([*arguments, "--workdir", str(tmp_path / "work")]) == 0
    assert {p.name for p in (tmp_path / "work").iterdir() if (p / "nets").exists()} == {"segmentation_baseline"}
    assert not (tmp_path / "work" / "figures" / "registration.png").exists()


def test_missing_knees_say_what_to_get(tmp_path):
    """In a process of its own: its status and its text."""
    command = [sys.executable, "-m", "deepatlas_tf.train", "--dataset", "oai_knee"]
    command += ["--data-dir", str(tmp_path), "--workdir", str(tmp_path / "work")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    for hint in ("nda.nih.gov", "OAIZIB-CM", "imagesTr/oaizib_NNN_0000.nii.gz", "--dataset phantom_knee"):
        assert hint in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "hint"),
    [
        (["train", "--dataset", "hipocampus"], 2, "hippocampus"),
        (["train", "--set", "data.lables=3"], 2, "labels"),
        (["train", "--method", "voxelmorf"], 2, "voxelmorph"),
        (["train", "--tiny", "--labels", "99"], 1, "99"),
        (["evaluate", "nowhere"], 1, "experiment.json"),
    ],
)
def test_a_wrong_call_is_one_line(arguments, status, hint, tmp_path, capsys, monkeypatch, data):
    monkeypatch.chdir(tmp_path)
    extra = ["--data-dir", str(data)]
    assert main([*arguments, *extra]) == status
    error = capsys.readouterr().err.strip()
    assert hint in error and error.startswith("error: ") and "\n" not in error


def test_an_unfinished_run_says_so(tmp_path, data, capsys):
    experiment = get_experiment("phantom_knee", tiny=True)
    for assignment in PHANTOM_2D[1::2]:
        experiment = set_value(experiment, assignment)
    write_settings(experiment, tmp_path)
    assert main(["evaluate", str(tmp_path), "--data-dir", str(data)]) == 1
    assert "no stage of this run is finished" in capsys.readouterr().err


def test_help_is_fast_and_has_examples():
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "deepatlas_tf", "train", "--help"], capture_output=True, text=True
    )
    assert result.returncode == 0 and "--steps-scale" in result.stdout and "examples:" in result.stdout
    assert "tensorflow" not in result.stderr
