"""``deepatlas segment`` on scans of any grid."""

import csv

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from deepatlas_tf.apply import segment as segment_module
from deepatlas_tf.cli import main
from deepatlas_tf.models.build import load_net
from deepatlas_tf.runs.folder import net_path
from deepatlas_tf.runs.predict import labeller
from deepatlas_tf.scans.intensity import rescale


def labels_of(path):
    return np.asarray(nib.load(path).dataobj)


def segment(*arguments):
    return main(["segment", *map(str, arguments)])


def test_on_the_grid_of_training_it_is_what_evaluation_measures(run_folder, scans, tmp_path):
    assert segment(scans["training"], "--model", run_folder, "-o", tmp_path / "out", "-q") == 0
    net = load_net(net_path(run_folder, "deepatlas", "segmentation"))
    expected = labeller(net)(rescale(labels_of(scans["training"]))[..., None])
    found = labels_of(tmp_path / "out" / "training.nii.gz")
    assert len(np.unique(expected)) == 3 and (found != expected).mean() < 1e-3  # two ways to the same float32


def test_each_label_map_lies_on_its_scan(run_folder, scans, tmp_path, capsys):
    out = tmp_path / "out"
    assert segment(*scans.values(), "--model", run_folder, "--probabilities", "-o", out) == 0
    assert "4 label maps" in capsys.readouterr().out
    for name, scan in scans.items():
        image, label = nib.load(scan), nib.load(out / scan.name)
        probabilities = nib.load(out / f"{name}_probabilities.nii.gz")
        np.testing.assert_array_equal(label.affine, image.affine)
        assert label.shape == image.shape and label.get_data_dtype() == np.uint8
        for code in ("sform_code", "xyzt_units"):
            assert label.header[code] == image.header[code]
        assert label.header["qform_code"] == label.header["sform_code"] > 0  # one place, by either form
        ours, theirs = sitk.ReadImage(str(out / scan.name)), sitk.ReadImage(str(scan))
        for geometry in ("GetOrigin", "GetSpacing", "GetDirection", "GetSize"):
            np.testing.assert_allclose(getattr(ours, geometry)(), getattr(theirs, geometry)(), atol=1e-5)
        values = np.asarray(probabilities.dataobj)
        assert probabilities.shape == (*image.shape, 3) and probabilities.get_data_dtype() == np.float32
        np.testing.assert_allclose(values.sum(axis=-1), 1, atol=1e-5)
        np.testing.assert_array_equal(values.argmax(axis=-1), labels_of(out / scan.name))


def test_the_same_scan_stored_otherwise_gets_the_same_labels(run_folder, scans, tmp_path, write_nifti):
    image = nib.load(scans["flipped"])
    volume = np.asarray(image.dataobj)[:, ::-1].transpose(2, 0, 1)
    to_old = np.array([[0, 1, 0, 0], [0, 0, -1, 39], [1, 0, 0, 0], [0, 0, 0, 1]])  # new voxel -> old voxel
    other = write_nifti(tmp_path / "scans" / "stored_otherwise.nii", volume, image.affine @ to_old)
    assert segment(scans["flipped"], other, "--model", run_folder, "-o", tmp_path / "out", "-q") == 0
    one, two = (labels_of(tmp_path / "out" / path.name) for path in (scans["flipped"], other))
    np.testing.assert_array_equal(two, one[:, ::-1].transpose(2, 0, 1))


def test_volumes_are_millilitres(run_folder, scans, tmp_path):
    out = tmp_path / "out"
    assert segment(scans["oblique"].parent, "--model", run_folder, "-o", out, "-q") == 0
    rows = {row["scan"]: row for row in csv.DictReader((out / "volumes.csv").open())}
    assert list(rows) == sorted(path.name for path in scans.values())
    statistics = sitk.LabelShapeStatisticsImageFilter()
    for name, row in rows.items():
        statistics.Execute(sitk.ReadImage(str(out / name)))
        for number, column in ((1, "femur_ml"), (2, "tibia_ml")):
            expected = statistics.GetPhysicalSize(number) / 1000 if statistics.HasLabel(number) else 0
            assert float(row[column]) == pytest.approx(expected, rel=1e-4)
    assert (out / "labels.csv").read_text() == "label,name\n0,background\n1,femur\n2,tibia\n"


