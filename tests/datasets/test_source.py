"""A prepared data set knows the scans that it was made of: others, or changed ones, do not pass for them."""

import os
import shutil

import numpy as np
import pytest

from deepatlas_tf.cli import main
from deepatlas_tf.datasets.hippocampus import make_dummy_data as dummy
from deepatlas_tf.datasets.load import load_dataset
from deepatlas_tf.datasets.source import check_source, source_of
from deepatlas_tf.types import DataError, MissingDataError

GRID = {"shape": (8, 8, 8), "spacing": (2, 2, 2)}


@pytest.fixture
def prepared(tmp_path):
    """(data_dir, A): hippocampus, prepared from the folder A of eight subjects."""
    folder = tmp_path / "a"
    dummy.make_folder(folder)
    load(tmp_path / "data", folder)
    return tmp_path / "data", folder


def load(data_dir, manual_dir=None):
    return load_dataset("hippocampus", data_dir=data_dir, manual_dir=manual_dir, **GRID)


def refused(data_dir, manual_dir):
    with pytest.raises(DataError) as error:
        load(data_dir, manual_dir)
    message = str(error.value)
    assert "\n" not in message and "--data-dir" in message and str(data_dir) in message
    return message


def test_the_source_is_kept(prepared):
    data_dir, folder = prepared
    source = load(data_dir).source
    assert source["path"] == os.path.realpath(folder / "Task04_Hippocampus")
    assert len(source["files"]) == 16
    about = os.stat(folder / "Task04_Hippocampus" / "imagesTr" / "hippocampus_003.nii.gz")
    assert source["files"]["imagesTr/hippocampus_003.nii.gz"] == [about.st_size, about.st_mtime_ns]


def test_the_same_scans_by_another_way_are_the_same(prepared, tmp_path):
    data_dir, folder = prepared
    for way in (folder, folder / "Task04_Hippocampus", None):
        assert load(data_dir, way).subjects == load(data_dir).subjects
    (tmp_path / "link").symlink_to(folder)
    load(data_dir, tmp_path / "link")
    shutil.copytree(folder, tmp_path / "copy")  # with the times of the files
    load(data_dir, tmp_path / "copy")


def test_another_cohort_is_refused(prepared, tmp_path, capsys):
    data_dir, folder = prepared
    dummy.make_folder(tmp_path / "b", n_subjects=10)
    message = refused(data_dir, tmp_path / "b")
    assert f"prepared from {os.path.realpath(folder)}" in message and f"not from {tmp_path / 'b'}" in message
    options = ["--set", "data.shape=(8, 8, 8)", "--set", "data.spacing=(2, 2, 2)"]
    command = ["data", "prepare", "hippocampus", "--manual-dir", str(tmp_path / "b"), "--data-dir", str(data_dir)]
    assert main([*command, *options]) != 0
    assert "not from" in capsys.readouterr().err


def test_a_cohort_of_the_same_names_and_sizes_is_refused(prepared, tmp_path):
    data_dir, folder = prepared
    shutil.copytree(folder, tmp_path / "b", copy_function=shutil.copyfile)
    path = tmp_path / "b" / "Task04_Hippocampus" / "labelsTr" / "hippocampus_002.nii.gz"
    os.utime(path, ns=(1, 1))
    assert "not from" in refused(data_dir, tmp_path / "b")


@pytest.mark.parametrize("change", ["edited", "added", "removed"])
def test_scans_that_have_changed_since_are_named(prepared, change):
    data_dir, folder = prepared
    labels = folder / "Task04_Hippocampus" / "labelsTr"
    if change == "edited":
        os.utime(labels / "hippocampus_004.nii.gz", ns=(1, 1))
    elif change == "added":
        shutil.copy(labels.parent / "imagesTr" / "hippocampus_004.nii.gz", labels.parent / "imagesTr" / "x.nii.gz")
    else:
        (labels / "hippocampus_004.nii.gz").unlink()
    name = "imagesTr/x.nii.gz" if change == "added" else "labelsTr/hippocampus_004.nii.gz"
    assert f"where {name} has changed since" in refused(data_dir, folder)
    load(data_dir)  # who names no scans takes what is prepared


def test_scans_that_were_removed_after_they_were_prepared(prepared):
    data_dir, folder = prepared
    shutil.rmtree(folder / "Task04_Hippocampus")
    load(data_dir, folder)


def test_a_folder_without_scans(prepared, tmp_path):
    data_dir, _ = prepared
    (tmp_path / "empty").mkdir()
    assert "not from" in refused(data_dir, tmp_path / "empty")


def test_prepared_by_an_earlier_version(prepared, tmp_path, capsys):
    data_dir, folder = prepared
    builder = load(data_dir).builder
    del builder.info.metadata["source"]
    check_source(builder, folder)
    assert "prepared by an earlier version" in capsys.readouterr().err


def test_synthetic_data_have_no_source(tmp_path):
    data = load_dataset("phantom_knee", data_dir=tmp_path, shape=(8, 8), spacing=(8, 8), n_subjects=6)
    assert data.source == {}


def test_a_series_counts_as_one_file(tmp_path):
    for name in ("s1", "s2"):
        (tmp_path / name).mkdir()
        for k in range(3):
            (tmp_path / name / f"{k}.dcm").write_bytes(bytes(10 + k))
    found = source_of([tmp_path / "s1", tmp_path / "s2"])
    assert found["path"] == os.path.realpath(tmp_path) and found["files"]["s1"][0] == 33
    os.utime(tmp_path / "s1" / "1.dcm", ns=(0, found["files"]["s1"][1] + 10**9))
    again = source_of([tmp_path / "s1", tmp_path / "s2"])
    assert again["files"]["s1"] != found["files"]["s1"] and again["files"]["s2"] == found["files"]["s2"]


def test_own_scans_keep_their_source(tmp_path, own_scans):
    path = own_scans()
    data = load_dataset("nifti", data_dir=path, workdir=tmp_path / "work", **GRID)
    assert data.source["path"] == os.path.realpath(path)
    assert {name.split("/")[0] for name in data.source["files"]} == {"images", "labels"}
    assert np.all([len(state) == 2 for state in data.source["files"].values()])


def test_a_data_set_without_its_folder_is_missing(tmp_path, prepared, monkeypatch):
    """As the builders of other data sets say it, which cannot be downloaded."""
    data_dir, folder = prepared
    builder = load(data_dir).builder

    def nothing(manual_dir):
        raise MissingDataError("get the scans")

    monkeypatch.setattr(builder, "source", nothing)
    check_source(builder, folder)
    with pytest.raises(MissingDataError, match=f"^get the scans\nLooked in: {tmp_path / 'b'}$"):
        check_source(builder, tmp_path / "b")


def test_a_link_that_leads_nowhere_is_left_to_the_reader(tmp_path):
    (tmp_path / "a.nii").symlink_to(tmp_path / "a.nii")
    (tmp_path / "b.nii").symlink_to(tmp_path / "absent.nii")
    assert set(map(tuple, source_of([tmp_path / "a.nii", tmp_path / "b.nii"])["files"].values())) == {(-1, -1)}
