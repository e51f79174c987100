"""Two runs in one folder: the second is refused, and a process that was killed leaves nothing that is held."""

import signal
import subprocess
import sys

import pytest

from deepatlas_tf.runs.lock import locked
from deepatlas_tf.types import DataError

HOLD = """
import sys, pathlib, time
from deepatlas_tf.runs.lock import locked
with locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_second_is_refused_until_the_first_is_killed(tmp_path):
    path = tmp_path / "run" / ".lock"
    first = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout.readline() == "held\n"
        message = f"process {first.pid} is training in {path.parent}: wait for it, or choose another --workdir"
        with pytest.raises(DataError) as caught, locked(path):
            pass
        assert str(caught.value) == message
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    with locked(path):
        pass


def test_it_is_free_again_after_an_error(tmp_path):
    with pytest.raises(KeyError), locked(tmp_path / ".lock"):
        raise KeyError
    with locked(tmp_path / ".lock"), pytest.raises(DataError), locked(tmp_path / ".lock"):
        pass