def test_a_large_scan_in_tiles_is_labelled_whole(run_folder, tmp_path, write_nifti, monkeypatch):
    monkeypatch.setattr(segment_module.apply_in_tiles, "__defaults__", (80 * 30 * 30,))
    volume = np.random.default_rng(0).random((150, 30, 30)).astype(np.float32)
    scan = write_nifti(tmp_path / "scans" / "long.nii.gz", volume, np.diag([2, 2.5, 2, 1.0]))
    assert segment(scan, "--model", run_folder, "-o", tmp_path / "out", "--probabilities", "-q") == 0
    values = np.asarray(nib.load(tmp_path / "out" / "long_probabilities.nii.gz").dataobj)
    assert values.shape == (150, 30, 30, 3)
    np.testing.assert_allclose(values.sum(axis=-1), 1, atol=1e-5)


def test_a_bad_scan_does_not_stop_the_others(run_folder, scans, tmp_path, capsys):
    scans["flipped"].write_bytes(scans["flipped"].read_bytes()[:900])
    assert segment(scans["flipped"].parent, "--model", run_folder, "-o", tmp_path / "out", "-q") == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: subject flipped: cannot read") and "\n" not in error
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        *("oblique.nii.gz", "permuted.nii.gz", "training.nii.gz", "volumes.csv", "labels.csv")
    }


def test_nothing_is_overwritten_unless_asked(run_folder, scans, tmp_path, capsys):
    arguments = (scans["training"], "--model", run_folder, "-o", tmp_path / "out", "-q")
    assert segment(*arguments) == 0
    before = (tmp_path / "out" / "training.nii.gz").stat().st_mtime_ns
    assert segment(*arguments) == 1
    assert "pass --overwrite" in capsys.readouterr().err
    assert (tmp_path / "out" / "training.nii.gz").stat().st_mtime_ns == before
    assert segment(*arguments, "--overwrite") == 0
    assert segment(scans["training"], "--model", run_folder, "-o", scans["training"].parent, "--overwrite") == 1
    assert "is an input" in capsys.readouterr().err


def test_a_result_is_whole_or_not_there(run_folder, scans, tmp_path, monkeypatch):
    def write_half(image, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nib, "save", write_half)
    assert segment(scans["training"], "--model", run_folder, "-o", tmp_path / "out", "-q") == 1
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["labels.csv"]


@pytest.mark.parametrize(
    ("scan", "options", "status", "hint"),
    [
        ("nowhere.nii.gz", [], 1, "there is no file"),
        ("scans/x.dcm", [], 1, "convert it to NIfTI"),
        ("empty", [], 1, "holds no scan"),
        ("scans", ["--model", "empty"], 1, "neither the folder of a run"),
        ("scans", ["--model", "unfinished"], 1, "model.json"),
        ("scans", ["--stage", "deepatlsa"], 2, "first, deepatlas"),
        ("scans", ["--model", "registration"], 1, "no finished segmentation network"),
    ],
)
def test_a_wrong_call_is_one_line(scan, options, status, hint, run_folder, scans, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("empty", "unfinished"):
        (tmp_path / name).mkdir()
    (tmp_path / "unfinished" / "experiment.json").write_text("{}")
    (tmp_path / "registration").mkdir()
    for name in ("experiment.json", "model.json"):
        (tmp_path / "registration" / name).write_text((run_folder / name).read_text())
    monkeypatch.setattr("deepatlas_tf.runs.model.net_path", net_path)
    if scan.endswith(".dcm"):
        (tmp_path / scan).touch()
    assert segment(scan, "--model", run_folder, *options, "-o", "out") == status
    error = capsys.readouterr().err.strip()
    assert hint in error and error.startswith("error: ") and "\n" not in error
