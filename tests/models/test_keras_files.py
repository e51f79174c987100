"""A network's file from a stranger: nothing in it runs, and one line names it."""

import contextlib
import json
import shutil
import sys
import zipfile

import numpy as np
import pytest

from deepatlas_tf.keras_stack import keras, tf
from deepatlas_tf.models.build import build_net, load_net
from deepatlas_tf.models.keras_files import check_keras_file
from deepatlas_tf.models.networks import Networks
from deepatlas_tf.models.segmentation.light import light_unet
from deepatlas_tf.types import DataError

SHAPE = (8, 8)
INPUT = {
    "module": "keras.layers",
    "class_name": "InputLayer",
    "config": {"batch_input_shape": [None, *SHAPE, 1], "dtype": "float32", "sparse": False, "name": "image"},
    "registered_name": None,
    "name": "image",
    "inbound_nodes": [],
}


@pytest.fixture
def marker(tmp_path, monkeypatch):
    """A path that is there as soon as the module ``stranger`` is imported or its function, or a command, is run."""
    path = tmp_path / "it_ran"
    code = f"import pathlib\npathlib.Path({str(path)!r}).touch()\ndef run(*args, **kwargs):\n    return args[0]\n"
    (tmp_path / "stranger.py").write_text(code + "class Network:\n    from_config = run\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield path
    sys.modules.pop("stranger", None)


def layer_of(named, node):
    """A functional model of an input and one more layer, as the configuration in an archive has it."""
    last = {**named, "name": "last", "inbound_nodes": node}
    return {
        "module": "keras.src.engine.functional" if "keras.src" in keras.Model.__module__ else "keras",
        "class_name": "Functional",
        "config": {
            "name": "segmentation",
            "trainable": True,
            "layers": [INPUT, last],
            "input_layers": [["image", 0, 0]],
            "output_layers": [["last", 0, 0]],
        },
        "registered_name": "Functional",
    }


def function(module, name):
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


def lambda_layer(of):
    config = {"name": "last", "trainable": True, "dtype": "float32", "function": of, "function_type": "function"}
    config |= {"module": None, "output_shape": None, "output_shape_type": "raw", "output_shape_module": None}
    return {"module": "keras.layers", "class_name": "Lambda", "config": config, "registered_name": None}


def archive(path, config, entries=()):
    """A ``.keras`` file with this configuration and the weights of an ordinary network."""
    keras.Sequential([keras.Input((*SHAPE, 1)), keras.layers.ReLU()]).save(path)
    with zipfile.ZipFile(path) as ordinary:
        kept = {name: ordinary.read(name) for name in ordinary.namelist()}
    with zipfile.ZipFile(path, "w") as file:
        for name, content in {**kept, "config.json": json.dumps(config), **dict(entries)}.items():
            file.writestr(name, content)


def lambda_with_command(path, marker):
    """A Lambda of ``os.system`` that Keras calls with a text while it makes the network."""
    node = [[["_CONSTANT_VALUE", -1, f"touch {marker}", {}]]]
    archive(path, layer_of(lambda_layer(function("os", "system")), node))


def lambda_of_a_module(path, marker):
    archive(path, layer_of(lambda_layer(function("stranger", "run")), [[["image", 0, 0, {}]]]))


def custom_module(path, marker):
    """In place of the network itself."""
    archive(path, {"module": "stranger", "class_name": "Network", "config": {}, "registered_name": "Custom>Network"})


def custom_initializer(path, marker):
    """Deep inside a plain layer of Keras."""
    layer = keras.layers.Conv2D(1, 3, name="last")
    config = {**layer.get_config(), "kernel_initializer": function("stranger", "run")}
    named = {"module": "keras.layers", "class_name": "Conv2D", "config": config, "registered_name": None}
    archive(path, layer_of(named, [[["image", 0, 0, {}]]]))


def disguised_lambda(path, marker):
    """The name of a registered layer beside that of the class."""
    named = {**lambda_layer(function("stranger", "run")), "registered_name": "deepatlas_tf>CropLike"}
    archive(path, layer_of(named, [[["image", 0, 0, {}]]]))


def operation_of_tensorflow(path, marker):
    config = {"name": "last", "trainable": True, "dtype": "float32", "function": "io.write_file"}
    named = {"module": "keras.layers", "class_name": "TFOpLambda", "config": config, "registered_name": "TFOpLambda"}
    archive(path, layer_of(named, [[["_CONSTANT_VALUE", -1, str(marker), {"contents": "x"}]]]))


def hdf5_file(path, marker):
    """An HDF5 file under the name of an archive, with a Lambda of Python's bytecode."""
    net = keras.Sequential([keras.Input((*SHAPE, 1)), keras.layers.Lambda(lambda x: __import__("stranger").run(x))])
    net.save(path.with_suffix(".h5"), save_format="h5")
    path.with_suffix(".h5").rename(path)
    forget(marker)


def saved_model_folder(path, marker):
    """A SavedModel, which writes a file when it is called, as a folder under the name of an archive."""
    net = keras.Sequential([keras.Input((*SHAPE, 1)), keras.layers.ReLU()])
    net.save(path.with_suffix(""), save_format="tf")
    path.with_suffix("").rename(path)
    forget(marker)


def forget(marker):
    """The maker of the file has run the code, which is not what is tested."""
    marker.unlink(missing_ok=True)
    sys.modules.pop("stranger", None)


ATTACKS = [
    lambda_with_command,
    lambda_of_a_module,
    custom_module,
    custom_initializer,
    disguised_lambda,
    operation_of_tensorflow,
    hdf5_file,
    saved_model_folder,
]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_nothing_of_a_stranger_runs(attack, tmp_path, marker):
    path = tmp_path / "segmentation.keras"
    attack(path, marker)
    with pytest.raises(DataError, match="segmentation.keras") as error:
        load_net(path)
    assert "\n" not in str(error.value) and "cannot load the network" in str(error.value)
    with pytest.raises(DataError, match="segmentation.keras"):
        build_net("segmentation", Networks(segmentation=str(path)), SHAPE, 3)
    assert not marker.exists() and "stranger" not in sys.modules


@pytest.mark.parametrize("attack", [lambda_with_command, custom_module, hdf5_file], ids=lambda attack: attack.__name__)
def test_keras_alone_runs_it(attack, tmp_path, marker):
    """So the test above can fail."""
    attack(tmp_path / "net.keras", marker)
    with contextlib.suppress(Exception):  # what Keras raises afterwards does not matter
        keras.models.load_model(tmp_path / "net.keras", compile=False)
    assert marker.exists()


@pytest.mark.parametrize("name", ["../outside.txt", "/tmp/outside.txt", "assets/vocabulary.txt", "model.weights.npz"])
def test_entries_cannot_leave_the_archive(name, tmp_path):
    path = tmp_path / "net.keras"
    archive(path, layer_of({**INPUT, "class_name": "ReLU", "config": {}}, [[["image", 0, 0, {}]]]), {name: "x"}.items())
    with pytest.raises(DataError, match=f"its entries are not those of a network: {name}"):
        load_net(path)
    assert not (tmp_path.parent / "outside.txt").exists()


def test_what_keras_cannot_mean_is_refused_without_a_traceback(tmp_path):
    for config in ([], {}, {"class_name": ["Functional"]}, {"module": {}, "class_name": "Add"}, {"class_name": None}):
        archive(tmp_path / "net.keras", config)
        with pytest.raises(DataError, match="cannot load the network"):
            load_net(tmp_path / "net.keras")


@keras.utils.register_keras_serializable("tests_of_keras_files")
class Registered(keras.layers.Layer):
    """A layer of the program that reads the file."""

    def call(self, x):
        return 2 * x


def test_ordinary_networks_and_registered_layers_are_read(tmp_path):
    image = tf.random.stateless_uniform((1, *SHAPE, 1), (0, 0))
    x = keras.Input((*SHAPE, 1))
    plain = keras.layers.BatchNormalization()(keras.layers.Conv2D(3, 3, activation="relu", padding="same")(x))
    for net in (
        light_unet(SHAPE, 3, (4, 8), dropout=0.1, recompute=True),
        keras.Model(x, keras.layers.Softmax()(keras.layers.Concatenate()([plain, Registered()(x)]))),
        keras.Sequential([keras.Input((*SHAPE, 1)), keras.layers.Conv2D(2, 3, kernel_regularizer="l2")]),
    ):
        net.save(tmp_path / "net.keras")
        check_keras_file(tmp_path / "net.keras")
        np.testing.assert_allclose(load_net(tmp_path / "net.keras")(image), net(image), atol=1e-6)


def test_another_ending_is_refused(tmp_path):
    keras.Sequential([keras.Input((*SHAPE, 1)), keras.layers.ReLU()]).save(tmp_path / "net.keras")
    shutil.copy(tmp_path / "net.keras", tmp_path / "net.zip")
    with pytest.raises(DataError, match="it is no .keras archive"):
        load_net(tmp_path / "net.zip")
