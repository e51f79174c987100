"""Building the networks and the compiled method of a stage from its settings."""

from pathlib import Path
from typing import Any

from deepatlas_tf.datasets.load import DataSet
from deepatlas_tf.keras_stack import keras
from deepatlas_tf.losses.similarity import CHANNEL_WEIGHTS
from deepatlas_tf.methods import method_class
from deepatlas_tf.methods.base import Method
from deepatlas_tf.models.anatomy import with_anatomy
from deepatlas_tf.models.build import build_net, computing_in, load_net
from deepatlas_tf.models.networks import Networks
from deepatlas_tf.runs.folder import RunFolder, net_path
from deepatlas_tf.training.experiment import Stage
from deepatlas_tf.types import SettingError


def build_method(stage: Stage, networks: Networks, dataset: DataSet, workdir: Path) -> Method:
    """Make the method of a stage, compiled and ready for ``fit``.

    Args:
        stage: the settings of the stage. A net that is in its ``start_from`` is loaded from that earlier stage, every
            other one is made new.
        networks: which network is built for each kind.
        dataset: its shape and classes say how large the networks are; of a stage of patches the scans at their own
            resolution, and the patch says it.
        workdir: folder of the run, with the nets of the earlier stages.
    """
    cls, n_classes = method_class(stage.method), len(dataset.class_names)
    nets = {}
    for name, role in cls.network_roles.items():
        source = stage.start_from.get(name)
        if source:
            nets[name] = _net_of_stage(name, role, source, workdir)
        else:
            shape = image_shape(stage, dataset, workdir)
            nets[name] = build_net(role, networks, shape, n_classes, len(dataset.channel_names))
    if stage.anatomy_from is not None:
        guide = load_net(net_path(workdir, stage.anatomy_from, "segmentation"))
        with computing_in(networks.precision):
            nets["registration"] = with_anatomy(nets["registration"], guide)
    known: dict[str, Any] = {
        "turns": tuple(name for name, n in stage.turns.items() for _ in range(n)),
        "steps": stage.steps,
        "similarity": stage.similarity,
        "similarity_settings": stage.similarity_settings,
        "n_classes": n_classes,
    }
    arguments = {name: known[name] for name in cls.stage_arguments}
    partial_labels = dataset.partial_labels or stage.batch_size > 1
    method = cls(**nets, **arguments, **stage.settings, partial_labels=partial_labels)
    method.compile(_optimizers(stage, method, networks.precision), weights=stage.weights)
    return method


def image_shape(stage: Stage, dataset: DataSet, workdir: Path) -> tuple[int, ...]:
    """The shape ``*S`` of the images that a stage's networks see: that of the data set, or of its patches."""
    grid = RunFolder(workdir).stage(stage.name).grid() if stage.patches is not None else None
    return dataset.shape if grid is None else tuple(grid["shape"])


def check_data(stage: Stage, dataset: DataSet) -> None:
    """Raise SettingError where a stage cannot be trained on the data set's channels, or on label maps that ignore."""
    if dataset.ignore_number is not None and not method_class(stage.method).knows_ignored:
        raise SettingError(
            f"stage {stage.name}: {stage.method} does not know the label 'ignore' (knows_ignored of the method), and "
            f"{dataset.name} has it: choose another --method"
        )
    names = dataset.channel_names
    n, shown = len(names), ", ".join(names)
    weights = stage.similarity_settings.get(CHANNEL_WEIGHTS)
    if weights is not None and len(weights) != n:
        raise SettingError(
            f"stage {stage.name}: {CHANNEL_WEIGHTS} has {len(weights)} weights, but images have {n} channels ({shown})"
        )
    if n > 1 and "generator" in method_class(stage.method).network_roles.values():
        raise SettingError(
            f"stage {stage.name}: {stage.method} translates images of one channel, and these have {n} ({shown}): "
            "list one of them, or choose another --method"
        )


def _net_of_stage(name: str, role: str, source: str, workdir: Path) -> keras.Model:
    """Load the net ``name`` of the earlier stage ``source``, or the net that is called like its role there.

    So ``segmentation_a``, whose role is ``segmentation``, can be the net ``segmentation`` of the earlier stage.
    """
    path = net_path(workdir, source, name)
    return load_net(path if path.exists() else net_path(workdir, source, role))


def _optimizers(stage: Stage, method: Method, precision: str) -> dict[str, keras.optimizers.Optimizer]:
    """Make an Adam optimizer for each turn, whose learning rate falls by a cosine over the turn's updates in the stage.

    With float16 the optimizer scales the loss up, since small gradients would become 0.
    """
    optimizers = {}
    for name in dict.fromkeys(method.turns):
        updates = max(1, round(stage.steps * method.turns.count(name) / len(method.turns)))
        schedule = keras.optimizers.schedules.CosineDecay(
            stage.learning_rates[name], updates, alpha=stage.final_learning_rate
        )
        adam = keras.optimizers.Adam(schedule, beta_1=method.beta_1)
        scaled = precision == "mixed_float16"
        optimizers[name] = keras.mixed_precision.LossScaleOptimizer(adam) if scaled else adam
    return optimizers
