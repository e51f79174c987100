"""benchmarks/reliability/load.py with few requests: right answers, wrong requests refused, a server that stays up."""

import numpy as np
import pytest

from deepatlas_tf.cli import main
from deepatlas_tf.keras_stack import tf

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def signatures(small_run, tmp_path_factory):
    out = tmp_path_factory.mktemp("exported") / "knee"
    assert main(["export", str(small_run), "-o", str(out), "-q"]) == 0
    return tf.saved_model.load(str(out / "1")).signatures


@pytest.mark.long
def test_many_clients(scripts, signatures):
    found = scripts.load.measure(signatures, requests=50, clients=8)
    assert found["answers"] == {"right": 45, "wrong refused": 5}


def test_a_wrong_answer_is_seen(scripts, signatures):
    def segment(image):
        found = signatures["segment"](image=image)
        return {
            **found,
            "labels": (found["labels"] + 1) % 3 if image.shape[0] == 1 and calls.pop() else found["labels"],
        }

    calls = [True] * 100 + [False] * 4  # the first four are what is expected
    found = scripts.load.measure({"segment": segment}, requests=9, clients=2)
    assert found["answers"] == {"not right, status 200": 9} and np.isfinite(found["seconds"])
