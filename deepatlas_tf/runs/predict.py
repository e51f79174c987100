"""Trained networks as functions on the network's grid, NumPy in and out: the one place where they are made.

A *segmenter* gives class probabilities, a *labeller* the most probable class of each voxel, a *registrar* a
displacement field.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deepatlas_tf.keras_stack import graph_function, keras, tf
from deepatlas_tf.methods import method_class
from deepatlas_tf.models.build import load_net
from deepatlas_tf.ops.warp import warp
from deepatlas_tf.runs.checks import check_network
from deepatlas_tf.runs.folder import TASKS, RunFolder
from deepatlas_tf.runs.instance import InstanceOptimisation, refiner
from deepatlas_tf.runs.windows import slabs
from deepatlas_tf.types import DataError, SettingError

Segmenter = Callable[[np.ndarray], np.ndarray]
Labeller = Callable[[np.ndarray], np.ndarray]
Registrar = Callable[[np.ndarray, np.ndarray], np.ndarray]
IDENTITY = "identity"  # the name in the tables of no registration at all


@dataclasses.dataclass(frozen=True)
class AtTestTime:
    """What is done at test time besides one pass of a stage's network, and measured as rows of its own.

    instance_steps: registrations are refined for each pair by so many steps on the images, see
    :mod:`deepatlas_tf.runs.instance`. anatomy: and by aligning the predictions of the run's segmentation network, too.
    atlases: the first so many label maps of training vote, see :mod:`deepatlas_tf.runs.atlases`; templates: with these
    the first so many scans of training whose label map was not used; with ``anatomy`` registrations are also refined by
    what is voted for. flips: the mean over a scan and its mirror image, see :mod:`deepatlas_tf.runs.flips`.
    """

    instance_steps: int = 0
    anatomy: bool = False
    atlases: int = 0
    templates: int = 0
    flips: bool = False


ONE_PASS = AtTestTime()


class Guided(NamedTuple):
    """A refinement by anatomies, see :func:`~deepatlas_tf.runs.instance.refiner`, and whose network predicts them.

    stage: of the run, which has the segmentation network.
    """

    refine: Callable
    stage: str


@dataclasses.dataclass(frozen=True)
class Predictors:
    """What the finished stages of a run have learned, as functions by the name of the method in the tables.

    labellers: function ``image (*S, K) -> label map (*S,)``. registrars: function ``moving (*S, K), fixed (*S, K) ->
    u (*S, D)`` in voxels; ``identity`` is always among them. domains: the domains of the stage's (moving, fixed) side,
    None for all. segmentation_nets: the networks of the labellers. guided: the registrations refined by anatomies, by
    the stage of the registration.
    """

    labellers: dict[str, Labeller]
    registrars: dict[str, Registrar]
    domains: dict[str, tuple[str | None, str | None]]
    segmentation_nets: dict[str, keras.Model] = dataclasses.field(default_factory=dict)
    guided: dict[str, Guided] = dataclasses.field(default_factory=dict)


def segmenter(net: keras.Model) -> Segmenter:
    """A function ``image (*S, K) -> class probabilities (*S, C)``."""
    predict = _compiled(lambda image: net(image, training=False), net)
    return lambda image: predict(tf.constant(image[None])).numpy()[0]


def labeller(net: keras.Model) -> Labeller:
    """A function ``image (*S, K) -> label map (*S,)``, the index of the most probable class, of a segmentation net.

    An image that is larger than those of the net is segmented in windows, see :mod:`deepatlas_tf.runs.windows`.
    """
    size, in_windows = tuple(net.inputs[0].shape[1:-1]), functools.cache(lambda: segmenter(net))

    def predict(image):
        return tf.argmax(net(image, training=False), axis=-1, output_type=tf.int32)

    predict = _compiled(predict, net)

    def label(image: np.ndarray) -> np.ndarray:
        if None in size or image.shape[:-1] == size:
            return predict(tf.constant(image[None])).numpy()[0]
        parts = (values for _, values in slabs(in_windows(), image, size))
        return np.concatenate([values.argmax(axis=-1).astype(np.int32) for values in parts])

    return label


def most_probable(segment: Segmenter) -> Labeller:
    """A function ``image (*S, K) -> label map (*S,)``, the index of the most probable class."""
    return lambda image: segment(image).argmax(axis=-1).astype(np.int32)


def registrar(net: keras.Model) -> Registrar:
    """A function ``moving (*S, K), fixed (*S, K) -> displacement field (*S, D)`` in voxels."""
    predict = _compiled(lambda moving, fixed: net([moving, fixed], training=False), net)
    return lambda moving, fixed: predict(tf.constant(moving[None]), tf.constant(fixed[None])).numpy()[0]


def refined_registrar(
    net: keras.Model, stage: Mapping[str, Any], steps: int, segment: Segmenter | None = None
) -> Registrar:
    """A registrar whose field is refined for each pair by ``steps`` of instance optimisation on the loss of ``stage``.

    Args:
        net: the registration network of the stage.
        stage: the settings of the stage as ``experiment.json`` has them.
        steps: of Adam.
        segment: what it says of both images is aligned as well; None aligns the images only.

    Raises:
        SettingError: if the loss of the stage cannot be used for it.
    """
    settings = InstanceOptimisation.of_stage(stage, steps=steps)
    return refiner(net, settings) if segment is None else guided_by(refiner(net, settings.with_anatomy()), segment)


def guided_by(refine: Callable, segment: Segmenter) -> Registrar:
    """The registrar that refines a field by what ``segment`` says of both images, see :class:`Guided`."""
    return lambda moving, fixed: refine(moving, fixed, (segment(moving), segment(fixed)))


def warp_image(image: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Warp an image or class probabilities ``(*S, C)`` by ``u (*S, D)`` in voxels, linearly."""
    return warp(tf.constant(image[None]), tf.constant(u[None])).numpy()[0]


