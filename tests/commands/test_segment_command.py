"""``deepatlas segment`` on scans of any grid."""

import csv
import json
import shutil

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from deepatlas_tf.apply.segment import segment_files
from deepatlas_tf.cli import main
from deepatlas_tf.models.build import load_net
from deepatlas_tf.runs.folder import net_path
from deepatlas_tf.runs.predict import labeller
from deepatlas_tf.scans import nifti
from deepatlas_tf.scans.components import keep_largest
from deepatlas_tf.scans.intensity import rescale


def labels_of(path):
    return np.asarray(nib.load(path).dataobj)


def segment(*arguments):
    return main(["segment", *map(str, arguments)])


@pytest.mark.slow
def test_on_the_grid_of_training_it_is_what_evaluation_measures(run_folder, scans, tmp_path):
    assert segment(scans["training"], "--model", run_folder, "-o", tmp_path / "out", "-q") == 0
    net = load_net(net_path(run_folder, "deepatlas", "segmentation"))
    expected = labeller(net)(rescale(labels_of(scans["training"]))[..., None])
    found = labels_of(tmp_path / "out" / "training.nii.gz")
    assert len(np.unique(expected)) == 3 and (found != expected).mean() < 1e-3  # two ways to the same float32


@pytest.mark.slow
def test_each_label_map_lies_on_its_scan(run_folder, scans, tmp_path, capsys):
    out = tmp_path / "out"
    assert segment(*scans.values(), "--model", run_folder, "--probabilities", "-o", out) == 0
    assert f"4 label maps, 4 files of probabilities, volumes.csv and labels.csv in {out}" in capsys.readouterr().out
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


@pytest.mark.slow
def test_the_same_scan_stored_otherwise_gets_the_same_labels(run_folder, scans, tmp_path, write_nifti):
    image = nib.load(scans["flipped"])
    volume = np.asarray(image.dataobj)[:, ::-1].transpose(2, 0, 1)
    to_old = np.array([[0, 1, 0, 0], [0, 0, -1, 39], [1, 0, 0, 0], [0, 0, 0, 1]])  # new voxel -> old voxel
    other = write_nifti(tmp_path / "scans" / "stored_otherwise.nii", volume, image.affine @ to_old)
    assert segment(scans["flipped"], other, "--model", run_folder, "-o", tmp_path / "out", "-q") == 0
    one, two = (labels_of(tmp_path / "out" / path.name) for path in (scans["flipped"], other))
    np.testing.assert_array_equal(two, one[:, ::-1].transpose(2, 0, 1))


@pytest.mark.slow
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


@pytest.mark.slow
def test_label_maps_have_the_numbers_of_the_training_files(run_folder, scans, tmp_path):
    """Where the run recorded them; one of an earlier version gives 1, 2, ... Volumes and probabilities are the same."""
    run = tmp_path / "run"
    shutil.copytree(run_folder, run)
    about = json.loads((run / "model.json").read_text())
    (run / "model.json").write_text(json.dumps({**about, "class_numbers": [0, 17, 70000]}))
    arguments = (scans["oblique"], "--probabilities", "-q", "--model")
    for model, out in ((run_folder, tmp_path / "before"), (run, tmp_path / "now")):
        assert segment(*arguments, model, "-o", out) == 0
    before, now = (labels_of(tmp_path / name / "oblique.nii.gz") for name in ("before", "now"))
    assert set(np.unique(before)) == {0, 1, 2} and now.dtype == np.int32
    np.testing.assert_array_equal(now, np.select([before == 1, before == 2], [17, 70000]))
    assert (tmp_path / "now" / "labels.csv").read_text() == "label,name\n0,background\n17,femur\n70000,tibia\n"
    assert (tmp_path / "now" / "volumes.csv").read_text() == (tmp_path / "before" / "volumes.csv").read_text()
    found = np.asarray(nib.load(tmp_path / "now" / "oblique_probabilities.nii.gz").dataobj)
    np.testing.assert_array_equal(found.argmax(axis=-1), before)


@pytest.mark.slow
def test_each_class_keeps_its_largest_component_on_demand(run_folder, scans, tmp_path):
    """The untrained network labels many places; volumes are of the label map that is written."""
    for name, option in (("all", []), ("largest", ["--keep-largest"])):
        assert segment(scans["oblique"], "--model", run_folder, *option, "-o", tmp_path / name, "-q") == 0
    every, largest = (labels_of(tmp_path / name / "oblique.nii.gz") for name in ("all", "largest"))
    np.testing.assert_array_equal(largest, keep_largest(every))
    assert (largest != every).any() and len(np.unique(largest)) == len(np.unique(every))
    (row,) = csv.DictReader((tmp_path / "largest" / "volumes.csv").open())
    voxel = abs(np.linalg.det(nib.load(scans["oblique"]).affine[:3, :3])) / 1000
    assert float(row["femur_ml"]) == pytest.approx((largest == 1).sum() * voxel, rel=1e-4)


