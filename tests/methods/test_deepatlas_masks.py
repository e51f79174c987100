"""DeepAtlas with pseudo masks, against NumPy: what takes the place of the predictions, and what is learned of them."""

import numpy as np
import pytest

from deepatlas_tf.keras_stack import graph_function, keras, tf
from deepatlas_tf.methods.deepatlas import DeepAtlas
from deepatlas_tf.models.registration.voxelmorph import registration_net
from deepatlas_tf.models.segmentation.light import light_unet

N_CLASSES, BATCH = 3, 2
SHAPES = [(9, 10), (6, 7, 8)]
PARTIAL = np.array([0, 1, 0], np.float32)  # of the classes, one is labelled


def make_pair(shape, fixed_weight, emptied=False):
    """A pair with masks, of which the moving image is labelled; half of the voxels of the masks are empty if asked."""
    rng, pair = np.random.default_rng(0), {}
    for side, weight in (("moving", 1), ("fixed", fixed_weight)):
        mask = rng.dirichlet(np.ones(N_CLASSES), (BATCH, *shape)).astype(np.float32)
        if emptied:
            mask[:, ::2] = 0
        pair[side] = {
            "image": rng.random((BATCH, *shape, 1), dtype=np.float32),
            "label": rng.integers(0, N_CLASSES, (BATCH, *shape)).astype(np.int32),
            "label_weight": np.full((BATCH, N_CLASSES), weight, np.float32),
            "soft_label": mask,
        }
    return pair


def without_masks(pair):
    return {side: {k: v for k, v in sample.items() if k != "soft_label"} for side, sample in pair.items()}


def tensors(pair):
    return tf.nest.map_structure(tf.constant, pair)


def predicted(method, pair):
    """What the segmentation network says of the fixed images."""
    return method.nets["segmentation"](pair["fixed"]["image"]).numpy()


def make_method(shape, **settings):
    keras.utils.set_random_seed(0)
    registration = registration_net(shape, (4, 4), (4, 4, 4))
    flow = registration.get_layer("flow")
    flow.kernel.assign(tf.random.stateless_normal(flow.kernel.shape, (0, 1), stddev=0.3))
    method = DeepAtlas(registration, light_unet(shape, N_CLASSES, (4, 8)), **settings)
    method.compile()
    return method


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "graph"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_mask_is_the_anatomy_of_an_image_without_a_label(shape, compiled, by_numpy):
    """In the registration turn, where the segmentation network has nothing to say then."""
    pair, method = make_pair(shape, 0), make_method(shape)
    method.nets["segmentation"] = None
    function = graph_function(method.registration_terms) if compiled else method.registration_terms
    found = function(tensors(pair))["anatomy"]
    u = method.nets["registration"]([pair["moving"]["image"], pair["fixed"]["image"]]).numpy()
    labels, masks = np.eye(N_CLASSES)[pair["moving"]["label"]], pair["fixed"]["soft_label"]
    expected = [
        by_numpy.soft_dice(by_numpy.warp(label, field), mask)
        for label, field, mask in zip(labels, u, masks, strict=True)
    ]
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("pairs", ["paper", "aligned"])
@pytest.mark.parametrize("shape", SHAPES)
def test_images_without_a_label_are_learned_by_their_masks(shape, pairs, by_numpy):
    """Beside what is learned without masks; the labelled side has nothing of its own."""
    pair, method = make_pair(shape, 0), make_method(shape, segmentation_pairs=pairs)
    plain, more = (method.segmentation_terms(tensors(p)) for p in (without_masks(pair), pair))
    for name, of in (("supervised", by_numpy.soft_dice), ("supervised_cross_entropy", by_numpy.cross_entropy)):
        expected = list(map(of, predicted(method, pair), pair["fixed"]["soft_label"]))
        np.testing.assert_allclose(more[name] - plain[name], expected, atol=1e-4)
    for name in ("anatomy", "anatomy_cross_entropy"):
        np.testing.assert_allclose(more[name], plain[name], atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_voxels_that_a_gate_has_emptied_teach_nothing(shape, by_numpy):
    """The rest counts as by hand, the Dice of a class as much as the part of it that is known."""
    pair, method = make_pair(shape, 0, emptied=True), make_method(shape, segmentation_pairs="aligned")
    found = method._pseudo_parts(tensors(pair))[1].terms()
    masks = pair["fixed"]["soft_label"]
    axes = tuple(range(1, masks.ndim - 1))
    whole = predicted(method, pair)
    p, q = whole * masks.sum(-1, keepdims=True), masks
    dice = 2 * (p * q).sum(axes) / (p + q).sum(axes)
    known = (p + q).sum(axes) / (whole + q).sum(axes)
    np.testing.assert_allclose(found["supervised"], (known * (1 - dice))[:, 1:].mean(-1), atol=1e-4)
    entropies = list(map(by_numpy.cross_entropy, predicted(method, pair), masks))
    np.testing.assert_allclose(found["supervised_cross_entropy"], entropies, atol=1e-4)


def test_of_a_partial_label_map_the_mask_teaches_the_other_classes():
    pair, method = make_pair(SHAPES[0], PARTIAL), make_method(SHAPES[0], segmentation_pairs="aligned")
    parts = method._pseudo_parts(tensors(pair))
    assert [bool(part.needed) for part in parts] == [False, True]
    found = parts[1].terms()["supervised"].numpy()
    for value, prediction, mask in zip(found, predicted(method, pair), pair["fixed"]["soft_label"], strict=True):
        p, q = prediction[..., 2].ravel(), mask[..., 2].ravel()  # of the foreground, the class without a label
        assert value == pytest.approx((1 - 2 * (p * q).sum() / (p.sum() + q.sum())) / (N_CLASSES - 1), abs=1e-4)


@pytest.mark.long
@pytest.mark.parametrize("pairs", ["paper", "aligned", "weighted"])
def test_training_lowers_the_loss_of_the_masks(pairs):
    pair = make_pair(SHAPES[0], 0)
    method = make_method(SHAPES[0], segmentation_pairs=pairs, turns=("segmentation",))
    method.compile({"segmentation": keras.optimizers.Adam(1e-2)})

    def loss():
        return float(np.mean(method._pseudo_parts(tensors(pair))[1].terms()["supervised_cross_entropy"]))

    before = loss()
    method.fit(tf.data.Dataset.from_tensors(pair).repeat(), steps_per_epoch=10, verbose=0)
    assert loss() < 0.98 * before
