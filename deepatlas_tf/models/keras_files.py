"""Checking ``.keras`` files before they are opened, so that no code of whoever made the file runs.

Keras makes whatever classes and functions the configuration in the archive names, of any module that can be imported; a
``Lambda`` layer calls any function. It also takes an HDF5 file or a SavedModel under that name, which bring code of
their own. So an archive is read here first, and refused unless all that it names is in the lists below or was
registered with Keras by this package, a plug-in or the program that runs.
"""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deepatlas_tf.keras_stack import keras

ENTRIES = {"metadata.json", "config.json", "model.weights.h5"}  # what Keras writes for a network
MAX_CONFIG_BYTES = 2**26

_LAYERS = """
    Activation Add Average AveragePooling2D AveragePooling3D BatchNormalization Concatenate Conv2D Conv2DTranspose
    Conv3D Conv3DTranspose Cropping2D Cropping3D Dense DepthwiseConv2D Dropout ELU Flatten GaussianDropout GaussianNoise
    GlobalAveragePooling2D GlobalAveragePooling3D GlobalMaxPooling2D GlobalMaxPooling3D GroupNormalization InputLayer
    LayerNormalization LeakyReLU MaxPooling2D MaxPooling3D Maximum Minimum Multiply PReLU Permute ReLU Rescaling Reshape
    SeparableConv2D Softmax SpatialDropout2D SpatialDropout3D Subtract UnitNormalization UpSampling2D UpSampling3D
    ZeroPadding2D ZeroPadding3D
"""
_OTHERS = """
    Functional Model Sequential Policy Constant GlorotNormal GlorotUniform HeNormal HeUniform Identity LecunNormal
    LecunUniform Ones Orthogonal RandomNormal RandomUniform TruncatedNormal VarianceScaling Zeros L1 L2 L1L2 MaxNorm
    MinMaxNorm NonNeg UnitNorm
"""
CLASSES = frozenset((_LAYERS + _OTHERS).split())
"""Classes of Keras that an archive may name: plain layers, networks, initialisers, regularisers, constraints."""

ACTIVATIONS = frozenset(
    "elu exponential gelu hard_sigmoid leaky_relu linear mish relu relu6 selu sigmoid silu softmax softplus softsign"
    " swish tanh".split()
)


def check_keras_file(path: Path) -> None:
    """Check that a file is a ``.keras`` archive of known layers, which Keras may read.

    Args:
        path: file of a network. It is not changed, and nothing in it is run.

    Raises:
        ValueError: if it is not; the message is the reason.
    """
    if not path.is_file() or path.suffix != ".keras" or not zipfile.is_zipfile(path):
        raise ValueError("it is no .keras archive; HDF5 files and SavedModel folders are not read, they can hold code")
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if len(names) != len(set(names)) or not set(names) <= ENTRIES or "config.json" not in names:
            other = sorted(set(names) - ENTRIES)
            raise ValueError(f"its entries are not those of a network{': ' + other[0] if other else ''}")
        if archive.getinfo("config.json").file_size > MAX_CONFIG_BYTES:
            raise ValueError("its configuration is too large")
        config = json.loads(archive.read("config.json"))
    if not isinstance(config, dict):
        raise ValueError("its configuration is no network")
    config.pop("compile_config", None)  # which is not read either
    for named in _objects(config):
        _check_object(named)


def _objects(value: Any) -> Iterator[dict]:
    """Go through all mappings in a configuration that name a class or a function.

    An activation that is given by its name alone counts as one.
    """
    if isinstance(value, list):
        for item in value:
            yield from _objects(item)
    elif isinstance(value, dict):
        if "class_name" in value or "registered_name" in value or "module" in value:
            yield value
        for key, item in value.items():
            if key.endswith("activation") and isinstance(item, str):
                yield {"class_name": "function", "module": "builtins", "config": item, "registered_name": "function"}
            yield from _objects(item)


def _check_object(named: dict) -> None:
    name, module, registered = (named.get(key) for key in ("class_name", "module", "registered_name"))
    if name == "function":
        known = named.get("config") in ACTIVATIONS and module == "builtins"
        name = named.get("config")
    else:
        of_keras = module is None or str(module).partition(".")[0] in ("keras", "tf_keras")
        plain = of_keras and registered in (None, name) and isinstance(name, str) and name in CLASSES
        known = plain or (isinstance(module, str) and _is_registered(registered, name))
    if not known:
        origin = "" if module in (None, "builtins") else f" of {module}"
        raise ValueError(f"it names {name}{origin}, which is not among the layers that may be read")


def _is_registered(registered: Any, name: Any) -> bool:
    """Whether a class of these names, which can be a part of a network, is registered with Keras in this process."""
    cls = keras.utils.get_custom_objects().get(registered) if isinstance(registered, str) else None
    parts = (keras.layers.Layer, keras.initializers.Initializer, keras.regularizers.Regularizer)
    if not isinstance(cls, type) or not issubclass(cls, parts) or issubclass(cls, keras.layers.Lambda):
        return False
    return cls.__name__ == name
