"""Preparation with Apache Beam: the same bytes in the same order as in one process, and the same errors.

Without Apache Beam (the extra [beam]) only what Beam's workers are sent is tested.
"""

import importlib.util
import os
import pickle
import socket
import subprocess
import sys
import time
from contextlib import closing
from types import SimpleNamespace

import numpy as np
import pytest

from deepatlas_tf.cli import main
from deepatlas_tf.datasets import beam
from deepatlas_tf.datasets.choose_grid import WantedGrid
from deepatlas_tf.datasets.load import builder_and_config, load_dataset, prepared_builder
from deepatlas_tf.datasets.nifti.nifti_dataset_builder import prepared_builder as own_scans_builder
from deepatlas_tf.datasets.phantom_knee.phantom_knee_dataset_builder import Builder as PhantomKnee
from deepatlas_tf.datasets.prepare import prepare
from deepatlas_tf.keras_stack import tf, tfds
from deepatlas_tf.types import DataError, MissingDataError, SettingError

needs_beam = pytest.mark.skipif(
    importlib.util.find_spec("apache_beam") is None, reason="Apache Beam is not installed: pip install '.[beam]'"
)
IDS = [f"case_{n:02d}" for n in range(8)]
PHANTOMS = {"shape": (10, 12), "spacing": (12.0, 12.0)}
IN_PROCESS, IN_WORKERS = (
    "runner=DirectRunner",
    "runner=DirectRunner,direct_num_workers=2,direct_running_mode=multi_processing",
)


def records(builder) -> dict[str, list[bytes]]:
    """The serialised records of each split, in order."""
    found = {}
    for split in ("train", "validation", "test"):
        files = sorted(map(str, builder.data_path.glob(f"*-{split}.tfrecord*")))
        stored = tf.data.TFRecordDataset(files).as_numpy_iterator()
        # the order of a record's entries is each process's own, and says nothing
        found[split] = [tf.train.Example.FromString(record).SerializeToString(deterministic=True) for record in stored]
    return found


def phantoms(folder, n_subjects, options=None):
    options = options and beam.pipeline_options(options)
    return prepared_builder("phantom_knee", folder, n_subjects=n_subjects, beam=options, **PHANTOMS)


# ------------------------------------------------------------------------------------------------------ without Beam


@pytest.mark.parametrize("name", ["phantom_knee/partial", "phantom_knee/t1_t2", "hippocampus"])
def test_a_worker_reads_what_the_first_process_found(tmp_path, write_scans, name):
    folder = write_scans(tmp_path / "scans", IDS, unlabelled=IDS[:2]) if name == "hippocampus" else None
    builder_class, config = builder_and_config(name, (12, 12, 12), (10, 10, 10))
    builder = builder_class(config=config, data_dir=str(tmp_path))
    builder._split_generators(SimpleNamespace(manual_dir=folder))
    splits = builder.info.metadata["subjects"]
    copy = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(builder))))  # Beam does it several times
    for subject in (splits["train"][0], splits["train"][-1], splits["test"][0]):
        here, there = builder._record(subject), copy._record(subject)
        assert here.keys() == there.keys()
        for key in here:
            np.testing.assert_array_equal(here[key], there[key])


def test_a_builder_is_found_under_the_package(tmp_path, monkeypatch):
    """``tfds build`` in the folder imports the module by another name, which no worker knows."""
    builder = PhantomKnee(data_dir=str(tmp_path))
    monkeypatch.setattr(PhantomKnee, "__module__", "phantom_knee.phantom_knee_dataset_builder")
    assert builder.__reduce__()[1][0] == "deepatlas_tf.datasets.phantom_knee.phantom_knee_dataset_builder"
    monkeypatch.setattr(PhantomKnee, "__module__", "somewhere.else_builder")
    assert builder.__reduce__()[1][0] == "somewhere.else_builder"