@pytest.mark.slow
def test_a_large_scan_in_windows_is_labelled_whole(run_folder, tmp_path, write_nifti):
    volume = np.random.default_rng(0).random((70, 30, 24)).astype(np.float32)
    scan = write_nifti(tmp_path / "scans" / "long.nii.gz", volume, np.diag([2, 2.5, 2, 1.0]))
    assert segment(scan, "--model", run_folder, "-o", tmp_path / "out", "--probabilities", "-q") == 0
    values = np.asarray(nib.load(tmp_path / "out" / "long_probabilities.nii.gz").dataobj)
    assert values.shape == (70, 30, 24, 3)
    np.testing.assert_allclose(values.sum(axis=-1), 1, atol=1e-5)
    assert len(np.unique(values[..., 0])) > 1000  # not only the background's 1 of what was left out


@pytest.mark.slow
@pytest.mark.parametrize("name", ["training", "oblique"])
@pytest.mark.parametrize("mode", ["constant", "edge"])
def test_a_border_changes_nothing(name, mode, run_folder, scans, tmp_path, write_nifti):
    """8 voxels on one side and 5 on the other; to the last digit where nothing is resampled."""
    image = nib.load(scans[name])
    volume = np.asarray(image.dataobj)[2:]  # without the black planes of the fixture
    scans["plain"] = write_nifti(tmp_path / "s" / "plain.nii.gz", volume, image.affine)
    shifted = image.affine.copy()
    shifted[:3, 3] -= image.affine[:3, :3] @ [8, 8, 8]
    scans["border"] = write_nifti(tmp_path / "s" / "border.nii.gz", np.pad(volume, (8, 5), mode=mode), shifted)
    assert segment(scans["plain"], scans["border"], "--model", run_folder, "-o", tmp_path / "out", "-q") == 0
    plain, border = (labels_of(tmp_path / "out" / f"{name}.nii.gz") for name in ("plain", "border"))
    assert len(np.unique(plain)) > 1
    np.testing.assert_array_equal(border, np.pad(plain, (8, 5)))
    rows = list(csv.reader((tmp_path / "out" / "volumes.csv").open()))
    np.testing.assert_allclose([float(x) for x in rows[1][1:]], [float(x) for x in rows[2][1:]], rtol=1e-5)


def test_a_bad_scan_does_not_stop_the_others(run_folder, scans, tmp_path, capsys):
    scans["flipped"].write_bytes(scans["flipped"].read_bytes()[:900])
    assert segment(scans["flipped"].parent, "--model", run_folder, "-o", tmp_path / "out", "-q") == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: subject flipped: cannot read") and "\n" not in error
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        *("oblique.nii.gz", "permuted.nii.gz", "training.nii.gz", "volumes.csv", "labels.csv")
    }


@pytest.mark.slow
@pytest.mark.parametrize("size", [1e-38, 1e-3, 300.0])
def test_a_scan_with_impossible_voxels_does_not_stop_the_others(size, run_folder, scans, tmp_path, capsys):
    image = nib.load(scans["flipped"])
    header = image.header.copy()
    header.set_sform(np.eye(4), 0)
    header.set_qform(np.eye(4), 1)
    header["pixdim"][1:4] = size
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), None, header), scans["flipped"])
    assert segment(scans["flipped"].parent, "--model", run_folder, "-o", tmp_path / "out", "-q") == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and "flipped" in error and "\n" not in error
    done = {p.name for p in (tmp_path / "out").iterdir()} - {"volumes.csv", "labels.csv"}
    assert done == {"oblique.nii.gz", "permuted.nii.gz", "training.nii.gz"}


def test_a_fault_of_a_library_is_named_and_does_not_stop_the_others(run_folder, scans, tmp_path, monkeypatch, capsys):
    def fail(path, *_):
        if path.name == "oblique.nii.gz":
            raise MemoryError("Unable to allocate 9 TiB")
        return read(path, *_)

    read = nifti.read_image
    monkeypatch.setattr(nifti, "read_image", fail)
    failed = segment_files([scans["oblique"], scans["training"]], run_folder, tmp_path / "out")
    assert list(failed) == [scans["oblique"]] and "MemoryError: Unable to allocate" in failed[scans["oblique"]]
    assert (tmp_path / "out" / "training.nii.gz").exists() and not (tmp_path / "out" / "oblique.nii.gz").exists()
    assert "oblique.nii.gz: MemoryError" in capsys.readouterr().err


@pytest.mark.slow
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
    assert not list((tmp_path / "out").iterdir())


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
    if scan.endswith(".dcm"):
        (tmp_path / scan).touch()
    assert segment(scan, "--model", run_folder, *options, "-o", "out") == status
    error = capsys.readouterr().err.strip()
    assert hint in error and error.startswith("error: ") and "\n" not in error
