"""The label ``ignore`` of nnU-Net, from the files to the batches of a stream and what a run records of its data."""

import csv
import json

import numpy as np
import pytest

from deepatlas_tf.cli import main
from deepatlas_tf.datasets.load import load_dataset
from deepatlas_tf.runs.data_record import check_same_data, data_record, grid_of_networks
from deepatlas_tf.runs.predict import load_predictors
from deepatlas_tf.streams.augment import Augmentation
from deepatlas_tf.streams.pairs import StreamSettings, sample_stream
from deepatlas_tf.types import DataError

IGNORE = 5


@pytest.fixture
def folder(tmp_path, write_nifti):
    """make(shape, ignore=True, n=4) -> a folder as for nnU-Net; the first half of each label map is ignored."""

    def make(shape=(10, 9, 8), ignore=True, n=4):
        path = tmp_path / "Dataset7"
        for k in range(n):
            rng = np.random.default_rng(k)
            label = rng.choice([0, 1, 3], shape).astype(np.uint8)
            label[: shape[0] // 2] = IGNORE if ignore else 1
            write_nifti(path / f"imagesTr/k_{k}_0000.nii.gz", rng.gamma(2, 100, shape).astype(np.float32))
            write_nifti(path / f"labelsTr/k_{k}.nii.gz", label)
        labels = {"background": 0, "one": 1, "three": 3} | ({"ignore": IGNORE} if ignore else {})
        (path / "dataset.json").write_text(json.dumps({"labels": labels}))
        return path

    return make


def load(tmp_path, folder, **grid):
    return load_dataset("nifti", data_dir=folder, workdir=tmp_path / "work", **grid)


@pytest.mark.parametrize("shape", [(10, 9, 8), (12, 20)])
def test_ignored_voxels_have_the_index_after_the_last_class(tmp_path, folder, shape):
    data = load(tmp_path, folder(shape), shape=shape, spacing=(1.0,) * len(shape))
    assert data.class_names == ("background", "one", "three") and data.class_numbers == (0, 1, 3)
    assert data.ignore_number == IGNORE
    for sample in data.samples("train").as_numpy_iterator():
        assert np.all(sample["label"][: shape[0] // 2] == 3) and set(np.unique(sample["label"])) == {0, 1, 2, 3}
        np.testing.assert_array_equal(sample["label_weight"], 1)
    assert "ignore_number" in grid_of_networks(data)


def test_a_resampled_voxel_is_of_the_larger_share(tmp_path, folder):
    data = load(tmp_path, folder((12, 12, 12)), shape=(6, 6, 6), spacing=(2.0, 2.0, 2.0))
    label = next(data.samples("train").as_numpy_iterator())["label"]
    assert np.all(label[:2] == 3) and np.all(label[4:] < 3)


@pytest.mark.parametrize("augmentation", [None, Augmentation(flip_axes=(0, 1, 2))])
def test_samples_of_a_stream_say_what_is_known(tmp_path, folder, augmentation):
    data = load(tmp_path, folder(), shape=(10, 9, 8), spacing=(1, 1, 1))
    ids = data.subjects["train"]
    settings = StreamSettings(1, 4, 0, augmentation=augmentation, ignores=True)
    for sample in sample_stream(data.samples("train"), ids, ids, 1.0, settings).take(2).as_numpy_iterator():
        np.testing.assert_array_equal(sample["known"][..., 0], sample["label"] < 3)
        assert 0.3 < sample["known"].mean() < 0.7


def test_the_grid_is_not_chosen_by_ignored_voxels(tmp_path, folder, write_nifti):
    path = folder((10, 9, 8))
    for k in range(4):  # a small bright ball in the middle of the dark
        image, label = np.zeros((40, 40, 40), np.float32), np.full((40, 40, 40), IGNORE, np.uint8)
        image[18:22, 18:22, 18:22], label[18:22, 18:22, 18:22] = 100 + k, 1
        write_nifti(path / f"imagesTr/k_{k}_0000.nii.gz", image)
        write_nifti(path / f"labelsTr/k_{k}.nii.gz", label)
    assert load(tmp_path, path).shape == (16, 16, 16)


def test_the_record_of_a_run_tells_it_from_the_same_data_without(tmp_path, folder):
    found = {}
    for ignore in (True, False):
        data = load(tmp_path / str(ignore), folder(ignore=ignore), shape=(10, 9, 8), spacing=(1, 1, 1))
        found[ignore] = data_record(data, data.subjects["train"])
    assert found[True]["ignore_number"] == IGNORE and "ignore_number" not in found[False]
    assert found[True]["classes_without_label"] == []
    for recorded, now, reason in ((True, False, "ignored: 5; now: none"), (False, True, "ignored: none; now: 5")):
        with pytest.raises(DataError, match=reason):
            check_same_data(found[recorded], found[now], "runs/a")
    check_same_data(found[True], json.loads(json.dumps(found[True])), "runs/a")


def test_prepared_anew_where_the_label_is_ignored_from_now_on(tmp_path, folder):
    path = folder()
    (path / "dataset.json").write_text(json.dumps({"labels": {"one": 1, "three": 3, "five": IGNORE}}))
    grid = {"shape": (10, 9, 8), "spacing": (1, 1, 1)}
    assert load(tmp_path, path, **grid).class_names == ("background", "one", "three", "five")
    (path / "dataset.json").write_text(json.dumps({"labels": {"one": 1, "three": 3, "ignore": IGNORE}}))
    assert load(tmp_path, path, **grid).class_names == ("background", "one", "three")


def test_a_label_map_of_which_all_is_ignored(tmp_path, folder, write_nifti):
    path = folder()
    write_nifti(path / "labelsTr/k_2.nii.gz", np.full((10, 9, 8), IGNORE, np.uint8))
    with pytest.raises(DataError, match="subject k_2: all voxels of label map .*k_2.nii.gz are ignored \\(5\\)"):
        load(tmp_path, path)
    assert not list((tmp_path / "work").rglob("dataset_info.json"))


def test_a_csv(tmp_path, own_scans):
    path = own_scans(unlabelled=(0,))
    (path.parent / "labels.csv").write_text("number,name\n3,femur\n7,ignore\n")
    data = load(tmp_path, path)
    assert data.class_names == ("background", "femur") and data.ignore_number == 7
    labels = {s["subject"].decode(): s["label"] for s in data.samples("train").as_numpy_iterator()}
    assert not labels.pop("s0").any()
    assert all(set(np.unique(label)) == {0, 1, 2} for label in labels.values())


@pytest.mark.long
def test_trained_and_measured_on_the_command_line(tmp_path, folder, capsys):
    """The table of a run is that of its label maps in the known voxels."""
    work, path = tmp_path / "work", folder((16, 16), n=8)
    arguments = ["train", "--dataset", "nifti", "--data-dir", str(path), "--workdir", str(work), "--tiny"]
    assert main([*arguments, "--method", "segmentation"]) == 0
    printed = capsys.readouterr().out
    assert "nan" not in printed and "ignore" not in printed
    assert json.loads((work / "model.json").read_text())["ignore_number"] == IGNORE
    grid = {name: json.loads((work / "model.json").read_text())[name] for name in ("shape", "spacing")}
    data, (segment,) = (
        load_dataset("nifti", data_dir=path, workdir=work, **grid),
        load_predictors(work).labellers.values(),
    )
    dice = {}
    for sample in data.samples("test").as_numpy_iterator():
        known = sample["label"] < 3
        found, label = segment(sample["image"])[known], sample["label"][known]
        for c, name in enumerate(("one", "three"), 1):
            value = 2 * ((found == c) & (label == c)).sum() / ((found == c).sum() + (label == c).sum())
            dice[sample["subject"].decode(), name] = value
    with (work / "evaluation" / "segmentation.csv").open() as file:
        rows = {(row["subject"], row["class"]): float(row["dice"]) for row in csv.DictReader(file)}
    assert rows == pytest.approx(dice, abs=1e-6) and len(rows) == 4
