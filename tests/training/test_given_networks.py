"""Networks from files in place of those of the package, and settings that do not go together."""

from types import SimpleNamespace

import numpy as np
import pytest

from deepatlas_tf.experiments import get_experiment
from deepatlas_tf.keras_stack import keras
from deepatlas_tf.models.build import build_net
from deepatlas_tf.models.networks import Networks
from deepatlas_tf.models.registration.voxelmorph import VoxelMorphRegistration, registration_net
from deepatlas_tf.models.segmentation.light import Light, light_unet
from deepatlas_tf.runs.predict import labeller, registrar
from deepatlas_tf.training.build_method import build_method
from deepatlas_tf.training.experiment import Stage
from deepatlas_tf.training.settings import set_value
from deepatlas_tf.types import DataError, SettingError

SHAPE, CLASSES = (12, 10), ("background", "one", "two")


@keras.utils.register_keras_serializable("tests")
class Threshold(keras.Model):
    """A segmentation network that is no functional model: a scale and an offset of the intensity for each class."""

    def __init__(self, classes=3, **kwargs):
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(classes, "softmax")

    def get_config(self):
        return {"name": self.name, "classes": self.dense.units}

    def call(self, image, training=None):
        return self.dense(image)


def save_nets(folder):
    """A segmentation network of either kind and a registration network, which is far from the identity."""
    keras.utils.set_random_seed(0)
    images = np.random.default_rng(0).random((2, 1, *SHAPE, 1), dtype=np.float32)
    nets = {"functional": light_unet(SHAPE, len(CLASSES), (4, 8)), "subclassed": Threshold()}
    nets["registration"] = registration_net(SHAPE, (4, 4), (4, 4, 4), diffeomorphic=True)
    nets["registration"].get_layer("flow").bias.assign([0.5, -0.5])
    nets["subclassed"](images[0])
    for name, net in nets.items():
        net.save(folder / f"{name}.keras")
    return nets, images


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["functional", "subclassed"])
def test_a_stage_begins_with_the_networks_of_files(kind, tmp_path):
    nets, images = save_nets(tmp_path)
    networks = Networks(segmentation=f"{tmp_path}/{kind}.keras", registration=f"{tmp_path}/registration.keras")
    dataset = SimpleNamespace(shape=SHAPE, class_names=CLASSES, partial_labels=True, channel_names=("image",))
    method = build_method(Stage("joint", "deepatlas", steps=10), networks, dataset, tmp_path)
    found = labeller(method.nets["segmentation"])(images[0, 0])
    np.testing.assert_array_equal(found, np.argmax(nets[kind](images[0])[0], axis=-1))
    u = registrar(method.nets["registration"])(images[0, 0], images[1, 0])
    np.testing.assert_allclose(u, nets["registration"]([images[0], images[1]])[0], atol=1e-5)
    assert method.integrate is not None and np.abs(u).max() > 0.3
    assert len(method.nets["segmentation"].trainable_variables) == len(nets[kind].trainable_variables)


@pytest.mark.parametrize(
    ("partial_labels", "batch_size", "expected"), [(False, 1, False), (True, 1, True), (False, 2, True)]
)
def test_a_method_is_told_whether_labels_may_be_partial(partial_labels, batch_size, expected):
    """A batch of two may have one image with a label and one without."""
    dataset = SimpleNamespace(shape=SHAPE, class_names=CLASSES, partial_labels=partial_labels, channel_names=("image",))
    stage = Stage("joint", "deepatlas", steps=10, batch_size=batch_size)
    networks = Networks(VoxelMorphRegistration((4, 4), (4, 4, 4)), Light((4, 8)))
    assert build_method(stage, networks, dataset, None).partial_labels is expected


@pytest.mark.parametrize(
    ("setting", "shape", "n_classes", "message"),
    [
        ({"segmentation": "functional.keras"}, SHAPE, 4, r"makes no \(12, 10, 4\) of \(12, 10, 1\)"),
        ({"segmentation": "functional.keras"}, (16, 16), 3, r"makes no \(16, 16, 3\)"),
        ({"segmentation": "registration.keras"}, SHAPE, 3, "networks.segmentation: .* makes no"),
        ({"registration": "functional.keras"}, SHAPE, 3, "networks.registration: .* makes no"),
        ({"registration": "registration.keras"}, (8, 8, 8), 3, r"makes no \(8, 8, 8, 3\)"),
        ({"segmentation": "none.keras"}, SHAPE, 3, "networks.segmentation: there is no file"),
        ({"segmentation": "unet"}, SHAPE, 3, "or a .keras file, not 'unet'"),
    ],
)
def test_a_network_that_does_not_fit_is_refused(setting, shape, n_classes, message, tmp_path, monkeypatch):
    save_nets(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingError, match=message) as error:
        build_net(next(iter(setting)), Networks(**setting), shape, n_classes)
    assert "\n" not in str(error.value)


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "net.keras"
    path.write_bytes(b"no network")
    with pytest.raises(DataError, match="net.keras .*; save it again") as error:
        build_net("segmentation", Networks(segmentation=str(path)), SHAPE, 3)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("registration", ["cascade", "pyramid"])
def test_only_voxelmorphs_network_is_diffeomorphic(registration):
    """In whichever order the two are asked for."""
    start = set_value(get_experiment("phantom_knee"), "networks.registration=voxelmorph")
    settings = ["networks.diffeomorphic=True", f"networks.registration={registration}"]
    for first, second, message in (
        (settings[0], settings[1], "has no setting 'diffeomorphic', which is on"),
        (settings[1], settings[0], f"networks.registration.diffeomorphic now, .* {registration}"),
    ):
        experiment = set_value(start, first)
        with pytest.raises(SettingError, match=message) as error:
            set_value(experiment, second)
        assert "\n" not in str(error.value)
    experiment = set_value(start, "networks.diffeomorphic=True")
    assert experiment.networks.registration.diffeomorphic
