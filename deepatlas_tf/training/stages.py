"""From the settings of a stage to its nets, its method and its stream of batches."""

import contextlib
import inspect
from pathlib import Path

from deepatlas_tf.keras_stack import keras
from deepatlas_tf.methods import method_class
from deepatlas_tf.models.build import load_net
from deepatlas_tf.models.cascade import cascade_net
from deepatlas_tf.models.pyramid import pyramid_net
from deepatlas_tf.models.translation import discriminator, generator
from deepatlas_tf.models.unet import light_unet, voxelmorph_unet
from deepatlas_tf.models.voxelmorph import registration_net
from deepatlas_tf.runs.folder import net_path
from deepatlas_tf.streams.pairs import (
    StreamSettings,
    WorkerShard,
    domain_pair_stream,
    hide_labels,
    labelled_subjects,
    only_subjects,
    pair_stream,
    sample_stream,
)
from deepatlas_tf.streams.pseudo_masks import with_soft_labels
from deepatlas_tf.streams.subjects import in_domain
from deepatlas_tf.training.experiment import Experiment, Networks, Stage
from deepatlas_tf.types import SettingError

NET_KINDS = ("registration", "label_registration", "segmentation", "generator", "discriminator")


def net_kind(name: str) -> str | None:
    """The kind of a net, which its name begins with, such as ``segmentation`` of ``segmentation_a``; None: no net."""
    return next((kind for kind in NET_KINDS if name == kind or name.startswith(f"{kind}_")), None)


def build_net(name: str, networks: Networks, shape, n_classes: int):
    """A new network for images of ``shape``, or that of a file; ``name`` begins with one of ``NET_KINDS``.

    The layers of a new one compute in ``networks.precision``, and remember that when it is saved; its outputs are
    float32.
    """
    with _precision(networks.precision):
        return _new_net(name, networks, shape, n_classes)


@contextlib.contextmanager
def _precision(policy: str):
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(policy)
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)


def _new_net(name, networks, shape, n_classes):
    kind = net_kind(name)
    if kind == "registration":
        return _registration(networks, shape, channels=1)
    if kind == "label_registration":
        return _registration(networks, shape, channels=n_classes)
    if kind == "generator":
        return generator(shape, networks.generator_widths, networks.generator_blocks)
    if kind == "discriminator":
        return discriminator(shape, networks.discriminator_widths)
    if networks.segmentation == "light":
        widths, dropout = networks.segmentation_widths, networks.segmentation_dropout
        return light_unet(shape, n_classes, widths, dropout, networks.recompute)
    if networks.segmentation == "voxelmorph":
        return voxelmorph_unet(shape, n_classes)
    if networks.segmentation.endswith(".keras"):
        return _net_of_file(networks.segmentation, kind, [(*shape, 1)], (*shape, n_classes))
    raise SettingError(
        f"networks.segmentation is 'light', 'voxelmorph' or a .keras file, not {networks.segmentation!r}"
    )


def _registration(networks: Networks, shape, channels):
    widths = networks.registration_encoder, networks.registration_decoder
    if networks.registration == "cascade":
        return cascade_net(shape, *widths, networks.cascade_factors, channels)
    if networks.registration == "voxelmorph":
        options = {"diffeomorphic": networks.diffeomorphic, "recompute": networks.recompute}
        return registration_net(shape, *widths, **options, channels=channels)
    if networks.registration == "pyramid":
        return pyramid_net(shape, networks.pyramid_widths, channels)
    if networks.registration.endswith(".keras"):
        return _net_of_file(networks.registration, "registration", [(*shape, channels)] * 2, (*shape, len(shape)))
    raise SettingError(
        f"networks.registration is 'voxelmorph', 'cascade', 'pyramid' or a .keras file, not {networks.registration!r}"
    )


def check_net_files(networks: Networks) -> None:
    """Raises SettingError where a network is given as a ``.keras`` file that is not there."""
    for kind in ("segmentation", "registration"):
        path = getattr(networks, kind)
        if path.endswith(".keras") and not Path(path).is_file():
            raise SettingError(f"networks.{kind}: there is no file {path}")


