"""What every method promises. The methods are found by their files, and built as a stage builds them.

A new method needs nothing here: its nets, turns, terms and stream are read from its class. Every term has weight 1, so
that those which are off by default are tested too. To compile takes longer than all the rest: the training in 2D is
compiled, everything else is in 3D and runs eagerly. Compiled on two devices is tests/training/test_strategy.py.
"""

import contextlib
import importlib
import inspect
import re
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from deepatlas_tf.keras_stack import keras, tf
from deepatlas_tf.methods import method_class, method_names
from deepatlas_tf.models.build import load_net
from deepatlas_tf.models.discriminator.patchgan import PatchGAN
from deepatlas_tf.models.generator.resnet import ResNet
from deepatlas_tf.models.networks import Networks
from deepatlas_tf.models.registration.voxelmorph import VoxelMorphRegistration
from deepatlas_tf.models.segmentation.light import Light
from deepatlas_tf.training.build_method import build_method
from deepatlas_tf.training.experiment import Stage

CLASSES = ("background", "one", "two")
SHAPES = {"2D": (12, 10), "3D": (8, 9, 7)}
NETWORKS = Networks(
    VoxelMorphRegistration((4, 4), (4, 4, 4)), Light((4, 8)), ResNet((4, 8), blocks=1), PatchGAN((4, 8))
)
N_CYCLES = 3
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Even though the `tf.config"),  # tf.data is never eager
]
CITATION = re.compile(
    r"(et al\.|[A-Z]\w+ & [A-Z]\w+)\W+\w+( \w+)?\s(19|20)\d\d"  # Xu & Niethammer, MICCAI 2019
    r"|arXiv\W?\s?\d{4}\.\d{4,5}"
)


def module_of(name):
    return importlib.import_module(f"deepatlas_tf.methods.{name}")


SOFT_LABELS = [name for name in method_names() if "soft_label" in inspect.getsource(module_of(name))]


def build(name, shape):
    """The method as a stage of an experiment builds it, with every term and one update of each net in a cycle."""
    cls = method_class(name)
    turns = [turn for turn, n in cls.default_turns.items() if n]
    stage = Stage(
        name="stage",
        method=name,
        steps=1000,
        turns=dict.fromkeys(turns, 1),
        weights={turn: dict.fromkeys(terms, 1.0) for turn, terms in cls.default_weights.items()},
        learning_rates=dict.fromkeys(turns, 3e-3),
    )
    keras.utils.set_random_seed(0)
    data = SimpleNamespace(shape=shape, class_names=CLASSES, partial_labels=True, channel_names=("image",))
    method = build_method(stage, NETWORKS, data, None)
    if "registration" in method.nets:  # which begins at the identity, where a label could not be felt
        for layer in method.nets["registration"].submodules:  # it may be in a network within
            if layer.name == "flow":
                layer.kernel.assign(tf.random.stateless_normal(layer.kernel.shape, (0, 1), stddev=0.2))
    return method


def make_sample(shape, seed, weights):
    """Two smooth synthetic images, label maps by their intensity, and a weight for each class of either."""
    rng = np.random.default_rng(seed)
    image = np.stack([gaussian_filter(rng.normal(size=shape), 1.5) for _ in weights])
    image = (image - image.min()) / np.ptp(image)
    return {
        "image": image[..., None].astype(np.float32),
        "label": np.digitize(image, np.quantile(image, [0.5, 0.8])).astype(np.int32),
        "label_weight": np.array(weights, np.float32),
        "subject": np.array([f"{seed}{i}" for i in range(len(weights))]),
    }


def make_batch(method, shape):
    """A batch of the method's stream: manual labels, no label map, and one of which class 2 is not labelled."""
    full, partial, none = (1, 1, 1), (0, 1, 0), (0, 0, 0)
    if method.stream == "samples":
        return make_sample(shape, 0, [full, partial])
    if method.stream == "pairs":
        return {"moving": make_sample(shape, 0, [full, partial]), "fixed": make_sample(shape, 1, [partial, none])}
    return pytest.fail(f"make_batch makes no {method.stream!r}: add the stream of {type(method).__name__} there")


def with_soft_labels(batch, seed):
    """The batch of a stage with pseudo masks; here they are random."""
    if "label" not in batch:
        return {side: with_soft_labels(sample, seed) for side, sample in batch.items()}
    random = np.random.default_rng(seed).dirichlet(np.ones(len(CLASSES)), batch["label"].shape)
    return {**batch, "soft_label": random.astype(np.float32)}


@contextlib.contextmanager
def eagerly(eager):
    """Run functions of TensorFlow as the Python that they are made of."""
    tf.config.run_functions_eagerly(eager)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


def endless(batch):
    return tf.data.Dataset.from_tensors(batch).repeat()


def weights_of(method):
    return {name: net.get_weights() for name, net in method.nets.items()}


def same(before, after):
    return all(np.array_equal(x, y) for x, y in zip(before, after, strict=True))


def train(name, dimension, eager):
    """A method trained for some cycles on one batch, with its weights and logs around every step."""
    shape = SHAPES[dimension]
    method = build(name, shape)
    batch = make_batch(method, shape)
    steps = []
    with eagerly(eager):
        for _ in range(N_CYCLES * len(method.turns)):
            turn, before = method.turn_at(method.steps), weights_of(method)
            logs = method.fit(endless(batch), steps_per_epoch=1, verbose=0).history
            steps.append((turn, before, weights_of(method), {key: values[0] for key, values in logs.items()}))
    return SimpleNamespace(name=name, method=method, batch=batch, steps=steps)


@pytest.fixture(scope="module", params=method_names())
def trained(request):
    """Each method in 3D, eagerly."""
    return train(request.param, "3D", eager=True)


def test_the_loss_falls(trained):
    for turn in trained.method.turns:
        losses = [logs[f"{turn}/loss"] for due, _, _, logs in trained.steps if due == turn]
        assert losses[-1] < losses[0], (turn, losses)


def test_only_the_net_of_the_turn_changes(trained):
    assert [step[0] for step in trained.steps] == list(trained.method.turns) * N_CYCLES
    for turn, before, after, _ in trained.steps:
        for net in trained.method.nets:
            changes = net in trained.method.nets_of(turn)
            assert same(before[net], after[net]) != changes, (turn, net)


def test_metrics_have_the_names_of_the_weights(trained):
    terms = type(trained.method).default_weights
    expected = {f"{turn}/{term}" for turn in set(trained.method.turns) for term in ("loss", *terms[turn])}
    for turn, _, _, logs in trained.steps:
        assert set(logs) == expected
        total = sum(logs[f"{turn}/{term}"] for term in terms[turn])
        np.testing.assert_allclose(logs[f"{turn}/loss"], total, rtol=1e-4)
        assert np.all(np.isfinite(list(logs.values())))


def terms_of(method, batch):
    """Every term for each example, with the same random numbers at each call."""
    keras.utils.set_random_seed(0)
    with eagerly(True):
        terms = {turn: getattr(method, f"{turn}_terms")(batch) for turn in set(method.turns)}
    return {f"{turn}/{name}": value.numpy() for turn, values in terms.items() for name, value in values.items()}


def relabelled(batch, change):
    """A copy of the batch, in which ``change`` has given each sample another label map."""
    if "label" in batch:
        return {**batch, "label": change(batch["label"], batch["label_weight"])}
    return {name: relabelled(part, change) for name, part in batch.items()}


def _replace_unlabelled(label, weight):
    """0 becomes class 2 and 2 becomes 0 where both have no weight, so a map without any label is all wrong."""
    unlabelled = (weight[:, [0, 2]] == 0).all(axis=1).reshape(-1, *[1] * (label.ndim - 1))
    return np.where(unlabelled & (label != 1), 2 - label, label)


def _replace_everything(label, weight):
    return (label + 1) % len(CLASSES)


def test_labels_of_weight_0_have_no_influence(trained):
    method, batch = trained.method, trained.batch
    turned = {"moving": batch["fixed"], "fixed": batch["moving"]} if "moving" in batch else batch
    for data in (batch, turned):
        terms = terms_of(method, data)
        for name, value in terms_of(method, relabelled(data, _replace_unlabelled)).items():
            np.testing.assert_allclose(value, terms[name], rtol=1e-5, atol=1e-6, err_msg=name)
    changed = terms_of(method, relabelled(data, _replace_everything))
    assert any(not np.allclose(changed[name], terms[name], rtol=1e-3) for name in terms), "labels are not used"


@pytest.mark.long
@pytest.mark.parametrize("name", method_names())
def test_compiled_training_in_2d_does_the_same(name):
    trained = train(name, "2D", eager=False)
    test_the_loss_falls(trained)
    test_only_the_net_of_the_turn_changes(trained)
    test_metrics_have_the_names_of_the_weights(trained)
    test_labels_of_weight_0_have_no_influence(trained)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))
@pytest.mark.parametrize("name", SOFT_LABELS)
def test_soft_labels_count_where_labels_have_no_weight(name, shape):
    method = build(name, shape)
    batch = with_soft_labels(make_batch(method, shape), 0)
    terms = terms_of(method, batch)
    for key, value in terms_of(method, relabelled(batch, _replace_unlabelled)).items():
        np.testing.assert_allclose(value, terms[key], rtol=1e-5, atol=1e-6, err_msg=key)
    others = terms_of(method, with_soft_labels(batch, 1))
    assert any(not np.allclose(others[key], terms[key], rtol=1e-3) for key in terms)
    with eagerly(True):
        losses = [method.fit(endless(batch), steps_per_epoch=len(method.turns), verbose=0).history for _ in range(3)]
    for turn in method.turns:
        assert losses[-1][f"{turn}/loss"] < losses[0][f"{turn}/loss"], turn


def checkpoint_of(method):
    """What the loop saves and restores."""
    random = tf.random.get_global_generator()
    return tf.train.Checkpoint(nets=method.nets, optimizers=method.optimizers_by_net, random=random)


def test_resume_is_exact(trained, tmp_path):
    """In a method that is built anew, as the loop does; a state that the checkpoint lacks would make it another one."""
    path = checkpoint_of(trained.method).write(str(tmp_path / "checkpoint"))
    resumed = build(trained.name, SHAPES["3D"])
    tries = []
    for method in (trained.method, resumed):
        checkpoint_of(method).read(path).assert_existing_objects_matched()
        assert method.steps == len(trained.steps)
        with eagerly(True):
            method.fit(endless(trained.batch), steps_per_epoch=len(method.turns) + 1, verbose=0)
        tries.append((method.steps, weights_of(method)))
    assert tries[0][0] == tries[1][0]
    for net in resumed.nets:
        assert same(tries[0][1][net], tries[1][1][net]), net


def test_nets_are_saved_and_exported(trained, tmp_path):
    sample = trained.batch.get("moving", trained.batch)
    for name, net in trained.method.nets.items():
        inputs = [tf.constant(sample["image"])] * len(net.inputs)
        expected = net(inputs, training=False)
        net.save(tmp_path / f"{name}.keras")
        loaded = load_net(tmp_path / f"{name}.keras")
        np.testing.assert_array_equal(loaded(inputs, training=False), expected)
        if name not in ("segmentation", "registration"):
            continue
        net.export(tmp_path / name)
        exported = tf.saved_model.load(tmp_path / name)
        np.testing.assert_allclose(exported.serve(inputs if len(inputs) > 1 else inputs[0]), expected, atol=1e-5)


@pytest.mark.long
def test_replicas_agree(trained):
    """Two replicas with one example each do what one does with both: from the first weights again, by plain descent."""
    devices = [device.name for device in tf.config.list_logical_devices("CPU")]
    assert len(devices) >= 2, "conftest.py makes two logical CPUs"
    two = tf.distribute.MirroredStrategy(devices[:2], cross_device_ops=tf.distribute.ReductionToOneDevice())
    results = []
    for strategy in (tf.distribute.get_strategy(), two):
        with strategy.scope():
            method = build(trained.name, SHAPES["3D"]) if strategy is two else trained.method
            # Adam's first steps have the same size whatever the size of the gradient
            method.compile({turn: keras.optimizers.SGD(0.1) for turn in method.turns}, method.weights_by_turn)
        for name, weights in trained.steps[0][1].items():
            method.nets[name].set_weights(weights)
        data = tf.data.Dataset.from_tensor_slices(trained.batch).repeat().batch(2, drop_remainder=True)
        with eagerly(True):
            method.fit(data, steps_per_epoch=len(method.turns), verbose=0)
        results.append(weights_of(method))
    for net in results[0]:
        for x, y in zip(results[0][net], results[1][net], strict=True):
            np.testing.assert_allclose(x, y, atol=1e-5)


@pytest.mark.parametrize("name", method_names())
def test_the_docstring_cites_a_paper(name):
    text = module_of(name).__doc__ or ""
    assert CITATION.search(text), f"{name}: authors, journal or conference and year, or arXiv number"
