"""A run keeps the prepared scans that it was trained on, whatever else was tried in its folder."""

import numpy as np
import pytest

from deepatlas_tf import run
from deepatlas_tf.runs.folder import RunFolder
from deepatlas_tf.training.build_stream import used_labels
from deepatlas_tf.training.same_run import write_data, write_settings
from deepatlas_tf.types import DataError

GRID = ["data.shape=(16, 16)", "data.spacing=(1, 1)"]


@pytest.fixture
def finished(own_scans, tmp_path):
    """A finished run on six slices; its networks are not looked into. Gives its folder, experiment and CSV."""
    path, work = own_scans(shape=(14, 13), columns={"split": ["train"] * 4 + ["validation", "test"]}), tmp_path / "work"
    experiment = run.make_experiment("nifti", "segmentation", settings=GRID, tiny=True)
    dataset = run.load_data(experiment.data, work, path)
    write_settings(experiment, work)
    write_data(dataset, used_labels(dataset, experiment), RunFolder(work))
    RunFolder(work).stages()[0].nets.mkdir(parents=True)
    return work, experiment, path


def copies(work):
    return sorted((work / "data" / "nifti").iterdir())


def test_other_scans_are_refused_and_those_of_the_run_stay(finished):
    work, experiment, path = finished
    other = path.with_name("other.csv")
    other.write_text("\n".join(path.read_text().splitlines()[:-1] + ["s9,images/s5.nii.gz,labels/s5.nii.gz,test"]))
    with pytest.raises(DataError, match="s5 no longer in the test split"):
        run.train(experiment, work, data_dir=other)
    assert len(copies(work)) == 2
    assert run.dataset_of_run(work).subjects["test"] == ("s5",)


def test_changed_scans_are_refused_and_those_of_the_run_stay(finished, write_nifti):
    work, experiment, path = finished
    before = run.dataset_of_run(work)
    write_nifti(path.parent / "images" / "s0.nii.gz", np.random.default_rng(9).random((14, 13)).astype(np.float32))
    with pytest.raises(DataError, match="scan or label map changed of s0"):
        run.train(experiment, work, data_dir=path)
    images = [list(data.samples("train"))[0]["image"] for data in (before, run.dataset_of_run(work))]
    np.testing.assert_array_equal(*images)


def test_another_grid_is_refused_before_anything_is_prepared(finished):
    work, _, path = finished
    before = copies(work)
    other = run.make_experiment("nifti", "segmentation", settings=["data.shape=(8, 8)", GRID[1]], tiny=True)
    with pytest.raises(DataError, match=r"other settings \(data.shape: \[16, 16\]; now: \[8, 8\]\): choose another"):
        run.train(other, work, data_dir=path)
    assert copies(work) == before
