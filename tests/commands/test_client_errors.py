"""The REST client of ``examples/`` where something is wrong: one line, and the result's place is looked at first."""

import http.server
import json
import socket
import subprocess
import sys
import threading
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))
from scan_grid import save_labels, to_model_grid  # noqa: E402

pytestmark = pytest.mark.slow  # each starts a program
ABOUT = {"class_names": ["background", "a"], "shape": [12, 12, 12], "spacing": [2, 2, 2]}


@pytest.fixture
def server():
    """One that has no such model, as TensorFlow Serving says it: its URL, and how often it was asked."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):  # noqa: N802, the name in http.server
            asked.append(self.rfile.read(int(self.headers["Content-Length"])))
            body = {"error": "Servable not found for request: Latest(nothing)\nmore"} if "nothing" in self.path else {}
            self.send_response(404 if body else 200)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_):
            pass

    running = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}", asked
    running.shutdown()
    running.server_close()


def closed_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.mark.parametrize(
    ("changed", "hint", "n_asked"),
    [
        ({"--server": "closed"}, "does not answer", 0),
        ({"--server": "localhost:8501"}, "does not answer", 0),
        ({"--model": "nothing"}, "404: Not Found. Servable not found for request: Latest(nothing)", 1),
        ({"--model": "other"}, "is not TensorFlow Serving's REST interface", 1),
        ({"--metadata": "no.json"}, "cannot read no.json", 0),
        ({"scan": "no.nii.gz"}, "cannot read no.nii.gz", 0),
        ({"scan": "about.json"}, "cannot read about.json", 0),
        ({"labels": "absent/labels.nii.gz"}, "there is no folder absent: make it first", 0),
        ({"labels": "labels.png"}, "must end in .nii or .nii.gz", 0),
    ],
)
def test_it_is_one_line(changed, hint, n_asked, server, tmp_path, write_nifti):
    write_nifti(tmp_path / "scan.nii.gz", np.random.default_rng(0).random((12, 12, 12)), np.diag([2.0, 2, 2, 1]))
    (tmp_path / "about.json").write_text(json.dumps(ABOUT))
    call = {"scan": "scan.nii.gz", "labels": "labels.nii.gz", "--metadata": "about.json", "--server": server[0]}
    call |= changed
    if call["--server"] == "closed":
        call["--server"] = f"http://127.0.0.1:{closed_port()}"
    options = [word for name, value in call.items() if name.startswith("--") for word in (name, value)]
    program = [sys.executable, EXAMPLES / "rest_client.py", call["scan"], call["labels"], *options]
    result = subprocess.run(program, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 1 and hint in result.stderr and result.stderr.count("\n") == 1, result.stderr
    assert len(server[1]) == n_asked and {path.name for path in tmp_path.iterdir()} == {"scan.nii.gz", "about.json"}


def test_what_the_model_is_not_shown_is_background(tmp_path):
    """As with ``deepatlas segment``: the model's grid is padded, and may reach into a border that was cut off."""
    volume = np.pad(1 + np.random.default_rng(0).random((8, 9, 10)), ((9, 0), (0, 0), (0, 0))).astype(np.float32)
    scan = nib.Nifti1Image(volume, np.diag([-2.0, 2, 2, 1]))
    grid = to_model_grid(scan, ABOUT)
    assert grid.shape == (12, 12, 12)  # four planes more than it is shown
    save_labels(np.ones((1, *grid.shape), int), grid, scan, tmp_path / "labels.nii", ABOUT)
    np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / "labels.nii").dataobj), volume > 0)
