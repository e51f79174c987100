"""Edited and damaged files of a run: each is one line that names the file, in whatever is read first."""

import copy
import json

import pytest

from deepatlas_tf.cli import main
from deepatlas_tf.evaluation.compare import case_means, summaries
from deepatlas_tf.keras_stack import keras
from deepatlas_tf.models.registration.voxelmorph import registration_net
from deepatlas_tf.models.segmentation.light import light_unet
from deepatlas_tf.runs.folder import RunFolder
from deepatlas_tf.runs.model import open_model
from deepatlas_tf.runs.predict import load_predictors
from deepatlas_tf.runs.summary import read_run
from deepatlas_tf.types import DataError

STAGE = {
    "name": "deepatlas",
    "method": "deepatlas",
    "turns": {"registration": 2, "segmentation": 1},
    "weights": {"registration": {"similarity": 1.0}},
    "steps": 20,
    "epochs": 2,
    "domains": [None, None],
}
SETTINGS = {"experiment": {"data": {"dataset": "phantom_knee", "labels": 3}, "stages": [STAGE], "networks": {}}}
MODEL = {"class_names": ["background", "bone"], "shape": [16, 16], "spacing": [2.0, 2.0], "dataset": "phantom_knee"}
DATA = {**{name: MODEL[name] for name in ("class_names", "shape", "spacing")}, "used_labels": ["a"]} | {
    "subjects": {"train": {"a": "00000000"}, "validation": {}, "test": {}}
}
METRICS = {"epoch": 0, "step": 10, "seconds": 1.5, "val_segmentation_dice": 0.5}
SEGMENTATION = "method,subject,class,dice\ndeepatlas,a,bone,0.5\n"
REGISTRATION = "method,moving,fixed,class,dice,folds_percent\ndeepatlas,a,b,bone,0.5,0\n"
QUALITY = "subject,split,class,confidence,entropy,dice\na,train,bone,0.5,0.1,nan\n"
SUMMARY = {"deepatlas": {"segmentation": {"dice": {"mean": 0.5, "per_class": {"bone": 0.5}}}}}
FILES = {
    "experiment.json": json.dumps(SETTINGS),
    "model.json": json.dumps(MODEL),
    "data.json": json.dumps(DATA),
    "deepatlas/metrics.jsonl": json.dumps(METRICS) + "\n",
    "deepatlas/start.json": '{"val_segmentation_dice": 0.4}',
    "deepatlas/pseudo/quality.csv": QUALITY,
    "evaluation/segmentation.csv": SEGMENTATION,
    "evaluation/registration.csv": REGISTRATION,
    "evaluation/summary.json": json.dumps(SUMMARY),
}
DEEP = "[" * 100_000 + "]" * 100_000


def changed(content, *path, to):
    """A copy of nested dictionaries and lists with one value set; ``to`` of None takes it out."""
    copied = copy.deepcopy(content)
    place = copied
    for key in path[:-1]:
        place = place[key]
    if to is None:
        del place[path[-1]]
    else:
        place[path[-1]] = to
    return json.dumps(copied)


def setting(*path, to):
    return changed(SETTINGS, "experiment", *path, to=to)


