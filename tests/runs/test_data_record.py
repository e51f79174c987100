"""What a run knows of its data, and what it says where they are others."""

import copy
import json
from types import SimpleNamespace

import numpy as np
import pytest

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.runs.data_record import check_not_trained_on, check_same_data, check_same_grid, data_record
from deepatlas_tf.types import DataError

SPLITS = {"train": ("a", "b", "c"), "validation": ("d",), "test": ("e", "f")}


def made_up(change=None, **fields):
    """Random images with the classes 0 and 1 of three; ``change(samples)`` may edit the arrays by subject."""
    samples = {}
    for seed, subject in enumerate("abcdef"):
        rng = np.random.default_rng(seed)
        image, label = rng.random((8, 8, 1), np.float32), rng.integers(0, 2, (8, 8)).astype(np.int32)
        samples[subject] = {"image": image, "label": label, "label_weight": np.ones(3, np.float32), "subject": subject}
    if change:
        change(samples)
    subjects = fields.pop("subjects", SPLITS)

    def split_samples(split):
        rows = [samples[subject] for subject in subjects[split]]
        return tf.data.Dataset.from_tensor_slices({k: np.stack([np.array(row[k]) for row in rows]) for k in rows[0]})

    values = {
        "class_names": ("background", "bone", "fat"),
        "channel_names": ("image",),
        "shape": (8, 8),
        "spacing": (1.5, 1.5),
        "ignore_number": None,
    }
    return SimpleNamespace(**values | fields, subjects=subjects, labelled=subjects, samples=split_samples)


def record(used=("a", "b"), change=None, **fields):
    return json.loads(json.dumps(data_record(made_up(change, **fields), used)))


def flip_a_voxel(subject, name):
    def change(samples):
        array = samples[subject][name].copy()
        array.flat[2] = 1 - array.flat[2]
        samples[subject][name] = array

    return change


def test_equal_data_pass_and_what_no_label_has_is_known():
    found = record()
    check_same_data(found, record(), "run")
    assert found["classes_without_label"] == ["fat"] and found["used_labels"] == ["a", "b"]
    assert list(found["subjects"]["test"]) == ["e", "f"]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"change": flip_a_voxel("b", "label")}, "scan or label map changed of b in the train split"),
        ({"change": flip_a_voxel("e", "image")}, "scan or label map changed of e in the test split"),
        ({"change": flip_a_voxel("d", "label_weight")}, "scan or label map changed of d in the validation split"),
        ({"used": ("a", "c")}, "label maps used: a, b; now: a, c"),
        ({"class_names": ("background", "fat", "bone")}, "its classes: background, bone, fat; now: background, fat"),
        ({"spacing": (1.5, 1.0)}, "its voxel size: 1.5, 1.5; now: 1.5, 1.0"),
        ({"shape": (8, 9)}, "its grid: 8, 8; now: 8, 9"),
        ({"subjects": {**SPLITS, "train": ("a", "b")}}, "c no longer in the train split"),
        ({"subjects": {**SPLITS, "test": ("e", "f", "c"), "train": ("a", "b")}}, "c no longer in the train split"),
        ({"subjects": {**SPLITS, "validation": ("d", "f"), "test": ("e",)}}, "f new in the validation split"),
        ({"subjects": {**SPLITS, "train": ("b", "a", "c")}}, "its subjects in another order"),
    ],
)
def test_what_differs_is_named_in_one_line(other, message):
    with pytest.raises(DataError) as caught:
        check_same_data(record(), record(**other), "runs/a")
    text = str(caught.value)
    assert text.startswith("runs/a is a run on other data (") and message in text and "\n" not in text


def test_a_run_of_an_earlier_version_is_compared_by_its_grid():
    about = {"class_names": ["background", "bone", "fat"], "shape": [8, 8], "spacing": [1.5, 1.5]}
    check_same_grid(about, made_up(), "run")
    with pytest.raises(DataError, match="its voxel size"):
        check_same_grid({**copy.deepcopy(about), "spacing": [1.5, 3.0]}, made_up(), "run")


def test_what_was_learned_from_is_not_measured():
    check_not_trained_on(record(), ["e", "f"], "test", "run")
    check_not_trained_on(record(), ["a", "b"], "train", "run")
    with pytest.raises(DataError, match="run was trained on a, now in the test split"):
        check_not_trained_on(record(), ["e", "a"], "test", "run")
