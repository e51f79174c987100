"""Several workers end with the networks that one device has, also where one of them dies.

Several devices: tests/conformance and tests/methods/test_deepatlas_pairs.py.
"""

import contextlib
import dataclasses
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from deepatlas_tf.cli import main
from deepatlas_tf.datasets.load import load_dataset
from deepatlas_tf.experiments import get_experiment
from deepatlas_tf.keras_stack import tf
from deepatlas_tf.models.build import load_net
from deepatlas_tf.runs.folder import net_path
from deepatlas_tf.streams.augment import Augmentation
from deepatlas_tf.training import strategy as strategies
from deepatlas_tf.training.loop import train_experiment
from deepatlas_tf.types import SettingError

# Sums in another order differ in the last bit, and Adam makes more of it: 2e-6 after 8 steps at a rate of 1e-3.
# At the rate of 1e-4 that is used here with 12 steps, other samples would make a difference of up to 1e-3.
TOLERANCE = 1e-5


def weights(workdir, stage, nets):
    return [w for name in nets for w in load_net(net_path(workdir, stage, name)).get_weights()]


def assert_equal_networks(workdirs, stage, nets):
    for one, other in zip(*(weights(workdir, stage, nets) for workdir in workdirs), strict=True):
        np.testing.assert_allclose(one, other, atol=TOLERANCE)


def train_jointly(folder, workdir, strategy=None):
    """Through the loop: both networks in turns, with augmentation. A worker is a process that calls this."""
    strategy = strategies.get_strategy(strategy) if isinstance(strategy, str) else strategy
    dataset = load_dataset("phantom_knee", data_dir=folder, shape=(16, 16), spacing=(8, 8), n_subjects=8)
    tiny = get_experiment("phantom_knee", tiny=True)
    turns = {"registration": 2, "segmentation": 1}
    stage = dataclasses.replace(
        tiny.stages[-1], start_from={}, pseudo_from={}, turns=turns, batch_size=2, augmentation=Augmentation(), epochs=1
    )
    train_experiment(dataclasses.replace(tiny, stages=(stage,)), dataset, Path(workdir), strategy)


@pytest.fixture(scope="module")
def jointly_by_one(tmp_path_factory):
    """The folder of the data, with the run ``one`` of a single device."""
    folder = tmp_path_factory.mktemp("jointly")
    train_jointly(folder, folder / "one")
    return folder


@pytest.mark.long
def test_two_workers_train_what_one_device_does(jointly_by_one, tmp_path):
    """A worker may have a pair of another case of labels than the other one, and so another branch of the turn."""
    call = (
        f"import test_strategy; test_strategy.train_jointly({str(jointly_by_one)!r}, {str(tmp_path)!r}, 'multi_worker')"
    )
    workers = start_workers(tmp_path, [sys.executable, "-c", call], cwd=Path(__file__).parent)
    try:
        assert [worker.wait(timeout=600) for worker in workers] == [0, 0], (tmp_path / "worker0.log").read_text()
    finally:
        end(workers)
    assert_equal_networks([jointly_by_one / "one", tmp_path], "deepatlas", ("registration", "segmentation"))


def arguments(folder, workdir):
    settings = ["data.shape=(16,16)", "data.spacing=(8,8)", "data.n_subjects=8", "stages.*.batch_size=2"]
    settings += [f"stages.segmentation_baseline.{s}" for s in ("steps=12", "epochs=6")]
    settings += ["stages.segmentation_baseline.learning_rates.segmentation=1e-4"]
    options = ["--method", "segmentation", "--data-dir", str(folder / "data"), "--workdir", str(folder / workdir)]
    return ["train", "--tiny", *options, *(text for s in settings for text in ("--set", s))]


def start_workers(folder, command, **options):
    """The command in two processes, which find each other on free ports of this machine."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("localhost", 0))) for _ in range(2)]
        hosts = [f"localhost:{s.getsockname()[1]}" for s in sockets]
    workers = []
    for index in range(2):
        config = {"cluster": {"worker": hosts}, "task": {"type": "worker", "index": index}}
        environment = {**os.environ, "TF_CONFIG": json.dumps(config)}
        with (folder / f"worker{index}.log").open("a") as log:
            workers.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log, **options))
    return workers


def end(workers):
    for worker in workers:
        worker.kill()
        worker.wait()


@pytest.mark.long
def test_two_workers_of_which_one_dies_train_what_one_does(tmp_path):
    with contextlib.redirect_stdout(io.StringIO()):
        assert main(arguments(tmp_path, "one")) == 0
    stage = tmp_path / "two" / "segmentation_baseline"
    command = [sys.executable, "-m", "deepatlas_tf", *arguments(tmp_path, "two"), "--strategy", "multi_worker"]
    workers = start_workers(tmp_path, command)
    try:
        while not list(stage.glob("checkpoints/epoch-*.index")):
            assert all(worker.poll() is None for worker in workers), (tmp_path / "worker0.log").read_text()
            time.sleep(0.05)
        workers[1].send_signal(signal.SIGKILL)
        assert workers[0].wait(timeout=120) == 1, "the chief cannot go on alone"
        assert (tmp_path / "worker0.log").read_text().splitlines()[-1].startswith("error: another worker has ended: ")
        assert not (stage / "nets").exists(), "it was killed too late for this test"
        workers = start_workers(tmp_path, command)
        assert [worker.wait(timeout=240) for worker in workers] == [0, 0], (tmp_path / "worker0.log").read_text()
    finally:
        end(workers)
    assert (tmp_path / "two" / "evaluation" / "summary.json").exists()
    rows = [json.loads(line) for line in (stage / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(2, 14, 2))
    assert_equal_networks([tmp_path / "one", tmp_path / "two"], "segmentation_baseline", ["segmentation"])


@pytest.mark.parametrize(
    "text",
    [None, "", "{", "[]", '{"cluster": {"worker": ["a:1"]}}']
    + ['{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}']
    + ['{"cluster": {"ps": ["a:1"], "worker": ["b:1"]}, "task": {"type": "ps", "index": 0}}'],
)
def test_a_tf_config_that_names_no_workers_is_refused(text, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if text is not None:
        monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(SettingError, match="needs the environment variable TF_CONFIG, such as {"):
        strategies.get_strategy("multi_worker")


def test_an_unknown_strategy_is_refused():
    with pytest.raises(SettingError, match="none, mirrored, multi_worker, not 'horovod'"):
        strategies.get_strategy("horovod")


def test_a_batch_that_cannot_be_shared_is_refused():
    devices = [device.name for device in tf.config.list_logical_devices("CPU")][:2]
    two = tf.distribute.MirroredStrategy(devices)
    strategies.check_batch("joint", 4, two)
    with pytest.raises(
        SettingError, match=r"batch of 3 cannot be shared by 2 devices.*joint.batch_size=4.*\*.batch_size=4"
    ):
        strategies.check_batch("joint", 3, two)


def test_one_device_is_the_chief_and_waits_for_nobody():
    one = strategies.get_strategy("none")
    assert strategies.is_chief(one) and strategies.value_of_chief(one, 7) == 7
    with strategies.chief_first(one):
        assert one is tf.distribute.get_strategy()
