"""The room of scans is NumPy only: a tool that reads or writes a scan does not wait for TensorFlow."""

import pkgutil
import subprocess
import sys

import deepatlas_tf.scans


def test_no_module_of_scans_imports_tensorflow():
    modules = [f"deepatlas_tf.scans.{found.name}" for found in pkgutil.iter_modules(deepatlas_tf.scans.__path__)]
    assert "deepatlas_tf.scans.nifti" in modules
    code = f"import sys, {', '.join(modules)}\nprint('tensorflow' in sys.modules, 'keras' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
