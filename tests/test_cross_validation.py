"""Cross-validation on the command line: who is tested, what is said of the folds, and their networks as one model."""

import csv
import json
import statistics

import nibabel as nib
import numpy as np
import pytest

import deepatlas_tf as da
from deepatlas_tf.cli import main
from deepatlas_tf.cross_validation import cross_validate, folds_table, over_folds, scores_of
from deepatlas_tf.run import make_experiment, train
from deepatlas_tf.runs.model import open_model
from deepatlas_tf.trained import Run
from deepatlas_tf.types import DataError, SettingError

SUBJECTS = [f"s{index}" for index in range(3)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(folder of a cross-validation of two folds of three scans, folder of the scans)."""
    folder = tmp_path_factory.mktemp("folds")
    rng, rows = np.random.default_rng(0), ["subject,image,label"]
    for subject in SUBJECTS:
        label = np.zeros((16, 16, 16), np.uint8)
        low, high = np.sort(rng.integers(2, 6, (2, 3)) + [[0], [7]], axis=0)
        label[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = 1
        image = (100 * label + rng.normal(100, 5, label.shape)).astype(np.float32)
        for name, volume in ((f"{subject}.nii.gz", image), (f"{subject}_lab.nii.gz", label)):
            nib.save(nib.Nifti1Image(volume, np.diag([2.0, 2.0, 2.0, 1.0])), folder / name)
        rows.append(f"{subject},{subject}.nii.gz,{subject}_lab.nii.gz")
    (folder / "scans.csv").write_text("\n".join(rows) + "\n")
    command = ["train", "--tiny", "--dataset", "nifti", "--data-dir", str(folder / "scans.csv"), "--folds", "2"]
    command += ["--method", "segmentation", "--set", "data.shape=(16,16,16)", "--set", "data.spacing=(2,2,2)"]
    assert main([*command, "--workdir", str(folder / "run")]) == 0
    return folder / "run", folder


def test_folds_and_a_run_of_its_own_have_folders_of_their_own(tmp_path):
    experiment = make_experiment("phantom_knee", tiny=True)
    (tmp_path / "experiment.json").touch()
    with pytest.raises(DataError, match="is a run of its own: choose another --workdir for the 2 folds"):
        cross_validate(experiment, 2, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["experiment.json"]
    (tmp_path / "experiment.json").rename(tmp_path / "folds.json")
    with pytest.raises(DataError, match="is a cross-validation: choose another --workdir, or go on with it by --folds"):
        train(experiment, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["folds.json"]


def test_too_many_folds_are_refused_before_the_first_one(tmp_path, capsys):
    experiment = make_experiment("phantom_knee", tiny=True, settings=["data.shape=(24, 24)", "data.spacing=(5, 5)"])
    with pytest.raises(SettingError, match="folds"):
        cross_validate(experiment, 99, tmp_path / "work", data_dir=tmp_path)
    assert "fold 1 of" not in capsys.readouterr().out and not (tmp_path / "work").exists()


@pytest.mark.long
def test_each_scan_is_tested_once_by_networks_that_have_not_seen_it(trained):
    run, _ = trained
    tested = []
    for fold in range(2):
        subjects = json.loads((run / f"fold_{fold}" / "data.json").read_text())["subjects"]
        with (run / f"fold_{fold}" / "evaluation" / "segmentation.csv").open() as file:
            found = {row["subject"] for row in csv.DictReader(file)}
        assert found == set(subjects["test"]) and found.isdisjoint(subjects["train"])
        tested += found
    assert sorted(tested) == SUBJECTS
    assert sorted(path.name for path in run.iterdir()) == ["data", "fold_0", "fold_1", "folds.json"]


@pytest.mark.long
def test_the_table_has_the_mean_of_the_folds(trained):
    run, _ = trained
    means = []
    for fold in range(2):
        summary = json.loads((run / f"fold_{fold}" / "evaluation" / "summary.json").read_text())
        means.append(summary["segmentation_baseline"]["segmentation"]["dice"]["mean"])
    found = json.loads((run / "folds.json").read_text())["scores"]["segmentation_baseline"]["segmentation"]["dice"]
    assert found["mean"] == pytest.approx(statistics.mean(means)) and found["folds"] == 2
    assert found["sd"] == pytest.approx(statistics.stdev(means))


@pytest.mark.long
def test_its_networks_are_one_model(trained, tmp_path, capsys):
    run, folder = trained
    image = np.random.default_rng(1).random((16, 16, 16, 1), np.float32)
    each = [open_model(run / f"fold_{fold}").segmenter()(image) for fold in range(2)]
    np.testing.assert_allclose(open_model(run).segmenter()(image), np.mean(each, axis=0), atol=1e-6)
    assert np.abs(each[0] - each[1]).max() > 1e-3
    assert main(["segment", str(folder / "s0.nii.gz"), "--model", str(run), "-o", str(tmp_path / "out")]) == 0
    written = np.asarray(nib.load(tmp_path / "out" / "s0.nii.gz").dataobj)
    np.testing.assert_array_equal(written, np.asarray(Run(run).segment(folder / "s0.nii.gz").dataobj))
    assert main(["export", str(run), "-o", str(tmp_path / "exported")]) == 1
    assert "is a cross-validation: give the folder of one of its folds" in capsys.readouterr().err


@pytest.mark.long
def test_from_python_it_is_that_of_the_command(trained, capsys):
    """The same call finds the folds of the command trained: its settings and data are the same."""
    run, folder = trained
    settings = ["data.shape=(16,16,16)", "data.spacing=(2,2,2)"]
    found = da.train(folder / "scans.csv", None, run, folds=2, method="segmentation", settings=settings, tiny=True)
    assert found.path == run and capsys.readouterr().out.count("already trained") == 2
    image = np.asarray(found.segment(folder / "s0.nii.gz").dataobj)
    np.testing.assert_array_equal(image, np.asarray(Run(run).segment(folder / "s0.nii.gz").dataobj))


@pytest.mark.long
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--folds", "4"], "data.folds=4: nifti has 3 subject(s) with a label map, which make 2 to 3 folds"),
        (["--folds", "1"], "--folds 1: 2 folds are the fewest"),
        (["--folds", "2", "--strategy", "multi_worker"], "--folds trains on one machine"),
        (["--folds", "2", "--set", "data.fold=1"], "leave data.fold and data.folds as they are"),
    ],
)
def test_folds_that_cannot_be(trained, tmp_path, capsys, options, message):
    _, folder = trained
    command = ["train", "--tiny", "--dataset", "nifti", "--data-dir", str(folder / "scans.csv"), *options]
    assert main([*command, "--workdir", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err


def test_a_damaged_list_of_folds_is_named(tmp_path):
    for content in ("[]", '{"folds": ["../other"]}', '{"folds": [".."]}', '{"folds": []}', "{"):
        (tmp_path / "folds.json").write_text(content)
        with pytest.raises(DataError, match="folds.json"):
            open_model(tmp_path)


@pytest.mark.parametrize("command", [["evaluate"], ["report", "-o", "page.html"]])
def test_what_is_of_one_run_asks_for_a_fold(command, tmp_path, capsys):
    (tmp_path / "folds.json").write_text('{"folds": ["fold_0"]}')
    assert main([command[0], str(tmp_path), *command[1:]]) == 1
    assert f"{tmp_path} is a cross-validation: give the folder of one of its folds\n" in capsys.readouterr().err


def test_scores_on_own_grids(tmp_path):
    """The mean over the subjects of a fold, then over the folds; only where every fold has them."""
    heads = "method,subject,class,dice,hd95_mm,assd_mm,hausdorff_mm\n"
    for fold, values in enumerate(((0.8, 0.6), (0.9,))):
        folder = tmp_path / f"fold_{fold}"
        (folder / "evaluation").mkdir(parents=True)
        model = {"class_names": ["background", "a"], "shape": [8, 8, 8], "spacing": [1.0, 1.0, 1.0]}
        (folder / "model.json").write_text(json.dumps(model))
        rows = "".join(f"full_resolution,s{index},a,{value},1,1,1\n" for index, value in enumerate(values))
        (folder / "evaluation" / "segmentation_own_grid.csv").write_text(heads + rows)
    found = scores_of([tmp_path / "fold_0", tmp_path / "fold_1"])["own_grid_scores"]
    dice = found["full_resolution"]["segmentation"]["dice"]
    assert dice["mean"] == pytest.approx(0.8) and dice["sd"] == pytest.approx(statistics.stdev([0.7, 0.9]))
    assert "0.800 ± 0.141" in folds_table(found, ("segmentation",))
    (tmp_path / "fold_1" / "evaluation" / "segmentation_own_grid.csv").unlink()
    assert "own_grid_scores" not in scores_of([tmp_path / "fold_0", tmp_path / "fold_1"])


def test_scores_of_folds_by_hand():
    def of(dice, hd95):
        return {"a": {"segmentation": {"dice": {"mean": dice}, "hd95_mm": {"mean": hd95}}}}

    scores = over_folds([of(0.5, 2.0), of(0.7, None), {}])
    assert scores["a"]["segmentation"] == {
        "dice": {"mean": pytest.approx(0.6), "sd": pytest.approx(0.02**0.5), "folds": 2},
        "hd95_mm": {"mean": 2.0, "sd": None, "folds": 1},
    }
    line = folds_table(scores).splitlines()[-1].split("  ")
    assert [cell.strip() for cell in line if cell.strip()] == ["a", "0.600 ± 0.141", "2.00", "-", "-", "-", "-", "-"]
