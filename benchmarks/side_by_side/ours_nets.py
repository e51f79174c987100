"""Networks of deepatlas_tf for a comparison: with weights that the other side can take, and as a trained run."""

from pathlib import Path

import numpy as np

from deepatlas_tf.keras_stack import keras, tf
from deepatlas_tf.models.build import build_net
from deepatlas_tf.models.networks import Networks, networks_from
from deepatlas_tf.models.old_settings import translated_networks
from deepatlas_tf.runs.files import write_json
from deepatlas_tf.runs.folder import net_path
from deepatlas_tf.training.experiment import Data, Experiment, Stage
from deepatlas_tf.training.settings import settings_dict


def networks(settings) -> Networks:
    """The networks of a case."""
    return networks_from(translated_networks(settings["widths"]))


def widen_field(net):
    """A field of about a voxel in place of almost none, so that results on the two sides can be compared."""
    kernel = net.get_layer("flow").kernel
    kernel.assign(tf.random.stateless_normal(kernel.shape, (0, 0), stddev=0.1))


def weights_of(nets) -> dict[str, np.ndarray]:
    """``NET/LAYER/KIND`` -> array, such as ``registration/flow/kernel``."""
    return {
        f"{name}/{variable.name.removesuffix(':0')}": variable.numpy()
        for name, net in nets.items()
        for variable in net.weights
    }


def write_run(folder: Path, shape, settings) -> dict[str, keras.Model]:
    """A folder as training leaves it, with networks for scans of ``shape`` and 1 mm; the networks."""
    keras.utils.set_random_seed(0)
    n_classes = settings["n_classes"]
    stage = Stage("joint", "deepatlas", steps=1)
    nets = {name: build_net(name, networks(settings), shape, n_classes) for name in ("registration", "segmentation")}
    widen_field(nets["registration"])
    for name, net in nets.items():
        path = net_path(folder, stage.name, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        net.save(path)
    names = ["background", *(f"structure {index}" for index in range(1, n_classes))]
    write_json(folder / "model.json", {"class_names": names, "shape": shape, "spacing": [1.0] * len(shape)})
    experiment = Experiment("speed", Data("synthetic_3d"), (stage,))
    write_json(folder / "experiment.json", {"experiment": settings_dict(experiment)})
    return nets
