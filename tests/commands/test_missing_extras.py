"""What an option needs and is not installed is said at once: before a model is read or TensorFlow imported."""

import subprocess
import sys

import pytest

CODE = """
import sys
sys.modules[sys.argv[1]] = None
from deepatlas_tf.cli import main
status = main(sys.argv[2:])
sys.exit(10 * ("tensorflow" in sys.modules) + status)
"""


@pytest.mark.parametrize(
    ("package", "arguments", "status", "hint"),
    [
        (
            "SimpleITK",
            ["register", "a.nii", "b.nii", "--model", "x", "-o", "y", "--affine"],
            1,
            "pip install -e '.[itk]'",
        ),
        ("SimpleITK", ["register", "a.nii", "b.nii", "--model", "x", "-o", "y", "--format", "itk"], 1, "SimpleITK"),
        ("fpdf", ["report", "x", "-o", "x.pdf"], 2, "pip install fpdf2"),
    ],
)
def test_it_is_noticed_before_work_begins(package, arguments, status, hint, tmp_path):
    call = [sys.executable, "-c", CODE, package, *arguments]
    result = subprocess.run(call, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == status and hint in result.stderr, result.stderr
    assert not list(tmp_path.iterdir())