def warp_label(label: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Warp a label map ``(*S,)`` by ``u (*S, D)`` in voxels, with nearest neighbours; same classes, same type."""
    warped = warp(tf.constant(label[None, ..., None]), tf.constant(u[None]), "nearest")
    return warped.numpy()[0, ..., 0]


def load_predictors(workdir: Path, instance_steps: int = 0, anatomy: bool = False) -> Predictors:
    """The functions of each finished stage on the grid of the run, of the networks that it trained itself.

    Args:
        workdir: folder of the run.
        instance_steps: if not 0, ``<stage>_instance`` is among the registrars, which refines the field of the stage for
            each pair by so many steps.
        anatomy: ``<stage>_anatomy`` is among them, too, for which the predictions of the run's segmentation network are
            aligned as well.

    Raises:
        DataError: if no stage of the run is finished.
        SettingError: if there is no registration to be refined, or no segmentation network for ``anatomy``.
    """
    check_refinement(instance_steps, anatomy)
    found = Predictors({}, {IDENTITY: _no_displacement}, {})
    folder = RunFolder(workdir)
    for stage in folder.settings()["stages"]:
        if stage.get("patches"):
            continue
        name, trained = stage["name"], trained_nets(stage)
        nets = {task: folder.stage(name).net(task) for task in TASKS}
        found.domains[name] = tuple(stage.get("domains", (None, None)))
        if "segmentation" in trained and nets["segmentation"].exists():
            found.segmentation_nets[name] = load_task_net(folder, name, "segmentation")
            found.labellers[name] = labeller(found.segmentation_nets[name])
        if "registration" in trained and nets["registration"].exists():
            found.registrars[name] = registrar(load_task_net(folder, name, "registration"))
            if instance_steps and _compares_images(stage):
                _add_refined(found, folder, stage, instance_steps, anatomy)
    if not found.labellers and len(found.registrars) == 1:
        raise DataError(f"{workdir}: no stage of this run is finished; run the training command again to resume it")
    if instance_steps and not any(name.endswith("_instance") for name in found.registrars):
        raise SettingError(f"--instance-steps: no finished stage of {workdir} has learned to register images")
    return found


def _add_refined(found: Predictors, folder: RunFolder, stage: Mapping[str, Any], steps: int, anatomy: bool) -> None:
    """Add the registrars that refine the field of a stage for each pair."""
    name = stage["name"]
    net = load_task_net(folder, name, "registration")
    refined = {"instance": refined_registrar(net, stage, steps)}
    if anatomy:
        refine = refiner(net, InstanceOptimisation.of_stage(stage, steps=steps).with_anatomy())
        found.guided[name] = Guided(refine, segmentation_beside(folder, name))
        segment = segmenter(load_task_net(folder, found.guided[name].stage, "segmentation"))
        refined["anatomy"] = guided_by(refine, segment)
    for kind, register in refined.items():
        found.registrars[f"{name}_{kind}"], found.domains[f"{name}_{kind}"] = register, found.domains[name]


def check_refinement(instance_steps: int, anatomy: bool) -> None:
    """SettingError where there is an anatomy to align, but no step to do it in."""
    if anatomy and not instance_steps:
        raise SettingError("--anatomy is a part of the refinement for each pair: add --instance-steps 100")


def segmentation_beside(folder: RunFolder, stage: str) -> str:
    """The stage whose segmentation network is used beside the registration network of ``stage``.

    It is the one that trained what the stage itself has; where that has none, the last of the run which trained one.

    Raises:
        SettingError: if the run has none.
    """
    stages = {s["name"]: s for s in folder.settings()["stages"] if not s.get("patches")}
    trained = [name for name, settings in stages.items() if "segmentation" in trained_nets(settings)]
    own = stage
    while own not in trained and (before := stages.get(own, {}).get("start_from", {}).get("segmentation")) in stages:
        own = before
    for name in (own, *reversed(trained)):
        if folder.stage(name).net("segmentation").exists():
            return name
    raise SettingError(f"--anatomy needs a segmentation network, and {folder.path} has none that is finished")


def registration_beside(folder: RunFolder, stage: str) -> str | None:
    """The stage whose registration network is used beside the segmentation network of ``stage``.

    It is the stage itself where it has learned to register images, else the last of the run that has; None where no
    finished stage has.
    """
    found = [
        s["name"]
        for s in folder.settings()["stages"]
        if "registration" in trained_nets(s)
        and _compares_images(s)
        and folder.stage(s["name"]).net("registration").exists()
    ]
    return stage if stage in found else (found[-1] if found else None)


def load_task_net(folder: RunFolder, stage: str, task: str) -> keras.Model:
    """The network of a stage for one of ``TASKS``. Raises DataError where its file is damaged or holds another one."""
    path = folder.stage(stage).net(task)
    net = load_net(path)
    n_classes = len(folder.model()["class_names"]) if folder.model_file.exists() else None
    check_network(net, task, path, n_classes)
    return net


def trained_nets(stage: Mapping[str, Any]) -> set[str]:
    """Names of the nets that a stage updates; ``stage`` is its settings as ``experiment.json`` has them."""
    nets_of = method_class(stage["method"]).nets_of
    return {name for turn, n in stage["turns"].items() if n for name in nets_of(turn)}


def any_size(net: keras.Model) -> keras.Model:
    """A copy of the network, with its weights, for images of any size."""
    config = net.get_config()
    _free_sizes(config)
    free = keras.Model.from_config(config)
    free.set_weights(net.get_weights())
    return free


def _free_sizes(config: dict) -> None:
    """Change the inputs of a network's configuration, and those of the networks within it."""
    for layer in config["layers"]:
        if layer["class_name"] == "InputLayer":
            shape = layer["config"]["batch_input_shape"]
            layer["config"]["batch_input_shape"] = (None,) * (len(shape) - 1) + (shape[-1],)
        elif "layers" in layer["config"]:
            _free_sizes(layer["config"])


def _compares_images(stage: Mapping[str, Any]) -> bool:
    """Whether a stage has a similarity of images to go on with; one that registers label maps has none."""
    return bool(stage["weights"].get("registration", {}).get("similarity"))


def _no_displacement(moving: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    return np.zeros((*fixed.shape[:-1], fixed.ndim - 1), np.float32)


def _compiled(function: Callable, net: keras.Model) -> Callable:
    """Traced once for one image of the net's size: TensorFlow takes several nets' functions for one that retraces."""
    specs = [tf.TensorSpec((1, *tensor.shape[1:]), tensor.dtype) for tensor in net.inputs]
    return graph_function(function).get_concrete_function(*specs)
