import json

import pytest

from deepatlas_tf.scans.class_names import find_class, read_dataset_json, read_label_csv
from deepatlas_tf.types import DataError


@pytest.mark.parametrize(
    "labels",
    [
        {"0": "background", "2": "big bone", "1": "small"},
        {"background": 0, "big bone": 2, "small": 1},
        {"background": "0", "big bone": "2", "small": "1"},
        {"big bone": 2, "small": 1},
    ],
)
def test_both_forms_of_dataset_json(tmp_path, labels):
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps({"name": "x", "labels": labels}))
    assert list(read_dataset_json(path).items()) == [("background", (0,)), ("small", (1,)), ("big_bone", (2,))]


def test_dataset_json_without_labels(tmp_path):
    (tmp_path / "dataset.json").write_text("{}")
    assert read_dataset_json(tmp_path / "dataset.json") == {}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "no description"),
        ("[]", "no description"),
        ('{"labels": ["a"]}', "no description"),
        ('{"labels": {"whole": [1, 2]}}', "'whole' is a region"),
        ('{"labels": {"background": 0, "ignore": 3}}', "'ignore' is not supported"),
        ('{"labels": {"femur": 0}}', "number 0 is always the background, not femur"),
        ('{"labels": {"femur": 1.5}}', "1.5 is no label number"),
        ('{"labels": {"femur": -1}}', "-1 is no label number"),
        ('{"labels": {"femur": true}}', "True is no label number"),
        ('{"labels": {"femur": 1, "tibia": 1}}', "1 occurs twice"),
    ],
)
def test_wrong_dataset_json_is_one_line(tmp_path, text, reason):
    path = tmp_path / "dataset.json"
    path.write_text(text)
    with pytest.raises(DataError) as error:
        read_dataset_json(path)
    assert str(path) in str(error.value) and reason in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("number,name\n1,a\n1,b\n", "1 occurs twice"),
        ("number,name\nfemur,1\n", "line 2: 'femur' is no label number"),
        ("number,name\n-1,a\n", "'-1' is no label number"),
        ("number,name\n0,femur\n", "not femur"),
    ],
)
def test_wrong_label_csv_is_one_line(tmp_path, text, reason):
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(DataError) as error:
        read_label_csv(path)
    assert str(path) in str(error.value) and reason in str(error.value) and "\n" not in str(error.value)


def test_find_class():
    labels = {"background": (0, 5), "femur": (1, 2), "3": (9,)}
    words = {"femur": "femur", "2": "femur", "0": "background", "3": "3", "9": "3", "8": None, "x": None, "²": None}
    assert {word: find_class(labels, word) for word in words} == words
