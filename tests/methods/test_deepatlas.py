"""DeepAtlas against the paper's formulas written out in NumPy, and the promises of every method."""

from functools import partial

import numpy as np
import pytest

from deepatlas_tf.keras_stack import graph_function, keras, tf
from deepatlas_tf.methods.base import Part
from deepatlas_tf.methods.deepatlas import PAPER_TURNS, DeepAtlas
from deepatlas_tf.methods.segmentation import Segmentation
from deepatlas_tf.methods.voxelmorph import VoxelMorph
from deepatlas_tf.models.registration.voxelmorph import registration_net
from deepatlas_tf.models.segmentation.light import light_unet

N_CLASSES = 3
SHAPES = [(9, 10), (6, 7, 8)]


def nets(shape, seed=0):
    keras.utils.set_random_seed(seed)
    registration = registration_net(shape, (4, 4), (4, 4, 4))
    flow = registration.get_layer("flow")
    flow.kernel.assign(tf.random.stateless_normal(flow.kernel.shape, (seed, 1), stddev=0.3))
    return {"registration": registration, "segmentation": light_unet(shape, N_CLASSES, (4, 8))}


def make_pair(shape, moving_weight, fixed_weight, batch=2):
    rng = np.random.default_rng(0)

    def sample(weight, name):
        return {
            "image": rng.random((batch, *shape, 1), dtype=np.float32),
            "label": rng.integers(0, N_CLASSES, (batch, *shape)).astype(np.int32),
            "label_weight": np.full((batch, N_CLASSES), weight, np.float32),
            "subject": np.array([name] * batch),
        }

    return {"moving": sample(moving_weight, "m"), "fixed": sample(fixed_weight, "f")}


def as_dataset(pair):
    return tf.data.Dataset.from_tensors(pair).repeat()


def by_hand(method, pair):
    """For each example: images, field, predictions and one-hot labels in NumPy."""
    moving, fixed = (tf.nest.map_structure(np.asarray, pair[side]) for side in ("moving", "fixed"))
    u = method.nets["registration"]([moving["image"], fixed["image"]]).numpy()
    predictions = [method.nets["segmentation"](side["image"]).numpy() for side in (moving, fixed)]
    one_hots = [np.eye(N_CLASSES)[side["label"]] for side in (moving, fixed)]
    return [
        (
            moving["image"][b],
            fixed["image"][b],
            u[b],
            *(p[b] for p in predictions),
            *(y[b] for y in one_hots),
        )
        for b in range(len(u))
    ]


CASES = {"both": (1, 1), "moving": (1, 0), "fixed": (0, 1), "none": (0, 0)}


