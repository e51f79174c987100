"""The one place that knows which Keras is in use.

voxelmorph and neurite 0.2 are written for Keras 2: ``tf.keras`` of TensorFlow 2.15, or the tf-keras package with newer
TensorFlow (where ``tf.keras`` would otherwise be Keras 3). Import ``tf``, ``keras``, ``tfds``, ``vxm`` and ``ne`` from
here.
"""

import contextlib
import functools
import importlib
import importlib.metadata
import inspect
import os
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

# TensorFlow 2.15 prints errors about CUDA libraries at every start on a machine without a GPU; real ones are raised.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# By itself TensorFlow takes oneDNN's convolutions only on processors with AVX-512 VNNI; elsewhere its own need ten
# times as long for volumes. It reads this once, so it has no effect where TensorFlow was imported before.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ["VXM_BACKEND"] = "tensorflow"
os.environ["NEURITE_BACKEND"] = "tensorflow"

_TF_VERSION = tuple(int(part) for part in importlib.metadata.version("tensorflow").split(".")[:2])
_NEEDS_TF_KERAS = _TF_VERSION >= (2, 16)

if _NEEDS_TF_KERAS and os.environ.get("TF_USE_LEGACY_KERAS") != "1":
    if "tensorflow" in sys.modules:
        raise ImportError(
            "TensorFlow was imported before deepatlas_tf, with Keras 3: import deepatlas_tf first, "
            "or set the environment variable TF_USE_LEGACY_KERAS=1"
        )
    os.environ["TF_USE_LEGACY_KERAS"] = "1"

if not hasattr(inspect, "getargspec"):  # removed in Python 3.11; neurite 0.2 calls it on import
    setattr(inspect, "getargspec", lambda function: inspect.getfullargspec(function)[:4])  # noqa: B010 for mypy

# neurite imports scikit-learn for one function, which would be a fifth of the time of every start. For the time of its
# import a stand-in takes the place of the module, with a class that is the real one when it is called.
_PCA_MODULE = "sklearn.decomposition"
_stand_in: Any = types.ModuleType(_PCA_MODULE)
_stand_in.PCA = lambda *args, **kwargs: importlib.import_module(_PCA_MODULE).PCA(*args, **kwargs)
_has_stand_in = sys.modules.setdefault(_PCA_MODULE, _stand_in) is _stand_in

import neurite as ne  # noqa: E402
import tensorflow as tf  # noqa: E402
import tensorflow_datasets as tfds  # noqa: E402
import voxelmorph as vxm  # noqa: E402

if _has_stand_in:
    del sys.modules[_PCA_MODULE]

keras = tf.keras
# For a function without Python's ``if`` and ``for`` on tensors, as all are here: AutoGraph converts nothing within it,
# which would be half of the time that a graph takes to make.
as_written = tf.autograph.experimental.do_not_convert

__all__ = [
    "as_written",
    "compiled_by_xla",
    "graph_function",
    "keras",
    "ne",
    "quiet_xla",
    "tf",
    "tfds",
    "versions",
    "vxm",
]

_KERAS_PACKAGE = "tf-keras" if _NEEDS_TF_KERAS else "keras"
_PACKAGES = ("tensorflow", _KERAS_PACKAGE, "voxelmorph", "neurite", "tensorflow-datasets", "nibabel", "numpy", "scipy")


def versions() -> dict[str, str]:
    """Version of Python and of each package that a run depends on, by name, for ``experiment.json``."""
    found = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"python": sys.version.split()[0], **found}


def graph_function(function: Callable) -> Any:
    """``tf.function`` of a function that is :data:`as_written`."""
    return tf.function(as_written(function), autograph=False)


def compiled_by_xla() -> bool:
    """Whether the code that runs is being traced as a part of a function with ``jit_compile=True``."""
    from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext  # has no public name

    return GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())


@functools.cache
def quiet_xla() -> None:
    """Let XLA compile a first program, once a process, while nothing reaches the standard error output.

    With its first program TensorFlow 2.15 prints two lines of its log there which no level of logging silences.
    """
    with _no_standard_error():
        tf.function(lambda x: x + 1.0, jit_compile=True, autograph=False)(tf.constant(0.0))


@contextlib.contextmanager
def _no_standard_error() -> Iterator[None]:
    """Within it what C++ writes to the file descriptor of the standard error output is dropped, too."""
    try:
        kept = os.dup(2)
    except OSError:  # there is none, as in a service
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
