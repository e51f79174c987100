"""A damaged file of a run is one line that names it and says what to do."""

import json
import zipfile

import pytest

from deepatlas_tf.keras_stack import keras
from deepatlas_tf.models.build import load_net
from deepatlas_tf.runs.files import read_json, read_json_lines, read_rows, write_rows
from deepatlas_tf.runs.folder import RunFolder
from deepatlas_tf.runs.model import TrainedModel
from deepatlas_tf.types import DataError

STAGE = {"name": "s", "method": "segmentation", "turns": {}, "weights": {}, "steps": 9, "epochs": 3}
ROW = {"method": "deepatlas", "subject": "s", "class": "femur", "dice": 0.5}


def line_of(function, *arguments):
    with pytest.raises(DataError) as caught:
        function(*arguments)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 400
    return text


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe\x00", b"[1, 2}"])
@pytest.mark.parametrize("read", [read_json, read_json_lines])
def test_json(read, content, tmp_path):
    path = tmp_path / "model.json"
    path.write_bytes(content)
    if read is read_json_lines and not content:
        assert read(path) == []
        return
    text = line_of(read, path)
    assert str(path) in text and "delete it and run the training command again" in text


def test_json_that_is_not_there(tmp_path):
    assert "No such file" in line_of(read_json, tmp_path / "model.json")
    assert read_json_lines(tmp_path / "metrics.jsonl") == []


@pytest.mark.parametrize("content", ["{}", "[]", '{"experiment": []}', '{"experiment": {"stages": []}}'])
def test_settings_of_nothing(content, tmp_path):
    (tmp_path / "experiment.json").write_text(content)
    assert "it has no settings of an experiment" in line_of(RunFolder(tmp_path).settings)
    (tmp_path / "model.json").write_text("{}")
    assert "experiment.json" in line_of(TrainedModel, tmp_path)


def test_a_model_file_without_its_grid(tmp_path):
    (tmp_path / "experiment.json").write_text(json.dumps({"experiment": {"data": {"dataset": "d"}, "stages": [STAGE]}}))
    (tmp_path / "model.json").write_text('{"class_names": ["background"]}')
    assert "model.json (it has no class_names, shape, spacing)" in line_of(TrainedModel, tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-3],  # the last number is cut: "0." is one still, "" is none
        lambda text: text.replace("0.5", "half"),
        lambda text: text.replace(",0.5", ""),
        lambda text: text + 'deepatlas,"s',
    ],
)
def test_rows(change, tmp_path):
    path = tmp_path / "run" / "evaluation" / "segmentation.csv"
    write_rows(path, [ROW, ROW])
    text = path.read_text().rstrip("\n")
    path.write_text(change(text))
    assert f"write it again with deepatlas evaluate {tmp_path / 'run'}" in line_of(read_rows, path)


def test_rows_come_back(tmp_path):
    write_rows(tmp_path / "a.csv", [ROW])
    assert read_rows(tmp_path / "a.csv") == [ROW]
    write_rows(tmp_path / "b.csv", [])
    assert read_rows(tmp_path / "b.csv") == []


@pytest.mark.parametrize("damage", ["empty", "half", "no_weights"])
def test_a_network(damage, tmp_path):
    path = tmp_path / "deepatlas" / "nets" / "segmentation.keras"
    path.parent.mkdir(parents=True)
    keras.Sequential([keras.layers.Dense(2, input_shape=(3,))]).save(path, save_format="keras")
    data = path.read_bytes()
    if damage == "no_weights":
        with zipfile.ZipFile(path) as whole:
            kept = {name: whole.read(name) for name in whole.namelist() if not name.endswith(".h5")}
        with zipfile.ZipFile(path, "w") as file:
            for name, content in kept.items():
                file.writestr(name, content)
    else:
        path.write_bytes(data[: len(data) // 2] if damage == "half" else b"")
    text = line_of(load_net, path)
    assert str(path) in text and f"delete {path.parent}" in text
