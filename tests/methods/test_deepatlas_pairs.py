"""What DeepAtlas may teach with instead of the paper's pairs, against the equations of its docstring in NumPy."""

import contextlib

import numpy as np
import pytest
from scipy.ndimage import map_coordinates, uniform_filter

from deepatlas_tf.experiments import get_experiment
from deepatlas_tf.keras_stack import graph_function, keras, tf
from deepatlas_tf.methods.deepatlas import SEGMENTATION_PAIRS, DeepAtlas
from deepatlas_tf.models.registration.voxelmorph import registration_net
from deepatlas_tf.models.segmentation.light import light_unet
from deepatlas_tf.ops.space_style import WINDOW, beta_fractions
from deepatlas_tf.training.settings import set_value
from deepatlas_tf.types import SettingError

N_CLASSES = 3
SHAPES = [(9, 10), (6, 7, 8)]
pytestmark = pytest.mark.filterwarnings("ignore:Even though the `tf.config")  # tf.data is never eager
FULL, PARTIAL, NONE = (1, 1, 1), (0, 1, 0), (0, 0, 0)
# Labels of the moving and fixed sides; and which of them is the source of an aligned pair
CASES = [(FULL, NONE), (NONE, FULL), (FULL, FULL), (NONE, NONE), (PARTIAL, (0, 1, 1)), (PARTIAL, NONE)]
SOURCES = ["moving", "fixed", "moving", "moving", "fixed", "moving"]


def make_method(shape, diffeomorphic=False, turns=("registration", "segmentation"), **settings):
    keras.utils.set_random_seed(0)
    registration = registration_net(shape, (4, 4), (4, 4, 4), diffeomorphic, 3)
    flow = registration.get_layer("flow")
    flow.kernel.assign(tf.random.stateless_normal(flow.kernel.shape, (0, 1), stddev=0.3))
    method = DeepAtlas(registration, light_unet(shape, N_CLASSES, (4, 8)), turns, **settings)
    method.compile(
        {turn: keras.optimizers.SGD(0.1) for turn in turns},
        {"segmentation": dict.fromkeys(DeepAtlas.default_weights["segmentation"], 1.0)},
    )
    return method


def make_pair(shape, cases=CASES):
    rng = np.random.default_rng(0)

    def sample(weights):
        label = rng.integers(0, N_CLASSES, (len(weights), *shape))
        known = np.take_along_axis(np.array(weights), label.reshape(len(weights), -1), axis=1).reshape(label.shape)
        return {
            "image": rng.random((len(weights), *shape, 1), dtype=np.float32),
            "label": (label * known).astype(np.int32),
            "label_weight": np.array(weights, np.float32),
            "subject": np.array(["s"] * len(weights)),
        }

    return {"moving": sample([m for m, _ in cases]), "fixed": sample([f for _, f in cases])}


@contextlib.contextmanager
def eagerly():
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


def terms_of(method, turn, pair, compiled=False):
    function = getattr(method, f"{turn}_terms")
    if compiled:
        return {name: value.numpy() for name, value in graph_function(function)(pair).items()}
    with eagerly():
        return {name: value.numpy() for name, value in function(pair).items()}


def np_warp(image, u):
    grid = np.stack(np.meshgrid(*map(np.arange, image.shape[:-1]), indexing="ij"))
    location = grid + np.moveaxis(u, -1, 0)
    channels = [map_coordinates(image[..., c], location, order=1, mode="nearest") for c in range(image.shape[-1])]
    return np.stack(channels, axis=-1)


def np_dice(p, q, class_weight, v=1.0):
    """Voxel-weighted disagreement over the volume, of the foreground classes."""
    p, q, v = (np.broadcast_to(x, p.shape).reshape(-1, N_CLASSES)[:, 1:] for x in (p, q, v))
    return np.mean(np.array(class_weight[1:]) * (v * (p + q - 2 * p * q)).sum(0) / (p + q).sum(0))


