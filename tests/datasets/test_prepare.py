"""Building once, whole or not at all. The data set is a tiny one made here, of random numbers."""

import errno
import importlib
import pathlib
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest

from deepatlas_tf.datasets.prepare import is_prepared, prepare
from deepatlas_tf.datasets.volume_builder import VolumeBuilder, volume_config
from deepatlas_tf.keras_stack import tf
from deepatlas_tf.types import DataError, MissingDataError

CONFIG = volume_config((8, 8), (1, 1))
SUBJECTS = {"train": ["a", "b"], "validation": ["c"], "test": ["d"]}


class Random(VolumeBuilder, skip_registration=True):
    """``trouble`` is called with each subject, and may raise."""

    pkg_dir_path = pathlib.Path(__file__).parent
    name = "random"
    BUILDER_CONFIGS = [CONFIG]
    CLASS_NAMES = ("background", "one")
    SYNTHETIC = True
    trouble = staticmethod(lambda subject: None)

    def find_subjects(self, manual_dir):
        return SUBJECTS, {"a"}

    def read(self, subject):
        self.trouble(subject)
        image = np.random.default_rng(ord(subject)).uniform(size=(8, 8))
        return {"image": image, "label": np.ones((8, 8), np.uint8), "affine": np.eye(3)}


def images(builder):
    return {
        r["subject"].decode(): r["image"] for s in SUBJECTS for r in builder.as_dataset(split=s).as_numpy_iterator()
    }


def everything_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def raising(error):
    def trouble(subject):
        if subject == "b":
            raise error

    return staticmethod(trouble)


@pytest.mark.slow
def test_built_once_and_read_again(tmp_path, monkeypatch, capsys):
    first = prepare(Random, CONFIG, tmp_path / "data")
    assert is_prepared(first.data_dir) and set(images(first)) == set("abcd")
    assert first.info.metadata["subjects"] == SUBJECTS
    monkeypatch.setattr(Random, "trouble", raising(AssertionError("read again")))
    again = prepare(Random, CONFIG, tmp_path / "data")
    np.testing.assert_equal(images(again), images(first))
    assert again.info.metadata["subjects"] == SUBJECTS and capsys.readouterr() == ("", "")
    assert not (tmp_path / "data" / "downloads").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (DataError("subject b: x.nii is bad"), ["subject b: x.nii is bad"]),
        (OSError(errno.ENOSPC, "No space left on device"), ["random", "no space left", "free some"]),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), ["no space left"]),
        (tf.errors.ResourceExhaustedError(None, None, "No space left on device"), ["no space left"]),
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), ["no permission for /x/y"]),
        (OSError(errno.EROFS, "Read-only file system"), ["no permission for"]),
        (tf.errors.PermissionDeniedError(None, None, "denied"), ["no permission for"]),
        (OSError(errno.EIO, "Input/output error"), ["Input/output error"]),
        (tf.errors.UnknownError(None, None, "first\nsecond"), ["(first second)"]),
    ],
    ids=str,
)
@pytest.mark.parametrize("existed", [False, True])
def test_failure_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, error, words, existed):
    data = tmp_path / "data"
    if existed:
        data.mkdir()
    monkeypatch.setattr(Random, "trouble", raising(error))
    with pytest.raises(DataError) as found:
        prepare(Random, CONFIG, data)
    message = str(found.value)
    assert all(word in message for word in words) and "\n" not in message
    assert isinstance(error, DataError) or str(data) in message
    assert data.exists() == existed and (not existed or everything_in(data) == [])


def test_failure_leaves_what_was_there_before(tmp_path, monkeypatch):
    prepare(Random, CONFIG, tmp_path / "data")
    before = everything_in(tmp_path)
    monkeypatch.setattr(Random, "trouble", raising(DataError("bad")))
    with pytest.raises(DataError, match="^bad$"):
        prepare(Random, volume_config((8, 8), (2, 2)), tmp_path / "data")
    assert everything_in(tmp_path) == before


