import json

import pytest

from deepatlas_tf.scans.class_names import (
    class_name,
    find_class,
    read_dataset_json,
    read_label_csv,
    split_ignore,
)
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
        ('{"labels": {"background": 0, "ignore": 3}}', "'ignore' is the only label"),
        ('{"labels": {"background": 0, "ignore": 1, "femur": 2}}', "the highest, not 1 (femur is 2)"),
        ('{"labels": {"ignore": 0, "femur": 1}}', "number 0 is always the background, not ignore"),
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
        ("number,name\n1,a\n3,ignore\n4,ignore\n", "one number, the highest, not 3, 4 (a is 1)"),
        ("number,name\n1,a\n3,ignore\n4,\n", "the highest, not 3 (background is 4)"),
    ],
)
def test_wrong_label_csv_is_one_line(tmp_path, text, reason):
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(DataError) as error:
        read_label_csv(path)
    assert str(path) in str(error.value) and reason in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["ignore", "Ignore"])
def test_ignore_is_no_class(tmp_path, name):
    (tmp_path / "labels.csv").write_text(f"number,name\n2,tibia\n1,femur\n7,{name}\n")
    labels = {"background": (0,), "femur": (1,), "tibia": (2,)}
    assert split_ignore(read_label_csv(tmp_path / "labels.csv")) == (labels, 7)
    assert split_ignore(labels) == (labels, None)


def test_find_class():
    labels = {"background": (0, 5), "femur": (1, 2), "3": (9,)}
    words = {"femur": "femur", "2": "femur", "0": "background", "3": "3", "9": "3", "8": None, "x": None, "²": None}
    assert {word: find_class(labels, word) for word in words} == words


DEEP = '{"labels": ' * 100_000


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("$\\frac{$x", "'$\\\\frac{$x' has the character '$'"),
        ("a\x07b", "has the character '\\x07'"),
        ("a\ud800", "'a\\ud800' has the character '\\ud800'"),
        ("a" * 5000, "has 5000 characters"),
    ],
)
def test_class_names_that_cannot_be_shown(tmp_path, name, shown):
    """Found when the names are read, not by matplotlib after training."""
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps({"labels": {"background": 0, name: 1}}))
    with pytest.raises(DataError) as error:
        read_dataset_json(path)
    assert shown in str(error.value) and len(str(error.value)) < 300 and str(error.value).isprintable()
    if not any("\ud800" <= sign < "\ue000" for sign in name):
        (tmp_path / "labels.csv").write_text(f"number,name\n1,{name}\n")
        with pytest.raises(DataError, match="labels.csv"):
            read_label_csv(tmp_path / "labels.csv")


@pytest.mark.parametrize("name", ["größe", "left/right", "Ammon's horn", "軟骨", "x^2_(a)"])
def test_class_names_of_any_language(tmp_path, name):
    (tmp_path / "labels.csv").write_text(f"number,name\n1,{name}\n", encoding="utf-8")
    assert list(read_label_csv(tmp_path / "labels.csv")) == ["background", class_name(name)]


@pytest.mark.parametrize("digits", ["9" * 4000, "9223372036854775808", "1" * 20])
def test_numbers_that_no_label_map_can_hold(tmp_path, digits):
    (tmp_path / "labels.csv").write_text(f"number,name\n{digits},a\n")
    with pytest.raises(DataError, match="line 2: the label number .* is too large") as error:
        read_label_csv(tmp_path / "labels.csv")
    assert len(str(error.value)) < 300
    (tmp_path / "dataset.json").write_text(f'{{"labels": {{"a": {digits}}}}}')
    with pytest.raises(DataError, match="too large|digits"):
        read_dataset_json(tmp_path / "dataset.json")
    assert find_class({"background": (0,), "a": (1,)}, digits) is None


def test_largest_label_number(tmp_path):
    (tmp_path / "labels.csv").write_text(f"number,name\n{2**63 - 1},a\n")
    assert read_label_csv(tmp_path / "labels.csv")["a"] == (2**63 - 1,)


@pytest.mark.parametrize("text", [DEEP, "[" * 100_000, '{"labels": {"a": ' + "[" * 100_000])
def test_deeply_nested_dataset_json(tmp_path, text):
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(DataError, match="no description of a data set"):
        read_dataset_json(tmp_path / "dataset.json")
