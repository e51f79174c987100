"""benchmarks/brain_slices.py on made-up volumes: levels, classes, splits and values by hand."""

import csv
import importlib
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

from deepatlas_tf.datasets.load import load_dataset

ROOT = Path(__file__).parents[2]
SHAPE, NAMES = (16, 24, 20), ("background", "thalamus", "rare", "cortex")
SPLITS = {"train": ("a", "b"), "validation": ("c",), "test": ("d",)}


@pytest.fixture
def brain_slices(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("brain_slices")


def volume(subject):
    """A thalamus at levels 4 to 17, largest at level 11; a rare class at 11; the rest of the inside is cortex.

    Level 9 of b has no thalamus.
    """
    label = np.zeros(SHAPE, np.uint8)
    label[2:14, 2:22] = 3
    label[4:8, 4:10, 4:18] = 1
    label[4:12, 4:12, 11] = 1
    label[12, 12, 11] = 2
    if subject == "b":
        label[4:8, 4:10, 9] = 3
    image = np.random.default_rng(ord(subject)).random((*SHAPE, 1)) * (label > 0)[..., None]
    return {"subject": subject.encode(), "image": image.astype(np.float32), "label": label}


class Records(list):
    def as_numpy_iterator(self):
        return iter(self)


def made_up_brains():
    def records(split):
        return Records(volume(subject) for subject in SPLITS[split])

    return SimpleNamespace(subjects=SPLITS, records=records, class_names=NAMES, spacing=(2.0, 2.0, 2.0))


def test_levels_are_about_the_fullest_one_and_within_the_volume(brain_slices):
    masks = np.zeros((2, 3, 4, 20), bool)
    masks[0, 0, 0, 5], masks[:, 1, 1, 6] = True, True
    assert brain_slices.middle_levels(masks, 8) == [2, 3, 4, 5, 6, 7, 8, 9]
    assert brain_slices.middle_levels(masks[..., ::-1], 8) == [9, 10, 11, 12, 13, 14, 15, 16]
    masks[..., 0] = True
    assert brain_slices.middle_levels(masks, 8) == list(range(8))
    assert brain_slices.middle_levels(masks[..., ::-1], 8) == list(range(12, 20))


@pytest.mark.parametrize("missing, kept", [(0, True), (2, True), (3, False)])
def test_a_class_of_nine_in_ten_slices_is_kept(brain_slices, missing, kept):
    labels = np.ones((2, 3, 3, 10), np.uint8)
    labels[0, :, :, :missing] = 0
    assert brain_slices.common_classes(labels, 2) == ([1] if kept else [])


def test_slices_are_written_and_can_be_trained_on(brain_slices, tmp_path):
    brain_slices.write_slices(made_up_brains(), tmp_path)
    with (tmp_path / "scans.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [row["subject"] for row in rows]
    assert sorted(names) == [f"{s}_z{z}" for s in "abcd" for z in sorted(range(7, 15), key=str)]
    assert names[-1] == "b_z9" and names[:8] != sorted(names[:8])  # shuffled; the slice without a thalamus comes last
    for row in rows:
        subject, level = row["subject"].split("_z")
        assert subject in SPLITS[row["split"]]
        truth, image, label = volume(subject), nib.load(tmp_path / row["image"]), nib.load(tmp_path / row["label"])
        np.testing.assert_array_equal(image.get_fdata(), truth["image"][..., int(level), 0])
        expected = truth["label"][..., int(level)]
        np.testing.assert_array_equal(label.get_fdata(), np.where(expected == 2, 0, expected))
        assert image.header.get_zooms() == (2.0, 2.0)
    data = load_dataset("nifti", data_dir=tmp_path / "scans.csv", workdir=tmp_path / "work", alignment="none")
    assert data.class_names == ("background", "thalamus", "cortex") and data.spacing == (2.0, 2.0)
    assert {split: len(subjects) for split, subjects in data.subjects.items()} == {
        "train": 16,
        "validation": 8,
        "test": 8,
    }


def test_what_is_there_is_not_made_again(brain_slices, tmp_path):
    (tmp_path / "scans.csv").write_text("subject,image\n")
    assert brain_slices.slice_list(tmp_path / "no such scans", tmp_path) == tmp_path / "scans.csv"
