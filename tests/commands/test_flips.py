"""Test-time flips: the mean over a scan and its mirror image, from the formula to the commands."""

import json

import nibabel as nib
import numpy as np
import pytest

import deepatlas_tf as da
from deepatlas_tf import run as of_run
from deepatlas_tf.cli import main
from deepatlas_tf.runs.flips import other_sides, with_flips
from deepatlas_tf.runs.model import TrainedModel
from deepatlas_tf.scans.intensity import rescale
from deepatlas_tf.types import SettingError

SIDES = ("background", "stem", "Left-Putamen", "right-putamen", "ctx-lh-insula", "ctx-rh-insula", "hip_L", "hip_R")


def labels_of(path):
    return np.asarray(nib.load(path).dataobj)


def test_classes_of_the_other_side():
    assert other_sides(SIDES) == (0, 1, 3, 2, 5, 4, 7, 6)
    assert other_sides(("background", "l_shape", "leftover")) == (0, 1, 2)
    assert other_sides(("background", "gm", "GM")) == (0, 1, 2)  # names that differ in their case alone
    with pytest.raises(SettingError, match="mirror image of the class left thalamus is right thalamus"):
        other_sides(("background", "Left thalamus"))


def test_the_mean_by_hand():
    """A network that says left in the first half of the first axis, and is surer the brighter a voxel is."""

    def segment(image):
        found = np.zeros((*image.shape[:-1], 3), np.float32)
        found[:2, ..., 1] = image[:2, ..., 0]
        found[2:, ..., 2] = image[2:, ..., 0] / 2
        found[..., 0] = 1 - found.sum(axis=-1)
        return found

    image = np.random.default_rng(0).random((4, 2, 3, 1)).astype(np.float32)
    found = with_flips(segment, ("background", "left", "right"))(image)
    bright = image[..., 0]
    # of the mirror image, the right half is the left one: seen as left, and meant as right
    expected = np.zeros((4, 2, 3, 3), np.float32)
    expected[:2, ..., 1] = (bright[:2] + bright[:2] / 2) / 2
    expected[2:, ..., 2] = (bright[2:] / 2 + bright[2:]) / 2
    expected[..., 0] = 1 - expected.sum(axis=-1)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.slow
def test_a_mirrored_scan_has_the_mirror_image(run_folder):
    model = TrainedModel(run_folder)
    both = with_flips(model.segmenter(), model.grid.class_names)
    image = np.random.default_rng(1).random((24, 24, 24, 1)).astype(np.float32)
    np.testing.assert_allclose(both(image[::-1].copy()), both(image)[::-1], atol=1e-6)
    assert np.abs(both(image) - model.segmenter()(image)).max() > 1e-3


@pytest.mark.slow
def test_segment_and_run(run_folder, scans, tmp_path):
    out = tmp_path / "out"
    call = ["segment", str(scans["training"]), str(scans["flipped"]), "--model", str(run_folder), "-o", str(out), "-q"]
    assert main([*call, "--flips"]) == 0
    model = TrainedModel(run_folder)
    image = rescale(labels_of(scans["training"]))[..., None]
    plain, mirror = model.segmenter()(image), model.segmenter()(image[::-1].copy())[::-1]
    expected = (plain + mirror).argmax(axis=-1)
    assert (labels_of(out / "training.nii.gz") != expected).mean() < 1e-3 and (plain.argmax(-1) != expected).any()
    found = da.Run(run_folder).segment(scans["flipped"], flips=True)
    np.testing.assert_array_equal(np.asarray(found.dataobj), labels_of(out / "flipped.nii.gz"))


@pytest.mark.long
def test_evaluate(run_folder, cohort, monkeypatch):
    monkeypatch.setattr(of_run, "dataset_of_run", lambda *args, **kwargs: cohort)
    assert main(["evaluate", str(run_folder), "--flips", "-q"]) == 0
    summary = json.loads((run_folder / "evaluation" / "summary.json").read_text())
    assert {"first", "first_flips", "deepatlas", "deepatlas_flips"} <= set(summary)
    assert summary["deepatlas"]["segmentation"]["dice"] != summary["deepatlas_flips"]["segmentation"]["dice"]


@pytest.mark.parametrize(
    ("about", "message"),
    [({"left_mirrored": True}, "knows right sides only"), ({"shape": [8, 8], "spacing": [1, 1]}, "is for volumes")],
)
def test_what_has_another_side(tmp_path, run_folder, scans, capsys, about, message):
    model = json.loads((run_folder / "model.json").read_text())
    for path in run_folder.iterdir():
        if path.is_dir():
            (tmp_path / path.name).symlink_to(path)
    (tmp_path / "experiment.json").symlink_to(run_folder / "experiment.json")
    (tmp_path / "model.json").write_text(json.dumps({**model, **about}))
    call = ["segment", str(scans["training"]), "--model", str(tmp_path), "-o", str(tmp_path / "out"), "--flips"]
    assert main(call) == 2 and message in capsys.readouterr().err
