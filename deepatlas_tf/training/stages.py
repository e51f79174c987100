"""From the settings of a stage to its nets, its method and its stream of batches."""

import inspect
from pathlib import Path

from deepatlas_tf.data.pairs import StreamSettings, hide_labels, labelled_subjects, pair_stream, sample_stream
from deepatlas_tf.keras_stack import keras
from deepatlas_tf.methods import method_class
from deepatlas_tf.models.layers import CropLike, InstanceNormalization, PadToMultiple, SpatialTransformer, VecInt
from deepatlas_tf.models.unet import light_unet, voxelmorph_unet
from deepatlas_tf.models.voxelmorph import registration_net
from deepatlas_tf.training.experiment import Experiment, Networks, Stage
from deepatlas_tf.types import SettingError

CUSTOM_OBJECTS = {
    layer.__name__: layer for layer in (CropLike, InstanceNormalization, PadToMultiple, SpatialTransformer, VecInt)
}


def net_path(workdir: Path, stage: str, net: str) -> Path:
    """Where a stage leaves a net."""
    return workdir / stage / "nets" / f"{net}.keras"


def load_net(path: Path):
    """A network saved by a run: a Keras model without optimizer."""
    return keras.models.load_model(path, custom_objects=CUSTOM_OBJECTS, compile=False)


def build_net(name: str, networks: Networks, shape, n_classes: int):
    """A new network, ``"registration"`` or ``"segmentation"``, for images of ``shape``."""
    if name == "registration":
        encoder, decoder = networks.registration_encoder, networks.registration_decoder
        return registration_net(shape, encoder, decoder, networks.diffeomorphic)
    if networks.segmentation == "light":
        return light_unet(shape, n_classes, networks.segmentation_widths)
    if networks.segmentation == "voxelmorph":
        return voxelmorph_unet(shape, n_classes)
    raise SettingError(f"networks.segmentation is 'light' or 'voxelmorph', not {networks.segmentation!r}")


def build_method(stage: Stage, networks: Networks, dataset, workdir: Path):
    """The compiled method of a stage, its nets new or taken from the stages that it starts from."""
    cls = method_class(stage.method)
    accepted = inspect.signature(cls.__init__).parameters
    nets = {}
    for name in [name for name in ("registration", "segmentation") if name in accepted]:
        source = stage.start_from.get(name)
        if source:
            nets[name] = load_net(net_path(workdir, source, name))
        else:
            nets[name] = build_net(name, networks, dataset.shape, len(dataset.class_names))
    turns = tuple(name for name, n in stage.turns.items() for _ in range(n))
    settings = {"n_classes": len(dataset.class_names), "similarity": stage.similarity, "turns": turns}
    method = cls(**nets, **{name: value for name, value in settings.items() if name in accepted})
    method.compile(_optimizers(stage, method.turns), weights=stage.weights)
    return method


def stage_seed(stage: Stage, experiment: Experiment) -> int:
    """Seed of the stage's first weights and of its stream."""
    return experiment.seed * 1000 + experiment.stages.index(stage)


def build_stream(stage: Stage, method, experiment: Experiment, dataset, first_epoch: int):
    """Endless batches for a stage, from its ``first_epoch`` on."""
    subjects = dataset.subjects["train"]
    labelled = labelled_subjects(dataset.labelled["train"], experiment.data.labels, experiment.seed)
    samples = hide_labels(dataset.samples("train"), labelled)
    settings = StreamSettings(
        batch_size=stage.batch_size,
        steps_per_epoch=stage.steps_per_epoch,
        seed=stage_seed(stage, experiment),
        memory_gib=experiment.data.memory_gib,
        augmentation=stage.augmentation,
    )
    if method.stream == "samples":
        return sample_stream(samples, subjects, labelled, stage.labelled_fraction[0], settings, first_epoch)
    return pair_stream(samples, subjects, labelled, stage.labelled_fraction, settings, first_epoch)


def _optimizers(stage: Stage, turns):
    """Adam for each net; its rate falls by a cosine over the updates that the net gets in the stage."""
    optimizers = {}
    for name in set(turns):
        updates = max(1, round(stage.steps * turns.count(name) / len(turns)))
        schedule = keras.optimizers.schedules.CosineDecay(
            stage.learning_rates[name], updates, alpha=stage.final_learning_rate
        )
        optimizers[name] = keras.optimizers.Adam(schedule)
    return optimizers