def test_other_errors_and_ctrl_c_pass_and_leave_nothing(tmp_path, monkeypatch):
    for error in (KeyboardInterrupt(), RuntimeError("a mistake in the code")):
        monkeypatch.setattr(Random, "trouble", raising(error))
        with pytest.raises(type(error)):
            prepare(Random, CONFIG, tmp_path / "data")
        assert everything_in(tmp_path) == []


def test_missing_scans_say_where_it_was_looked(tmp_path, monkeypatch):
    monkeypatch.setattr(Random, "find_subjects", lambda self, _: (_ for _ in ()).throw(MissingDataError("get x")))
    with pytest.raises(MissingDataError, match=f"^get x\nLooked in: {tmp_path}$"):
        prepare(Random, CONFIG, tmp_path / "data", tmp_path)


def test_disk_full_where_tfds_writes(tmp_path, monkeypatch):
    """The error comes from the writer of the records, as it would."""

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    writer = importlib.import_module("tensorflow_datasets.core.writer")
    monkeypatch.setattr(writer.Writer, "finalize", full)
    with pytest.raises(DataError, match="no space left"):
        prepare(Random, CONFIG, tmp_path / "data")
    assert everything_in(tmp_path) == []


def test_files_cannot_grow(tmp_path):
    """The operating system itself refuses to write more than 1,000 bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(DataError) as error:
            prepare(Random, CONFIG, tmp_path / "data")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "random: cannot prepare" in str(error.value) and "File too large" in str(error.value)
    assert everything_in(tmp_path) == []


@pytest.mark.slow
def test_two_at_once_end_with_one_copy(tmp_path, monkeypatch):
    """While the first reads its last subject, a second one builds all; the first then finds its place taken."""
    built = []

    def trouble(subject):
        if subject == "d" and not built:
            built.append(None)
            built.append(prepare(Random, CONFIG, tmp_path / "data"))

    monkeypatch.setattr(Random, "trouble", staticmethod(trouble))
    first = prepare(Random, CONFIG, tmp_path / "data")
    np.testing.assert_equal(images(first), images(built[1]))
    assert first.info.metadata["subjects"] == SUBJECTS
    assert not [name for name in everything_in(tmp_path) if "incomplete" in name]


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
import test_prepare
from deepatlas_tf.datasets.prepare import prepare

def kill(subject):
    if subject == "c":
        os.kill(os.getpid(), signal.SIGKILL)

test_prepare.Random.trouble = staticmethod(kill)
prepare(test_prepare.Random, test_prepare.CONFIG, test_prepare.pathlib.Path({data!r}))
"""


@pytest.mark.slow
def test_what_a_killed_preparation_left_is_removed(tmp_path):
    """A process that is killed has no time to clean up; the next preparation of the data set does it."""
    data = tmp_path / "data"
    code = KILLED.format(tests=str(pathlib.Path(__file__).parent), data=str(data))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    left = [name for name in everything_in(data) if "incomplete." in name]
    assert left  # else there is nothing to be tested
    other = volume_config((8, 8), (2, 2))  # also where another grid is asked for now
    prepare(Random, other, data)
    assert not [name for name in everything_in(data) if "incomplete." in name]
    assert sorted(path.name for path in (data / "random").iterdir() if path.name != ".config") == [other.name]


def test_what_a_living_preparation_writes_is_left(tmp_path, monkeypatch):
    """A second preparation, of another grid, begins and ends while the first is at work."""
    seen = []

    def trouble(subject):
        if subject == "c" and not seen:
            seen.append(None)
            prepare(Random, volume_config((8, 8), (2, 2)), tmp_path / "data")
            seen.extend(name for name in everything_in(tmp_path) if "incomplete." in name)

    monkeypatch.setattr(Random, "trouble", staticmethod(trouble))
    first = prepare(Random, CONFIG, tmp_path / "data")
    assert len(seen) > 1 and set(images(first)) == set("abcd")