def test_beam_that_is_missing_is_named(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    arguments = ["data", "prepare", "phantom_knee", "--data-dir", str(tmp_path / "data"), "--beam-options", IN_PROCESS]
    assert main(arguments) == 2
    assert "pip install -e '.[beam]'" in capsys.readouterr().err and not (tmp_path / "data").exists()


@pytest.mark.parametrize("text", ["", "runner=", "runner=a,,b=c", "--runner=a", "runner = a"])
def test_unreadable_options(text):
    with pytest.raises(SettingError, match="name=value"):
        beam.pipeline_options(text)


def test_errors_of_workers_become_plain(tmp_path):
    """A runner passes the text of a traceback on; nothing else in it may be taken for the error."""
    text = (
        "Traceback:\n  File 'a.py'\nPermissionError: [Errno 13] Permission denied: '/data/x.nii' [while running 'a']\n"
    )
    with pytest.raises(PermissionError) as error, beam.plain_errors(str(tmp_path)):
        raise RuntimeError(text)
    assert error.value.filename == "/data/x.nii" and error.value.errno == 13
    with pytest.raises(RuntimeError, match="^some other$"), beam.plain_errors(str(tmp_path)):
        raise RuntimeError("some other")
    beam._write([(3, "subject c: bad"), (1, "subject a: bad")], str(tmp_path / "bad-scans-train.txt"))
    beam._write([], str(tmp_path / "bad-scans-test.txt"))
    with pytest.raises(DataError, match=r"^subject a: bad \(and 1 more like it\)$"), beam.plain_errors(str(tmp_path)):
        raise RuntimeError(text)


def test_prepared_data_are_used_by_train(tmp_path, capsys):
    options = ["--data-dir", str(tmp_path / "data"), "--set", "data.shape=(24, 24)", "--set", "data.spacing=(5, 5)"]
    assert main(["data", "prepare", "phantom_knee", *options, "--set", "data.n_subjects=8"]) == 0
    assert "4 train, 2 validation, 2 test" in capsys.readouterr().out
    prepared = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.tfrecord*")}
    data = load_dataset("phantom_knee", data_dir=tmp_path / "data", shape=(24, 24), spacing=(5, 5), n_subjects=8)
    assert len(list(data.samples("train"))) == 4
    assert prepared == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.tfrecord*")}


def test_own_scans_are_prepared_by_their_list(tmp_path, own_scans, capsys):
    options = ["--manual-dir", str(own_scans()), "--data-dir", str(tmp_path / "data")]
    assert main(["data", "prepare", "nifti", *options]) == 0
    assert "train" in capsys.readouterr().out and list((tmp_path / "data").rglob("*.tfrecord*"))
    assert main(["data", "prepare", "nifti", *options[:2]]) == 2
    assert "--data-dir" in capsys.readouterr().err


# --------------------------------------------------------------------------------------------------------- with Beam


@needs_beam
def test_shards_keep_the_order(tmp_path):
    """One file in this process, four from Beam's."""
    here = phantoms(tmp_path / "here", 40)
    config = tfds.download.DownloadConfig(
        try_download_gcs=False, num_shards=4, beam_options=beam.pipeline_options(IN_PROCESS)
    )
    there = PhantomKnee(config=here.builder_config, data_dir=str(tmp_path / "there"))
    there.download_and_prepare(download_config=config)
    assert len(list(there.data_path.glob("*-train.tfrecord*"))) == 4
    assert records(here) == records(there) and len(records(here)["train"]) == 30
    assert there.info.metadata["partial_labels"] and not here.info.metadata["partial_labels"]  # workers cannot say


@needs_beam
@pytest.mark.slow
def test_two_hundred_subjects_in_two_processes(tmp_path):
    here = phantoms(tmp_path / "here", 200)
    there = phantoms(tmp_path / "there", 200, IN_WORKERS)
    assert records(here) == records(there) and len(records(here)["train"]) == 148
    names = [record["subject"].decode() for record in there.as_dataset("train").as_numpy_iterator()]
    assert names == list(there.info.metadata["subjects"]["train"])


@pytest.fixture
def cluster(tmp_path):
    """Options for Beam's own job server with a pool of workers: processes of their own, as Flink's and Spark's are."""
    ports = []
    for _ in range(2):
        with closing(socket.socket()) as listener:
            listener.bind(("localhost", 0))
            ports.append(listener.getsockname()[1])
    folder = os.path.dirname(sys.executable)
    environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}  # the pool starts "python"
    commands = (
        ["apache_beam.runners.portability.local_job_service_main", "--port", str(ports[0])],
        ["apache_beam.runners.worker.worker_pool_main", "--service_port", str(ports[1])],
    )
    with open(tmp_path / "cluster.log", "w") as log:
        servers = [
            subprocess.Popen([sys.executable, "-m", *command], stdout=log, stderr=log, env=environment)
            for command in commands
        ]
        for port in ports:
            _wait_for(port)
        place = f"job_endpoint=localhost:{ports[0]},environment_type=EXTERNAL,environment_config=localhost:{ports[1]}"
        yield f"runner=PortableRunner,{place}"
        for server in servers:
            server.terminate()
            server.wait(timeout=20)


