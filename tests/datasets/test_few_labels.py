"""Own scans with fewer label maps than a validation and a test split take: trained on all, measured where it can be."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from deepatlas_tf.cli import main
from deepatlas_tf.datasets.listing import ListedScan
from deepatlas_tf.datasets.load import load_dataset
from deepatlas_tf.datasets.splits import split_listed
from deepatlas_tf.keras_stack import tf
from deepatlas_tf.models.build import load_net
from deepatlas_tf.runs.folder import RunFolder

SIZES = [(1, (1, 0, 0)), (3, (3, 0, 0)), (4, (3, 0, 1)), (5, (4, 0, 1)), (6, (4, 1, 1)), (7, (5, 1, 1)), (8, (4, 2, 2))]


@pytest.mark.parametrize(("n", "sizes"), [(0, (0, 0, 0)), *SIZES, (60, (42, 6, 12))])
def test_sizes_of_the_splits(n, sizes):
    rows = [ListedScan(f"s{k}", Path("i"), Path("l"), "", "", (), "") for k in range(n)]
    splits = split_listed(rows)
    assert tuple(map(len, splits.values())) == sizes and set(sum(splits.values(), [])) == {row.subject for row in rows}
    given = [row._replace(split="test") for row in rows[:2]]
    if n > 5:
        assert split_listed([*given, *rows[2:]])["test"] == ["s0", "s1"]


@pytest.mark.parametrize("split", [["train"] * 5, [*["train"] * 4, "test"]], ids=["train", "train and test"])
def test_splits_that_are_given_need_no_validation_and_no_test_subjects(tmp_path, own_scans, split):
    path = own_scans(n=5, columns={"split": split})
    data = load_dataset("nifti", data_dir=path, workdir=tmp_path, shape=(8, 8, 8), spacing=(1, 1, 1))
    assert {name: len(ids) for name, ids in data.subjects.items()} == {
        name: split.count(name) for name in ("train", "validation", "test")
    }


@pytest.mark.long
def test_two_label_maps_are_trained_on_and_nothing_is_measured(tmp_path, own_scans, capsys):
    """The networks are those of the last epoch; what cannot be measured is said in one line before training."""
    path, work = own_scans(n=4, shape=(14, 13), unlabelled=(1, 3)), tmp_path / "work"
    arguments = ["train", "--dataset", "nifti", "--data-dir", str(path), "--workdir", str(work), "--tiny"]
    assert main([*arguments, "--method", "segmentation"]) == 0
    printed = capsys.readouterr().out
    assert "4 training subjects, 2 with a label map" in printed
    (line,) = [line for line in printed.splitlines() if line.startswith("too few label maps")]
    assert line.endswith("to measure: the last networks are kept; train --folds 2 tests each labelled scan once")
    stage = RunFolder(work).stage("segmentation_baseline")
    assert len(stage.metrics()) == 2 and not any(name.startswith("val_") for name in stage.metrics()[-1])
    kept = load_net(stage.net("segmentation")).get_weights()
    checkpoint = tf.train.load_checkpoint(str(stage.latest_checkpoint()))
    variables = {name: checkpoint.get_tensor(name) for name in checkpoint.get_variable_to_shape_map()}
    newest = [value for name, value in variables.items() if name.startswith("nets/segmentation/")]
    assert all(any(np.array_equal(weight, value) for value in newest) for weight in kept)
    assert {path.name for path in (work / "figures").iterdir()} == {"training_curves.png"}
    assert not (work / "evaluation").exists()
    assert main(["evaluate", str(work)]) == 1 and "no subject of the test split" in capsys.readouterr().err
    assert main(["report", str(work)]) == 0 and "There are no test subjects" in (work / "report.html").read_text()
    assert RunFolder(work).model()["class_numbers"] == [0, 3, 7]  # of the label files
    scan, out = path.parent / "images" / "s0.nii.gz", tmp_path / "segmented"
    assert main(["segment", str(scan), "--model", str(work), "-o", str(out), "-q"]) == 0
    assert (out / "labels.csv").read_text() == "label,name\n0,background\n3,class_3\n7,class_7\n"
    assert {3, 7} & set(np.unique(nib.load(out / "s0.nii.gz").dataobj))


@pytest.mark.slow
def test_one_scan_trains_a_segmentation_network(tmp_path, own_scans, capsys):
    path, work = own_scans(n=1, shape=(14, 13)), tmp_path / "work"
    arguments = ["train", "--dataset", "nifti", "--data-dir", str(path), "--workdir", str(work), "--tiny"]
    assert main(arguments) == 0
    assert "makes no pair: left out registration_unsupervised, registration_weak, semi" in capsys.readouterr().out
    assert RunFolder(work).stage("segmentation_baseline").is_finished
    assert main([*arguments[:-2], str(tmp_path / "other"), "--tiny", "--method", "voxelmorph"]) == 1
    assert "one training subject, and registration_unsupervised" in capsys.readouterr().err


@pytest.mark.long
def test_one_test_subject_has_no_pair_which_is_said(tmp_path, own_scans, capsys):
    path, work = own_scans(n=4, shape=(14, 13)), tmp_path / "work"
    arguments = ["train", "--dataset", "nifti", "--data-dir", str(path), "--workdir", str(work), "--tiny"]
    assert main([*arguments, "--method", "voxelmorph"]) == 0
    printed = capsys.readouterr().out
    assert (
        "too few label maps to measure registration: the last networks are kept; train --folds 2 tests each" in printed
    )
    assert "one test subject alone: registration is not measured, which takes a pair" in printed