def np_cross_entropy(p, q, weight, v=1.0):
    """Marginal where some classes are not labelled."""
    if not any(weight):
        return 0.0
    weight = np.array(weight)
    known = (weight * q * np.log(np.maximum(p, 1e-7))).sum(-1)
    unknown = (1 - (weight * q).sum(-1)) * np.log(np.maximum(((1 - weight) * p).sum(-1), 1e-7))
    return -np.mean(np.squeeze(v) * (known + unknown))


def np_anatomy(label, weight, p):
    """The label where its class is labelled; the prediction, restricted to the other classes, elsewhere."""
    weight = np.array(weight)
    certain = weight[label][..., None] > 0
    rest = (1 - weight) * p
    return np.where(certain, np.eye(N_CLASSES)[label], rest / np.maximum(rest.sum(-1, keepdims=True), 1e-12))


def images_of(pair, b):
    return [pair[side]["image"][b] for side in ("moving", "fixed")]


def field(method, one, other):
    with eagerly():
        return method.nets["registration"]([one[None], other[None]]).numpy()[0]


def segment(method, image):
    with eagerly():
        return method.nets["segmentation"](image[None].astype(np.float32)).numpy()[0]


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "compiled"), [(SHAPES[0], True), (SHAPES[1], False)])
def test_aligned_pairs_by_hand(shape, compiled):
    method, pair = make_method(shape, segmentation_pairs="aligned"), make_pair(shape)
    found = terms_of(method, "segmentation", pair, compiled)
    in_space, in_style = beta_fractions(len(CASES), 0).numpy()
    assert np.ptp(in_space) > 0.3 and np.ptp(in_style) > 0.3
    inside = uniform_filter(np.ones(shape), WINDOW, mode="constant")
    for b, side in enumerate(SOURCES):
        source, target = (pair[s] for s in (side, "fixed" if side == "moving" else "moving"))
        image, other, weight = source["image"][b], target["image"][b], source["label_weight"][b]
        difference = np_warp(other, field(method, other, image)) - image
        difference = uniform_filter(difference[..., 0], WINDOW, mode="constant") / inside
        styled = np.clip(image + in_style[b] * difference[..., None], 0, 1)
        part = in_space[b] * field(method, image, other)
        prediction = segment(method, np_warp(styled, part))
        anatomy = np_warp(np.eye(N_CLASSES)[source["label"][b]], part)
        np.testing.assert_allclose(found["anatomy"][b], np_dice(prediction, anatomy, weight), atol=1e-4)
        entropy = np_cross_entropy(prediction, anatomy, weight)
        np.testing.assert_allclose(found["anatomy_cross_entropy"][b], entropy, rtol=1e-3, atol=1e-5)
    assert found["anatomy"][3] == found["anatomy_cross_entropy"][3] == 0, "neither side is labelled"
    paper = terms_of(make_method(shape), "segmentation", pair)
    for name in ("supervised", "supervised_cross_entropy"):
        np.testing.assert_allclose(found[name], paper[name], rtol=1e-4)


def test_a_part_of_a_diffeomorphic_field_is_the_flow_of_a_part_of_the_velocity():
    """Along a line with a constant velocity it is a part of the shift, and it is inverted by minus that part."""
    method = make_method((9, 10), diffeomorphic=True, segmentation_pairs="aligned")
    flow = method.nets["registration"].get_layer("flow")
    flow.kernel.assign(tf.zeros_like(flow.kernel))
    flow.bias.assign([3.0, 0.0])
    pair = make_pair((9, 10))
    with eagerly():
        image, anatomy, _ = method.aligned(pair)
    in_space, in_style = beta_fractions(len(CASES), 0).numpy()
    assert image.numpy().min() >= 0 and image.numpy().max() <= 1
    for b, side in enumerate(SOURCES):
        shift = np.zeros((9, 10, 2)) + [3 * in_space[b], 0]
        expected = np_warp(np.eye(N_CLASSES)[pair[side]["label"][b]], shift)
        np.testing.assert_allclose(anatomy[b], expected, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "compiled"), [(SHAPES[0], True), (SHAPES[1], False)])