def _wait_for(port: int) -> None:
    for _ in range(120):
        with closing(socket.socket()) as client:
            if client.connect_ex(("localhost", port)) == 0:
                return
        time.sleep(0.5)
    raise TimeoutError(f"nothing listens at {port}")


@needs_beam
@pytest.mark.slow
def test_two_hundred_subjects_by_a_job_server(tmp_path, cluster, write_scans, write_nifti):
    here = phantoms(tmp_path / "here", 200)
    there = phantoms(tmp_path / "there", 200, cluster)
    assert records(here) == records(there) and len(records(here)["train"]) == 148
    _bad_scans_give_one_line(tmp_path, write_scans, write_nifti, cluster)


@needs_beam
def test_bad_scans_give_one_line(tmp_path, write_scans, write_nifti):
    _bad_scans_give_one_line(tmp_path, write_scans, write_nifti, IN_PROCESS)


def _bad_scans_give_one_line(tmp_path, write_scans, write_nifti, options):
    folder = write_scans(tmp_path / "scans", IDS)
    for subject in ("case_02", "case_05"):
        write_nifti(folder / "labelsTr" / f"{subject}.nii.gz", np.full((10, 10, 10), 9, np.uint8))
    messages = []
    for chosen in (None, beam.pipeline_options(options)):
        with pytest.raises(DataError) as error:
            prepared_builder("hippocampus", tmp_path / "tfds", folder, chosen, shape=(12, 12, 12), spacing=(1, 1, 1))
        messages.append(str(error.value))
    assert messages[1] == f"{messages[0]} (and 1 more like it)" and "\n" not in messages[1]
    assert not list(tmp_path.glob("tfds/**/*"))


class Unreadable(PhantomKnee, skip_registration=True):
    """A worker may not read one of the files."""

    def read(self, subject):
        raise PermissionError(13, "Permission denied", "/data/knee.nii.gz")


@needs_beam
def test_what_the_system_refuses_a_worker(tmp_path):
    config = Unreadable.config_for((12, 12), (10, 10), 8)
    with pytest.raises(DataError, match="no permission for /data/knee.nii.gz; change it"):
        prepare(Unreadable, config, tmp_path / "data", None, beam.pipeline_options(IN_PROCESS))
    assert not (tmp_path / "data").exists()


@needs_beam
def test_own_scans_with_beam(tmp_path, own_scans):
    listed, options = own_scans(n=6, unlabelled=(1,)), beam.pipeline_options(IN_PROCESS)
    grid = WantedGrid((8, 8, 8), (1, 1, 1))
    here = own_scans_builder(listed, tmp_path / "here", grid)
    there = own_scans_builder(listed, tmp_path / "there", grid, options)
    assert records(here) == records(there) and len(records(here)["train"]) == 5


def test_missing_scans_are_missing_with_beam_too(tmp_path):
    pytest.importorskip("apache_beam", reason="Apache Beam is not installed: pip install '.[beam]'")
    with pytest.raises(MissingDataError, match="Looked in"):
        prepared_builder("hippocampus", tmp_path, tmp_path / "none", beam=beam.pipeline_options(IN_PROCESS))