BROKEN = [
    *[(name, text) for name in FILES if name.endswith("json") for text in ("", "{", "[]", "null", "7", '"a"', DEEP)],
    *[(name, "\x00\ud800") for name in FILES],
    *[("experiment.json", setting(name, to=to)) for name in ("data", "stages", "networks") for to in (7, "a", [1])],
    ("experiment.json", setting("stages", to=[])),
    ("experiment.json", setting("stages", to=[STAGE, STAGE])),
    ("experiment.json", setting("data", "dataset", to=7)),
    ("experiment.json", setting("data", "labels", to="five")),
    ("experiment.json", setting("evaluation", to={"pairs_per_subject": 0})),
    *[("experiment.json", setting("stages", 0, name, to=None)) for name in ("name", "method", "turns", "weights")],
    *[("experiment.json", setting("stages", 0, "name", to=to)) for to in ("../other", "/etc", "", ".", "a\0b", 7, [])],
    *[("experiment.json", setting("stages", 0, "method", to=to)) for to in ("nothing", "base", 7, {})],
    *[("experiment.json", setting("stages", 0, "turns", to=to)) for to in ([], "a", {"registration": "often"})],
    *[("experiment.json", setting("stages", 0, "weights", to=to)) for to in ([], {"a": 1}, {"a": {"b": "c"}})],
    *[("experiment.json", setting("stages", 0, "steps", to=to)) for to in (0, -1, 1.5, 10**30, "8", None)],
    *[("experiment.json", setting("stages", 0, "epochs", to=to)) for to in (0, True, None)],
    *[("experiment.json", setting("stages", 0, "domains", to=to)) for to in ("ab", [None], [1, 2], {})],
    *[("model.json", changed(MODEL, name, to=None)) for name in ("class_names", "shape", "spacing")],
    *[("model.json", changed(MODEL, "class_names", to=to)) for to in ("ab", [], [1, 2], ["a", "a"], {"a": 1})],
    *[("model.json", changed(MODEL, "class_numbers", to=to)) for to in ([0], [0, 0], [1, 2], [0, -1], [0, "a"], "01")],
    *[("model.json", changed(MODEL, "shape", to=to)) for to in ([16], [16, 0], [16.5, 16], ["a", "b"], 16, [2] * 4)],
    *[("model.json", changed(MODEL, "spacing", to=to)) for to in ([2.0], [2.0, -1], [0, 0], ["a", "b"], [1e999, 1])],
    ("data.json", changed(DATA, "subjects", to={"train": {}})),
    ("data.json", changed(DATA, "used_labels", to="a")),
    *[("deepatlas/metrics.jsonl", text) for text in ("[]\n", "7\n", "{}\n", '{"epoch": 0}\n', "{\n", DEEP)],
    ("deepatlas/metrics.jsonl", changed(METRICS, "seconds", to="long")),
    ("deepatlas/metrics.jsonl", changed(METRICS, "val_segmentation_dice", to=[1])),
    ("deepatlas/metrics.jsonl", changed(METRICS, "seconds", to=10**400)),
    *[("deepatlas/start.json", text) for text in ("[]", '{"val_segmentation_dice": "high"}', "{", DEEP)],
    ("evaluation/segmentation.csv", "a,b\n1,2\n"),
    ("evaluation/segmentation.csv", SEGMENTATION.replace("dice", "overlap")),
    ("evaluation/segmentation.csv", SEGMENTATION.replace("0.5", "half")),
    ("evaluation/registration.csv", SEGMENTATION),
    ("evaluation/registration.csv", REGISTRATION.replace(",0\n", "\n")),
    ("deepatlas/pseudo/quality.csv", SEGMENTATION),
    *[("evaluation/summary.json", changed(SUMMARY, "deepatlas", to=to)) for to in (7, [], {"segmentation": 0.5})],
    ("evaluation/summary.json", changed(SUMMARY, "deepatlas", "segmentation", "dice", to={"mean": "high"})),
    ("evaluation/summary.json", changed(SUMMARY, "deepatlas", "segmentation", "dice", to={})),
]


def write_run(folder, files=None):
    for name, text in {**FILES, **(files or {})}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text.encode("utf-8", "surrogatepass"))
    return folder


def read_everything(folder):
    """All that is read back from a run, besides its networks."""
    run = RunFolder(folder)
    summaries([folder])
    for task in ("segmentation", "registration"):
        case_means([folder], task)
    read_run(folder)
    run.summary()
    open_model(folder)


def test_the_run_itself_can_be_read(tmp_path):
    read_everything(write_run(tmp_path))


@pytest.mark.parametrize("number", range(len(BROKEN)))
def test_a_broken_file_is_one_line(number, tmp_path):
    name, text = BROKEN[number]
    write_run(tmp_path, {name: text})
    with pytest.raises(DataError) as caught:
        read_everything(tmp_path)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 600 and (name.split("/")[-1] in message), message


@pytest.mark.parametrize("command", [["report"], ["evaluate"], ["compare"], ["export", "-o", "out"]])
def test_a_command_ends_with_one_line(command, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "run", {"experiment.json": setting("stages", 0, "method", to="nothing")})
    write_run(tmp_path / "run", {"evaluation/summary.json": "[]"}) if command == ["compare"] else None
    assert main([command[0], str(tmp_path / "run"), *command[1:]]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: cannot read ") and error.count("\n") == 1


NETS = {
    "segmentation": lambda n_classes=2: light_unet((16, 16), n_classes, (2, 4)),
    "registration": lambda: registration_net((16, 16), (2, 2), (2, 2, 2)),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("segmentation", "registration", "message"),
    [
        (NETS["registration"], NETS["registration"], "segmentation.keras holds no segmentation network"),
        (NETS["segmentation"], NETS["segmentation"], "registration.keras holds no registration network"),
        (lambda: NETS["segmentation"](3), NETS["registration"], "knows 3 classes, but model.json names 2"),
    ],
)
def test_networks_that_were_exchanged(segmentation, registration, message, tmp_path):
    folder = RunFolder(write_run(tmp_path)).stage("deepatlas")
    folder.nets.mkdir()
    for name, make in (("segmentation", segmentation), ("registration", registration)):
        make().save(folder.net(name), save_format="keras")
    task = "registration" if "holds no registration" in message else "segmentation"
    model = open_model(tmp_path)
    for read in (lambda: load_predictors(tmp_path), lambda: model.net(task)):
        with pytest.raises(DataError, match=message):
            read()
    keras.backend.clear_session()