def test_weighted_pairs_by_hand(shape, compiled):
    method, pair = make_method(shape, segmentation_pairs="weighted"), make_pair(shape)
    flow = method.nets["registration"].get_layer("flow")
    flow.kernel.assign(0.1 * flow.kernel)  # as it is, no voxel is sure
    found = terms_of(method, "segmentation", pair, compiled)
    for b, (w_moving, w_fixed) in enumerate(CASES):
        moving, fixed = images_of(pair, b)
        u, back = field(method, moving, fixed), field(method, fixed, moving)
        warped = np_warp(moving, u)
        residual = (warped - warped.mean()) / warped.std() - (fixed - fixed.mean()) / fixed.std()
        v = np.exp(-(((u + np_warp(back, u)) / 2) ** 2).sum(-1, keepdims=True) - residual**2)
        assert 0.05 < v.mean() < 0.95
        anatomies = [
            np_anatomy(pair[s]["label"][b], pair[s]["label_weight"][b], segment(method, pair[s]["image"][b]))
            for s in ("moving", "fixed")
        ]
        anatomies[0] = np_warp(anatomies[0], u)
        either = np.maximum(w_moving, w_fixed)
        np.testing.assert_allclose(found["anatomy"][b], np_dice(*anatomies, either, v), atol=1e-4)
        towards_fixed = [w * (1 - other) for w, other in zip(w_moving, w_fixed, strict=True)]
        towards_moving = [w * (1 - other) for w, other in zip(w_fixed, w_moving, strict=True)]
        entropy = np_cross_entropy(*anatomies[::-1], towards_fixed, v) + np_cross_entropy(*anatomies, towards_moving, v)
        np.testing.assert_allclose(found["anatomy_cross_entropy"][b], entropy, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "compiled"), [(SHAPES[0], True), (SHAPES[1], False)])
def test_registration_confidence_by_hand(shape, compiled):
    method, pair = make_method(shape, registration_confidence=True), make_pair(shape)
    found = terms_of(method, "registration", pair, compiled)
    paper = terms_of(make_method(shape), "registration", pair)
    for name in ("similarity", "smoothness"):
        np.testing.assert_allclose(found[name], paper[name], rtol=1e-4)
    for b, weights in enumerate(CASES):
        u = field(method, *images_of(pair, b))
        anatomies, confidences = [], []
        for side, weight in zip(("moving", "fixed"), weights, strict=True):
            anatomy = np_anatomy(pair[side]["label"][b], weight, segment(method, pair[side]["image"][b]))
            entropy = -(anatomy * np.log2(np.maximum(anatomy, 1e-12))).sum(-1, keepdims=True)
            anatomies.append(anatomy)
            confidences.append((np.maximum(0, 1 - entropy), np.array(weight)))
        (moving, w_moving), (fixed, w_fixed) = confidences
        v = (w_moving + (1 - w_moving) * np_warp(moving, u)) * (w_fixed + (1 - w_fixed) * fixed)
        expected = np_dice(np_warp(anatomies[0], u), anatomies[1], (1, 1, 1), v)
        np.testing.assert_allclose(found["anatomy"][b], expected, atol=1e-4)
    np.testing.assert_allclose(found["anatomy"][2], paper["anatomy"][2], rtol=1e-4)  # both labelled: certain
    assert found["anatomy"][0] < paper["anatomy"][0]


