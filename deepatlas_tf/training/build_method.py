"""Building the networks and the compiled method of a stage from its settings."""

from pathlib import Path

from deepatlas_tf.keras_stack import keras
from deepatlas_tf.methods import method_class
from deepatlas_tf.models.build import build_net, load_net
from deepatlas_tf.models.networks import Networks
from deepatlas_tf.runs.folder import net_path
from deepatlas_tf.training.experiment import Stage


def build_method(stage: Stage, networks: Networks, dataset, workdir: Path):
    """The compiled method of a stage, its nets new or taken from the stages that it starts from."""
    cls, n_classes = method_class(stage.method), len(dataset.class_names)
    nets = {}
    for name, role in cls.network_roles.items():
        source = stage.start_from.get(name)
        if source:
            nets[name] = _net_of_stage(name, role, source, workdir)
        else:
            nets[name] = build_net(role, networks, dataset.shape, n_classes)
    known = {
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


def _net_of_stage(name: str, role: str, source: str, workdir: Path):
    """The net of an earlier stage; ``segmentation_a`` may be what that stage calls ``segmentation``, its role."""
    path = net_path(workdir, source, name)
    return load_net(path if path.exists() else net_path(workdir, source, role))


def _optimizers(stage: Stage, method, precision: str):
    """Adam for each turn; its rate falls by a cosine over the updates of the turn in the stage.

    Its loss is scaled where gradients are float16, of which small ones would be 0.
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
