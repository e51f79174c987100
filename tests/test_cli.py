"""The command line as a user meets it: what it prints and how it fails. What a run leaves: tests/notebooks."""

import csv
import logging
import signal
import subprocess
import sys

import pytest

from deepatlas_tf.cli import main
from deepatlas_tf.experiments import get_experiment
from deepatlas_tf.training.same_run import write_settings
from deepatlas_tf.training.settings import set_value

PHANTOM_2D = ["--set", "data.shape=(24, 24)", "--set", "data.spacing=(5, 5)"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Where the 2D phantom is kept: it is prepared once."""
    return tmp_path_factory.mktemp("data")


def _rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.long
def test_a_network_is_trained_on_scans_of_the_decathlon(write_scans, tmp_path, capsys):
    """Small random scans, through TFDS, as a user would call it. Every stage on NIfTI scans: notebooks."""
    scans = write_scans(tmp_path / "Task04_Hippocampus", [f"hippocampus_{i:03d}" for i in range(12)])
    arguments = ["train", "--dataset", "hippocampus", "--manual_dir", str(scans.parent), "--labels", "3", "--tiny"]
    arguments += ["--method", "segmentation"]
    arguments += ["--set", "data.shape=(16, 16, 16)", "--data-dir", str(tmp_path / "data")]
    assert main([*arguments, "--workdir", str(tmp_path / "work")]) == 0
    printed = capsys.readouterr().out
    assert "training subjects, 3 with a label map" in printed and " mm, classes: 2\n" in printed
    rows = _rows(tmp_path / "work" / "evaluation" / "segmentation.csv")
    assert {row["class"] for row in rows} == {"anterior", "posterior"}


@pytest.mark.long
def test_one_method_alone(tmp_path, data):
    arguments = ["train", "--tiny", "--method", "segmentation", "--data-dir", str(data), *PHANTOM_2D]
    assert main([*arguments, "--workdir", str(tmp_path / "work")]) == 0
    assert {p.name for p in (tmp_path / "work").iterdir() if (p / "nets").exists()} == {"segmentation_baseline"}
    assert not (tmp_path / "work" / "figures" / "registration.png").exists()


@pytest.mark.slow
def test_missing_knees_say_what_to_get(tmp_path):
    """In a process of its own: its status and its text."""
    command = [sys.executable, "-m", "deepatlas_tf.train", "--dataset", "oai_knee"]
    command += ["--data-dir", str(tmp_path), "--workdir", str(tmp_path / "work")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    for hint in ("nda.nih.gov", "OAIZIB-CM", "imagesTr/oaizib_NNN_0000.nii.gz", "--dataset phantom_knee"):
        assert hint in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "hint"),
    [
        (["train", "--dataset", "hipocampus"], 2, "hippocampus"),
        (["train", "--set", "data.lables=3"], 2, "labels"),
        (["train", "--method", "voxelmorf"], 2, "voxelmorph"),
        (["train", "--tiny", "--labels", "99"], 1, "99"),
        (["evaluate", "nowhere"], 1, "experiment.json"),
    ],
)
def test_a_wrong_call_is_one_line(arguments, status, hint, tmp_path, capsys, monkeypatch, data):
    monkeypatch.chdir(tmp_path)
    extra = ["--data-dir", str(data)]
    assert main([*arguments, *extra]) == status
    error = capsys.readouterr().err.strip()
    assert hint in error and error.startswith("error: ") and "\n" not in error


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            "data validate scans.csv --hmtl",
            "unrecognized arguments: --hmtl (did you mean --html?); see deepatlas data vali",
        ),
        (
            "train --stepscale=2",
            "unrecognized arguments: --stepscale=2 (did you mean --steps-scale?); see deepatlas train",
        ),
        ("evaluate runs/a b", "unrecognized arguments: b; see deepatlas evaluate --help"),
        ("train --labels few", "argument --labels: invalid int value: 'few'; see deepatlas train --help"),
        ("evaluate", "the following arguments are required: workdir; see deepatlas evaluate --help"),
        ("trian", "argument COMMAND: invalid choice: 'trian' (choose from"),
    ],
)
def test_wrong_arguments_are_one_line(arguments, text, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments.split())
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and error.startswith(f"error: {text}") and error.count("\n") == 1


@pytest.mark.parametrize(
    ("number", "status", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_signal_ends_in_one_line(number, status, word, capsys, monkeypatch):
    def run(args):
        signal.raise_signal(number)
        raise AssertionError("it goes on")

    before = signal.getsignal(signal.SIGTERM)
    interrupts = signal.signal(signal.SIGINT, signal.default_int_handler)  # a program in the background ignores it
    monkeypatch.setattr("deepatlas_tf.commands.methods.run", run)
    try:
        assert main(["methods"]) == status
    finally:
        signal.signal(signal.SIGINT, interrupts)
    assert capsys.readouterr().err == f"{word}: the same command goes on where it can\n"
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_unfinished_run_says_so(tmp_path, data, capsys):
    experiment = get_experiment("phantom_knee", tiny=True)
    for assignment in PHANTOM_2D[1::2]:
        experiment = set_value(experiment, assignment)
    write_settings(experiment, tmp_path)
    assert main(["evaluate", str(tmp_path), "--data-dir", str(data)]) == 1
    assert "no stage of this run is finished" in capsys.readouterr().err


def test_only_the_advice_on_retracing_is_dropped_from_the_log_of_tensorflow(tmp_path):
    assert main(["report", str(tmp_path / "no run")]) != 0
    messages = ("5 out of the last 18 calls to <function f> triggered tf.function retracing.", "something else")
    records = [logging.LogRecord("tensorflow", logging.WARNING, "", 0, text, (), None) for text in messages]
    assert [bool(logging.getLogger("tensorflow").filter(record)) for record in records] == [False, True]


def test_help_is_fast_and_has_examples():
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "deepatlas_tf", "train", "--help"], capture_output=True, text=True
    )
    assert result.returncode == 0 and "--steps-scale" in result.stdout and "examples:" in result.stdout
    assert "tensorflow" not in result.stderr