@pytest.mark.slow
def test_the_field_gets_no_gradient_from_the_confidence():
    """The slope of the term along a change of the field's bias, with the weights held, by a difference in NumPy."""
    shape, cases = (9, 10), [(NONE, FULL)]
    method, pair = make_method(shape, registration_confidence=True), make_pair(shape, cases)
    bias = method.nets["registration"].get_layer("flow").bias
    with eagerly(), tf.GradientTape() as tape:
        term = method.registration_terms(pair)["anatomy"]
    slope = tape.gradient(term, bias).numpy()
    u = field(method, *images_of(pair, 0))
    moving, fixed = segment(method, pair["moving"]["image"][0]), np.eye(N_CLASSES)[pair["fixed"]["label"][0]]
    entropy = -(moving * np.log2(moving)).sum(-1, keepdims=True)
    v = np_warp(np.maximum(0, 1 - entropy), u)
    mean = (v * (np_warp(moving, u) + fixed)[..., 1:]).sum((0, 1)) / (np_warp(moving, u) + fixed)[..., 1:].sum((0, 1))

    def dice(step):
        p, q = np_warp(moving, u + step)[..., 1:], fixed[..., 1:]
        return np.mean(mean * (1 - 2 * (v * p * q).sum((0, 1)) / (v * (p + q)).sum((0, 1))))

    h = 1e-4
    expected = [(dice(h * axis) - dice(-h * axis)) / (2 * h) for axis in np.eye(2)]
    np.testing.assert_allclose(slope, expected, rtol=0.02, atol=1e-4)


VARIANTS = [{"segmentation_pairs": name, "registration_confidence": True} for name in SEGMENTATION_PAIRS]


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("settings", VARIANTS, ids=SEGMENTATION_PAIRS)
def test_a_turn_changes_its_own_net_and_hidden_labels_count_nothing(shape, settings):
    method, pair = make_method(shape, **settings), make_pair(shape)
    hidden = {  # what is marked 0 may be of a class that is not labelled
        name: {**side, "label": np.where(_is_hidden(side), 2, side["label"]).astype(np.int32)}
        for name, side in pair.items()
    }
    for turn in method.turns:
        terms = terms_of(method, turn, pair)
        for name, value in terms_of(method, turn, hidden).items():
            np.testing.assert_allclose(value, terms[name], rtol=1e-4, atol=1e-6, err_msg=name)
        before = {name: net.get_weights() for name, net in method.nets.items()}
        with eagerly():
            method.update(turn, pair)
        for name, net in method.nets.items():
            same = all(np.array_equal(x, y) for x, y in zip(before[name], net.get_weights(), strict=True))
            assert same == (name != turn)


def _is_hidden(side):
    unlabelled = (side["label_weight"][:, [0, 2]] == 0).all(axis=1)
    return unlabelled.reshape(-1, *[1] * (side["label"].ndim - 1)) & (side["label"] == 0)


@pytest.mark.long
def test_two_replicas_agree_with_one():
    """Each takes its part of what is drawn for the whole batch."""
    pair = make_pair((9, 10), CASES[:2])
    devices = [device.name for device in tf.config.list_logical_devices("CPU")]
    assert len(devices) >= 2, "conftest.py makes two logical CPUs"
    two = tf.distribute.MirroredStrategy(devices[:2], cross_device_ops=tf.distribute.ReductionToOneDevice())
    results = []
    for strategy in (tf.distribute.get_strategy(), two):
        with strategy.scope():
            method = make_method((9, 10), segmentation_pairs="aligned", registration_confidence=True)
        data = tf.data.Dataset.from_tensor_slices(pair).repeat().batch(2, drop_remainder=True)
        with eagerly():
            method.fit(data, steps_per_epoch=4, verbose=0)
        results.append([w for net in method.nets.values() for w in net.get_weights()])
    for x, y in zip(*results, strict=True):
        np.testing.assert_allclose(x, y, atol=1e-5)


@pytest.mark.parametrize("dataset", ["hippocampus", "brains"])
def test_the_settings_are_those_of_a_stage(dataset):
    experiment = get_experiment(dataset)
    assert experiment.stages[-1].settings == {"segmentation_pairs": "aligned", "registration_confidence": False}
    for text in ("segmentation_pairs=paper", "registration_confidence=True"):
        experiment = set_value(experiment, f"stages.deepatlas.settings.{text}")
    assert experiment.stages[-1].settings == {"segmentation_pairs": "paper", "registration_confidence": True}


def test_other_pairs_are_refused():
    with pytest.raises(SettingError, match="'paper' or 'aligned' or 'weighted', not 'alined'"):
        make_method((9, 10), segmentation_pairs="alined")