@pytest.fixture(scope="module", params=SHAPES, ids=str)
def traced(request):
    """A method with every term, its terms of segmentation in one graph for all cases, and the shape of the images."""
    method = DeepAtlas(**nets(request.param))
    every_term = dict.fromkeys(DeepAtlas.default_weights["segmentation"], 1.0)
    method.compile(weights={"segmentation": every_term})
    return method, graph_function(method.segmentation_terms), request.param


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_the_four_cases_of_the_paper(traced, case, by_numpy):
    """Xu & Niethammer 2019: the manual label where there is one, else the prediction; no term for two predictions."""
    method, segmentation_terms, shape = traced
    has_moving, has_fixed = CASES[case]
    pair = tf.nest.map_structure(tf.convert_to_tensor, make_pair(shape, has_moving, has_fixed))
    registration = {k: v.numpy() for k, v in method.registration_terms(pair).items()}
    segmentation = {k: v.numpy() for k, v in segmentation_terms(pair).items()}
    for b, (image_m, image_f, u, p_m, p_f, y_m, y_f) in enumerate(by_hand(method, pair)):
        warped_image = by_numpy.warp(image_m, u)
        similarity = 1 - np.corrcoef(warped_image.ravel(), image_f.ravel())[0, 1]
        moving_anatomy, fixed_anatomy = (y_m if has_moving else p_m), (y_f if has_fixed else p_f)
        warped = by_numpy.warp(moving_anatomy, u)
        dice = by_numpy.soft_dice(warped, fixed_anatomy)
        np.testing.assert_allclose(registration["similarity"][b], similarity, atol=1e-4)
        np.testing.assert_allclose(registration["anatomy"][b], dice, atol=1e-4)
        np.testing.assert_allclose(segmentation["anatomy"][b], 0 if case == "none" else dice, atol=1e-4)
        entropy = {"moving": by_numpy.cross_entropy(p_f, warped), "fixed": by_numpy.cross_entropy(warped, y_f)}
        np.testing.assert_allclose(segmentation["anatomy_cross_entropy"][b], entropy.get(case, 0), rtol=1e-3, atol=1e-5)
        supervised = has_moving * by_numpy.soft_dice(p_m, y_m) + has_fixed * by_numpy.soft_dice(p_f, y_f)
        np.testing.assert_allclose(segmentation["supervised"][b], supervised, atol=1e-4)
        entropies = has_moving * by_numpy.cross_entropy(p_m, y_m) + has_fixed * by_numpy.cross_entropy(p_f, y_f)
        np.testing.assert_allclose(segmentation["supervised_cross_entropy"][b], entropies, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_class_that_is_not_labelled_comes_from_the_prediction_and_is_not_supervised(shape, by_numpy):
    """The moving map holds class 1 only, the fixed one class 2 only; no term may see where 0 hides the others."""
    method = DeepAtlas(**nets(shape))
    method.compile(weights={"segmentation": dict.fromkeys(DeepAtlas.default_weights["segmentation"], 1.0)})
    pair = make_pair(shape, 1, 1)
    for side, kept in (("moving", 1), ("fixed", 2)):
        pair[side]["label_weight"] = np.tile(np.eye(N_CLASSES, dtype=np.float32)[kept], (2, 1))
        pair[side]["label"] *= pair[side]["label"] == kept
    terms = method.segmentation_terms(pair)
    for b, (_, _, u, p_m, p_f, y_m, y_f) in enumerate(by_hand(method, pair)):
        anatomies = []
        for p, y, kept in ((p_m, y_m, 1), (p_f, y_f, 2)):
            others = [c for c in range(N_CLASSES) if c != kept]
            anatomy = np.zeros_like(p)
            anatomy[..., others] = p[..., others] / p[..., others].sum(-1, keepdims=True)
            anatomies.append(np.where(y[..., [kept]] > 0, y, anatomy))
        dice = by_numpy.soft_dice(by_numpy.warp(anatomies[0], u), anatomies[1])  # each class is labelled on one side
        np.testing.assert_allclose(terms["anatomy"][b], dice, atol=1e-4)
        supervised = sum(_dice_of(p, y, c) / 2 for p, y, c in ((p_m, y_m, 1), (p_f, y_f, 2)))
        np.testing.assert_allclose(terms["supervised"][b], supervised, atol=1e-4)
    for side in pair.values():  # 0 or another class that is not labelled: the same
        side["label"] = np.where(side["label"] == 0, 3 - side["label_weight"].argmax(-1)[0], side["label"])
    for name, term in method.segmentation_terms(pair).items():
        np.testing.assert_allclose(term, terms[name], atol=1e-5, err_msg=name)


def _dice_of(p, y, c):
    return 1 - 2 * (p[..., c] * y[..., c]).sum() / (p[..., c].sum() + y[..., c].sum())


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_gradient_of_the_segmentation_turn_follows_the_case(case):
    """With two labels, or none, the anatomy term teaches the segmentation network nothing."""
    method = DeepAtlas(**nets((9, 10)))
    method.compile(weights={"segmentation": {"anatomy": 1.0}})
    with tf.GradientTape() as tape:
        term = tf.reduce_sum(method.segmentation_terms(make_pair((9, 10), *CASES[case]))["anatomy"])
    gradients = tape.gradient(term, method.nets["segmentation"].trainable_variables)
    size = sum(0.0 if g is None else float(tf.reduce_sum(tf.abs(g))) for g in gradients)
    assert (size > 1e-6) == (case in ("moving", "fixed"))


@pytest.fixture(scope="module", params=[("paper", True), ("paper", False), ("aligned", False)])
def one_by_one(request):
    """A method, and its update of the segmentation network in one graph for all cases, one image after the other."""
    pairs, partial_labels = request.param
    method = DeepAtlas(**nets((9, 10)), segmentation_pairs=pairs)
    method.partial_labels = partial_labels
    method.compile(weights={"segmentation": dict.fromkeys(DeepAtlas.default_weights["segmentation"], 0.7)})
    return method, graph_function(
        lambda pair: method.means_and_gradients("segmentation", method.parts("segmentation", pair))
    )


@pytest.mark.long
@pytest.mark.parametrize("case", CASES)
def test_one_image_after_the_other_gives_what_both_together_give(case, one_by_one):
    method, means_and_gradients = one_by_one
    pair = tf.nest.map_structure(tf.convert_to_tensor, make_pair((9, 10), *CASES[case]))
    means, gradients = means_and_gradients(pair)
    expected = method.means_and_gradients("segmentation", [Part(partial(method.segmentation_terms, pair))])
    assert set(means) == set(expected[0]) and len(gradients) == len(expected[1])
    for name, value in expected[0].items():
        np.testing.assert_allclose(means[name], value, atol=1e-5, err_msg=name)
    for found, other in zip(gradients, expected[1], strict=True):
        np.testing.assert_allclose(found, other, atol=1e-5)


def test_turns_follow_the_paper_by_default():
    method = DeepAtlas(**nets((9, 10)))
    method.compile()
    assert [method.turn_at(step) for step in range(42)].count("segmentation") == 2 and len(PAPER_TURNS) == 21
    assert method.turn_at(20) == method.turn_at(41) == "segmentation"


@pytest.mark.long
@pytest.mark.parametrize("only", ["registration", "segmentation"])
def test_semi_deepatlas_is_turns_of_one_kind(only):
    method = DeepAtlas(**nets((9, 10)), turns=(only,))
    method.compile()
    before = {name: net.get_weights() for name, net in method.nets.items()}
    logs = method.fit(as_dataset(make_pair((9, 10), 1, 0)), steps_per_epoch=3, verbose=0).history
    assert all(name.startswith(only) for name in logs) and f"{only}/anatomy" in logs
    frozen = "segmentation" if only == "registration" else "registration"
    for x, y in zip(before[frozen], method.nets[frozen].get_weights(), strict=True):
        np.testing.assert_array_equal(x, y)


def _method(kind, shape):
    made = nets(shape)
    if kind is DeepAtlas:
        return DeepAtlas(**made, turns=("registration", "segmentation"))
    if kind is VoxelMorph:
        return VoxelMorph(made["registration"], N_CLASSES)
    return Segmentation(made["segmentation"])


@pytest.mark.slow
def test_the_logged_loss_is_the_weighted_sum_of_its_terms():
    method = DeepAtlas(**nets((9, 10)), turns=("registration",))
    method.compile(weights={"registration": {"similarity": 2.0, "smoothness": 0.5, "anatomy": 3.0}})
    logs = {
        k: v[0]
        for k, v in method.fit(as_dataset(make_pair((9, 10), 1, 0)), steps_per_epoch=1, verbose=0).history.items()
    }
    terms = {"similarity": 2.0, "smoothness": 0.5, "anatomy": 3.0}
    total = sum(weight * logs[f"registration/{name}"] for name, weight in terms.items())
    np.testing.assert_allclose(logs["registration/loss"], total, rtol=1e-5)


@pytest.mark.slow
def test_train_step_alone_follows_the_turns():
    method = DeepAtlas(**nets((9, 10)), turns=("segmentation", "registration"))
    method.compile()
    pair = make_pair((9, 10), 1, 0)
    before = method.nets["registration"].get_weights()
    method.train_step(pair)
    assert method.steps == 1
    np.testing.assert_array_equal(before[0], method.nets["registration"].get_weights()[0])
    method.train_step(pair)
    assert not np.array_equal(before[0], method.nets["registration"].get_weights()[0])


def test_wrong_turns_and_weights_are_refused():
    with pytest.raises(ValueError, match="turns must name"):
        DeepAtlas(**nets((9, 10)), turns=("segmentaton",))
    method = DeepAtlas(**nets((9, 10)))
    with pytest.raises(ValueError, match="registration/anatomi"):
        method.compile(weights={"registration": {"anatomi": 1.0}})
