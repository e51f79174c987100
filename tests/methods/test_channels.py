"""Images of several channels: what the methods make of them, against their terms of one channel."""

import numpy as np
import pytest

from deepatlas_tf.keras_stack import graph_function, keras, tf
from deepatlas_tf.losses.similarity import local_ncc
from deepatlas_tf.methods.deepatlas import SEGMENTATION_PAIRS, DeepAtlas
from deepatlas_tf.methods.uniseg_reg import UniSegReg
from deepatlas_tf.methods.voxelmorph import VoxelMorph
from deepatlas_tf.models.registration.pyramid import pyramid_net
from deepatlas_tf.models.registration.voxelmorph import registration_net
from deepatlas_tf.models.segmentation.light import light_unet
from deepatlas_tf.ops.warp import warp
from deepatlas_tf.runs.instance import InstanceOptimisation, instance_loss

SHAPES = [(10, 8), (6, 7, 8)]
N_CLASSES, N_CHANNELS = 3, 2
WEIGHTS = (0.3, 0.9)
SIMILARITY = {"similarity": "local_ncc", "similarity_settings": {"window": 5, "channel_weights": WEIGHTS}}
pytestmark = pytest.mark.filterwarnings("ignore:Even though the `tf.config")  # tf.data is never eager


def nets(shape):
    keras.utils.set_random_seed(0)
    registration = registration_net(shape, (4, 4), (4, 4, 4), channels=N_CHANNELS)
    flow = registration.get_layer("flow")
    flow.kernel.assign(tf.random.stateless_normal(flow.kernel.shape, (0, 1), stddev=0.3))
    return registration, light_unet(shape, N_CLASSES, (4, 8), channels=N_CHANNELS)


def sample(shape, seed, labelled):
    rng = np.random.default_rng(seed)
    return {
        "image": tf.constant(rng.random((1, *shape, N_CHANNELS)), tf.float32),
        "label": tf.constant(rng.integers(0, N_CLASSES, (1, *shape)), tf.int32),
        "label_weight": tf.fill((1, N_CLASSES), float(labelled)),
        "subject": tf.constant(["s"]),
    }


def pair(shape):
    return {"moving": sample(shape, 0, True), "fixed": sample(shape, 1, False)}


def by_channel(warped, fixed):
    return sum(w * local_ncc(warped[..., k : k + 1], fixed[..., k : k + 1], 5) for k, w in enumerate(WEIGHTS))


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_the_similarity_of_a_registration_is_that_of_its_channels(shape):
    registration, segmentation = nets(shape)
    data = pair(shape)
    moving, fixed = (data[side]["image"] for side in ("moving", "fixed"))
    expected = by_channel(warp(moving, registration([moving, fixed])), fixed)
    voxelmorph = VoxelMorph(registration, N_CLASSES, **SIMILARITY)
    voxelmorph.compile()
    compiled = graph_function(voxelmorph.registration_terms)
    for terms in (compiled, DeepAtlas(registration, segmentation, **SIMILARITY).registration_terms):
        np.testing.assert_allclose(terms(data)["similarity"], expected, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_the_levels_of_unisegreg(shape):
    keras.utils.set_random_seed(0)
    method = UniSegReg(pyramid_net(shape, (4, 4), N_CHANNELS), nets(shape)[1], N_CLASSES, **SIMILARITY)
    data = pair(shape)
    moving, fixed = (data[side]["image"] for side in ("moving", "fixed"))
    expected, (fields, _) = 0, method.levels([moving, fixed], training=False)
    for u in reversed(fields):
        u = u[(slice(None), *(slice(0, n) for n in moving.shape[1:-1]))]
        expected += by_channel(warp(moving, u), fixed) / len(fields)
        moving, fixed = (tf.nn.avg_pool(x, 2, 2, "SAME") for x in (moving, fixed))
    np.testing.assert_allclose(method.registration_terms(data)["similarity"], expected, rtol=1e-4)
    assert np.isfinite(method.segmentation_terms(data)["supervised"]).all()


@pytest.mark.slow
@pytest.mark.parametrize("pairs", SEGMENTATION_PAIRS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_segmentation_turn_is_that_of_one_channel_where_the_other_is_not_looked_at(shape, pairs):
    several = [*nets(shape), 1]
    keras.utils.set_random_seed(0)
    one = [registration_net(shape, (4, 4), (4, 4, 4)), light_unet(shape, N_CLASSES, (4, 8)), 0]
    for net, other in zip(several[:2], one[:2], strict=True):
        for weight, of_one in zip(net.weights, other.weights, strict=True):
            if weight.shape != of_one.shape:  # the first convolution: moving and fixed, or the image alone
                kernel = np.zeros(weight.shape, np.float32)
                kernel[..., ::N_CHANNELS, :] = weight.numpy()[..., ::N_CHANNELS, :]
                weight.assign(kernel)
                of_one.assign(kernel[..., ::N_CHANNELS, :])
            else:
                of_one.assign(weight)
    data, terms = pair(shape), []
    for registration, segmentation, more in (several, one):
        shown = {side: {**s, "image": s["image"][..., : 1 + more]} for side, s in data.items()}
        if pairs == "weighted":  # whose residual is the mean of both channels: here they are equal
            shown = {side: {**s, "image": tf.repeat(s["image"][..., :1], 1 + more, -1)} for side, s in shown.items()}
        method = DeepAtlas(registration, segmentation, segmentation_pairs=pairs)
        method.compile()
        terms.append(method.segmentation_terms(shown))
    for name, value in terms[0].items():
        np.testing.assert_allclose(value, terms[1][name], rtol=1e-4, err_msg=name)


@pytest.mark.parametrize("shape", SHAPES)
def test_instance_optimisation_sums_over_channels_too(shape):
    data = pair(shape)
    moving, fixed = (data[side]["image"] for side in ("moving", "fixed"))
    u = 0.5 * tf.random.stateless_normal((1, *shape, len(shape)), (1, 2))
    weights = {"similarity": 2.0, "smoothness": 1.0}
    loss = instance_loss(u, moving, fixed, InstanceOptimisation(weights=weights, **SIMILARITY))
    alone = {"similarity": "local_ncc", "similarity_settings": {"window": 5}}
    each = [
        instance_loss(u, *(x[..., k : k + 1] for x in (moving, fixed)), InstanceOptimisation(weights=weights, **alone))
        for k in range(N_CHANNELS)
    ]
    smooth = each[0] - 2 * local_ncc(warp(moving, u)[..., :1], fixed[..., :1], 5)
    expected = sum(w * (value - smooth) for w, value in zip(WEIGHTS, each, strict=True)) + smooth
    np.testing.assert_allclose(loss, expected, rtol=1e-4)
    anatomies = [tf.nn.softmax(tf.random.stateless_normal((1, *shape, 3), (seed, 0))) for seed in range(2)]
    settings = InstanceOptimisation(weights={**weights, "anatomy": 1.0}, **SIMILARITY)
    both = instance_loss(u, moving, fixed, settings, None, anatomies)
    one = instance_loss(u, moving[..., :1], fixed[..., :1], settings_of_one(settings), None, anatomies)
    dice = one - each[0]
    np.testing.assert_allclose(both, expected + dice, rtol=1e-4)


def settings_of_one(settings):
    return InstanceOptimisation(weights=settings.weights, similarity="local_ncc", similarity_settings={"window": 5})
