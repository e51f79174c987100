"""What keras_stack decides on each of the two stacks, and that the real stack it imports works.

The decisions are tested in a fresh interpreter, as they are made once a process, with empty modules in place of
TensorFlow and the others: so both stacks' decisions are tested on either.
"""

import inspect
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deepatlas_tf import keras_stack

KERAS_STACK = Path(keras_stack.__file__)

PRELUDE = """
import importlib.metadata, importlib.util, os, runpy, sys, types
importlib.metadata.version = lambda name: {tensorflow!r}
for name in ("neurite", "tensorflow_datasets", "voxelmorph", "tensorflow"):
    sys.modules[name] = types.ModuleType(name)
tensorflow = sys.modules["tensorflow"]
tensorflow.keras = types.ModuleType("keras")
tensorflow.autograph = types.SimpleNamespace(experimental=types.SimpleNamespace(do_not_convert=None))
"""
# The module asks sys.modules whether TensorFlow is there already; this finder serves the stand-in later, on import.
NOT_YET_IMPORTED = """
del sys.modules["tensorflow"]
class Finder:
    def find_spec(name, path=None, target=None):
        if name == "tensorflow":
            return importlib.util.spec_from_loader(name, Finder)
    def create_module(spec):
        return tensorflow
    def exec_module(module):
        pass
sys.meta_path.insert(0, Finder)
"""
RUN = """
runpy.run_path({path!r})
print(os.environ.get("TF_USE_LEGACY_KERAS"), os.environ["VXM_BACKEND"], os.environ["NEURITE_BACKEND"])
print(os.environ["TF_ENABLE_ONEDNN_OPTS"])
"""


def run_stack(tensorflow, imported_before=False, **environment):
    """Run keras_stack.py in a fresh interpreter that believes to have this version of TensorFlow."""
    code = PRELUDE.format(tensorflow=tensorflow)
    code += ("" if imported_before else NOT_YET_IMPORTED) + RUN.format(path=str(KERAS_STACK))
    chosen = ("TF_USE_LEGACY_KERAS", "VXM_BACKEND", "NEURITE_BACKEND", "TF_ENABLE_ONEDNN_OPTS")
    kept = {name: value for name, value in os.environ.items() if name not in chosen}
    return subprocess.run(
        [sys.executable, "-c", code], env={**kept, **environment}, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize(("tensorflow", "flag"), [("2.15.1", "None"), ("2.20.0", "1"), ("2.21.0", "1")])
def test_legacy_keras_is_asked_for_only_where_it_exists(tensorflow, flag):
    result = run_stack(tensorflow)
    assert result.stdout.split() == [flag, "tensorflow", "tensorflow", "1"], result.stderr


def test_other_settings_in_the_environment_are_overruled():
    result = run_stack("2.20.0", VXM_BACKEND="pytorch", NEURITE_BACKEND="pytorch", TF_USE_LEGACY_KERAS="0")
    assert result.stdout.split() == ["1", "tensorflow", "tensorflow", "1"], result.stderr


def test_tensorflow_imported_before_with_keras_3_is_an_error_that_says_what_to_do():
    result = run_stack("2.20.0", imported_before=True)
    assert result.returncode == 1
    assert "import deepatlas_tf first" in result.stderr.splitlines()[-1]


def test_tensorflow_imported_before_is_fine_where_its_keras_is_keras_2():
    assert run_stack("2.15.1", imported_before=True).returncode == 0
    assert run_stack("2.20.0", imported_before=True, TF_USE_LEGACY_KERAS="1").returncode == 0


def test_one_keras_for_all():
    keras, vxm = keras_stack.keras, keras_stack.vxm
    assert keras.layers.Layer.__module__.split(".")[0] == ("keras" if sys.version_info < (3, 12) else "tf_keras")
    assert issubclass(vxm.layers.SpatialTransformer, keras.layers.Layer)
    assert issubclass(vxm.networks.Unet, keras.Model)
    assert isinstance(keras.optimizers.Adam().iterations, keras_stack.tf.Variable)  # a Keras 3 variable is not


def test_voxelmorph_warps():
    """A shift by one voxel, to show that the imported voxelmorph computes and not only imports."""
    image = np.arange(20, dtype="float32").reshape(1, 4, 5, 1)
    field = np.zeros((1, 4, 5, 2), "float32")
    field[..., 0] = 1  # image(x + u), so row i shows row i + 1
    warped = keras_stack.vxm.layers.SpatialTransformer()([image, field]).numpy()
    np.testing.assert_array_equal(warped[:, :3], image[:, 1:])


def test_getargspec_is_there_for_neurite():
    def function(a, b=2, *rest, **named):
        return a, b, rest, named

    assert tuple(inspect.getargspec(function)) == (["a", "b"], "rest", "named", (2,))


def test_versions():
    versions = keras_stack.versions()
    assert versions["tensorflow"] == keras_stack.tf.__version__
    assert versions["keras" if sys.version_info < (3, 12) else "tf-keras"].startswith("2.")
    assert versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert versions["voxelmorph"] == versions["neurite"] == "0.2"
    assert all(isinstance(version, str) and version for version in versions.values())


@pytest.mark.slow
def test_tensorflow_imported_after_the_package_has_keras_2():
    code = "import deepatlas_tf, tensorflow; import deepatlas_tf.keras_stack as s; print(s.keras.Model.__module__)"
    environment = {k: v for k, v in os.environ.items() if k != "TF_USE_LEGACY_KERAS"}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert ".engine." in result.stdout, result.stderr  # a module of Keras 2 that Keras 3 does not have


@pytest.mark.slow
def test_scikit_learn_is_there_for_who_asks():
    """It is not imported with the package; neurite's function that needs it, and everybody's own import, work."""
    code = """
import sys
from deepatlas_tf.keras_stack import ne
assert not [name for name in sys.modules if name.partition(".")[0] == "sklearn"]
import numpy as np
from neurite.tf.utils import vae
found = vae.PCA(n_components=1).fit(np.outer(np.arange(5.0), [3.0, 4.0]))
np.testing.assert_allclose(np.abs(found.components_), [[0.6, 0.8]])
import sklearn.decomposition
assert isinstance(found, sklearn.decomposition.PCA)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(("given", "expected"), [({}, "1"), ({"TF_ENABLE_ONEDNN_OPTS": "0"}, "0")])
def test_onednn_is_on_unless_it_was_set(given, expected):
    """TensorFlow reads the variable when it is imported."""
    assert run_stack("2.15.1", **given).stdout.split()[-1] == expected