def _net_of_file(path: str, kind: str, images, output):
    """The network of a file with its weights, for inputs of the sizes ``images`` and an output of that size.

    A subclass of ``keras.Model`` is put into a functional model, as only that can be exported and applied to any size.
    """
    check_net_files(Networks(**{kind: path}))
    net = load_net(Path(path), "save it again with Keras 2, its own classes registered as serializable")
    try:
        if not getattr(net, "outputs", None):
            inputs = [keras.Input(size) for size in images]
            net = keras.Model(inputs, net(inputs if len(inputs) > 1 else inputs[0]), name=kind)
        tensors = zip([*net.inputs, *net.outputs], [*images, output], strict=True)
        fits = all(tensor.shape[1:].is_compatible_with(size) for tensor, size in tensors)
    except (ValueError, TypeError):
        fits = False
    if not fits:
        raise SettingError(f"networks.{kind}: {path} makes no {output} of {' and '.join(map(str, images))}")
    return net


def _net_of_stage(name: str, source: str, workdir: Path):
    """The net of an earlier stage; ``segmentation_a`` may be what that stage calls ``segmentation``."""
    path = net_path(workdir, source, name)
    return load_net(path if path.exists() else net_path(workdir, source, net_kind(name)))


def build_method(stage: Stage, networks: Networks, dataset, workdir: Path):
    """The compiled method of a stage, its nets new or taken from the stages that it starts from."""
    cls = method_class(stage.method)
    accepted = inspect.signature(cls.__init__).parameters
    nets = {}
    for name in (n for n in accepted if net_kind(n) and n not in cls.default_settings):
        source = stage.start_from.get(name)
        if source:
            nets[name] = _net_of_stage(name, source, workdir)
        else:
            nets[name] = build_net(name, networks, dataset.shape, len(dataset.class_names))
    turns = tuple(name for name, n in stage.turns.items() for _ in range(n))
    settings = {"n_classes": len(dataset.class_names), "similarity": stage.similarity, "turns": turns}
    settings |= {"similarity_settings": stage.similarity_settings, "steps": stage.steps, **stage.settings}
    method = cls(**nets, **{name: value for name, value in settings.items() if name in accepted})
    method.partial_labels = dataset.partial_labels or stage.batch_size > 1
    method.compile(_optimizers(stage, method, networks.precision), weights=stage.weights)
    return method


def stage_seed(stage: Stage, experiment: Experiment) -> int:
    """Seed of the stage's first weights and of its stream."""
    return experiment.seed * 1000 + experiment.stages.index(stage)


def build_stream(
    stage: Stage, method, experiment: Experiment, dataset, workdir: Path, first_epoch: int, shard: WorkerShard
):
    """Endless batches for a stage, from its ``first_epoch`` on, with the stage's pseudo masks if it has any.

    Of each batch only the ``shard``, cut up for its replicas.
    """
    labelled = used_labels(dataset, experiment)
    samples = hide_labels(dataset.samples("train"), labelled)
    if stage.pseudo_from:
        samples = with_soft_labels(samples, pseudo_folder(workdir, stage), len(dataset.class_names), stage.pseudo_gate)
    settings = StreamSettings(
        batch_size=stage.batch_size,
        steps_per_epoch=stage.steps_per_epoch,
        seed=stage_seed(stage, experiment),
        memory_gib=experiment.data.memory_gib,
        augmentation=stage.augmentation,
        shard=shard,
    )
    sides = tuple(in_domain(dataset.subjects["train"], dataset.domains, domain) for domain in stage.domains)
    if method.stream == "pairs" and stage.domains[0] != stage.domains[1]:
        return domain_pair_stream(samples, sides, labelled, stage.labelled_fraction, settings, first_epoch)
    subjects = sides[0]
    if len(subjects) < len(dataset.subjects["train"]):
        samples = only_subjects(samples, subjects)
        labelled = [subject for subject in labelled if subject in subjects]
    if method.stream == "samples":
        return sample_stream(samples, subjects, labelled, stage.labelled_fraction[0], settings, first_epoch)
    return pair_stream(samples, subjects, labelled, stage.labelled_fraction, settings, first_epoch)


def pseudo_folder(workdir: Path, stage: Stage) -> Path:
    """Where the pseudo masks are that a stage learns from."""
    return workdir / stage.name / "pseudo"


def used_labels(dataset, experiment: Experiment) -> tuple[str, ...]:
    """The training subjects whose label map is used."""
    data = experiment.data
    labelled = in_domain(dataset.labelled["train"], dataset.domains, data.domains[0] if data.domains else None)
    return labelled_subjects(labelled, data.labels, experiment.seed)


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
