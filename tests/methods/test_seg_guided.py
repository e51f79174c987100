"""Registration by label maps, against SciPy; the frozen networks; and augmentation by registration."""

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from deepatlas_tf.keras_stack import keras, tf
from deepatlas_tf.methods.registration_augmentation import RegistrationAugmentation
from deepatlas_tf.methods.seg_guided import SegGuided
from deepatlas_tf.models.registration.voxelmorph import registration_net
from deepatlas_tf.types import SettingError

N_CLASSES = 3
SHAPES = [(9, 10), (6, 7, 8)]


def segmenter(shape, seed):
    """Class probabilities from the intensity of each voxel alone."""
    net = keras.Sequential([keras.Input((*shape, 1)), keras.layers.Dense(N_CLASSES, "softmax")])
    net = keras.Model(net.inputs, net.outputs[0])
    rng = np.random.default_rng(seed)
    net.set_weights([rng.normal(0, 5, w.shape).astype(np.float32) for w in net.get_weights()])
    return net


def moving_net(shape):
    keras.utils.set_random_seed(0)
    net = registration_net(shape, (4, 4), (4, 4, 4), channels=N_CLASSES)
    flow = net.get_layer("flow")
    flow.kernel.assign(tf.random.stateless_normal(flow.kernel.shape, (0, 1), stddev=0.3))
    return net


def make_pair(shape, moving_weight=(1, 1, 1)):
    rng = np.random.default_rng(0)

    def sample(weight):
        return {
            "image": rng.random((2, *shape, 1), dtype=np.float32),
            "label": rng.integers(0, N_CLASSES, (2, *shape)).astype(np.int32),
            "label_weight": np.tile(np.float32(weight), (2, 1)),
        }

    return {"moving": sample(moving_weight), "fixed": sample((0, 0, 0))}


def scipy_warp(x, u, order=1):
    """``x (B, *S, C)`` at ``id + u``, with the nearest voxel outside."""
    places = np.indices(u.shape[1:-1]) + np.moveaxis(u, -1, 1)  # (B, D, *S)
    warped = [
        [map_coordinates(c, p, order=order, mode="nearest") for c in np.moveaxis(one, -1, 0)]
        for one, p in zip(x, places, strict=True)
    ]
    return np.moveaxis(np.array(warped), 1, -1)


def dice(p, q):
    axes = tuple(range(1, p.ndim - 1))
    return (1 - 2 * (p * q).sum(axes) / (p.sum(axes) + q.sum(axes) + 1e-9))[:, 1:].mean(axis=1)


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_terms_are_those_of_label_and_prediction_warped_by_scipy(shape):
    inner, (s_a, s_b) = moving_net(shape), (segmenter(shape, 1), segmenter(shape, 2))
    method, pair = SegGuided(inner, s_a, s_b), make_pair(shape)
    method.compile()
    moving = np.eye(N_CLASSES, dtype="f")[pair["moving"]["label"]]
    fixed = np.eye(N_CLASSES, dtype="f")[np.argmax(s_b(pair["fixed"]["image"]), -1)]
    u, back = inner([moving, fixed]).numpy(), inner([fixed, moving]).numpy()
    error = back + scipy_warp(u, back)
    axes = tuple(range(1, error.ndim - 1))
    parts = [(np.diff(error, axis=axis) ** 2).mean(axis=axes).sum(axis=-1) for axis in axes]
    terms = method.registration_terms(pair)
    np.testing.assert_allclose(terms["anatomy"], dice(scipy_warp(moving, u), fixed), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(terms["anatomy_inverse"], dice(scipy_warp(fixed, back), moving), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(terms["gradient_inverse_consistency"], sum(parts), rtol=1e-3, atol=1e-4)
    assert np.abs(u).mean() > 0.1


def test_the_saved_network_takes_images_and_segments_them_itself():
    shape = (9, 10)
    inner, (s_a, s_b) = moving_net(shape), (segmenter(shape, 1), segmenter(shape, 2))
    method, pair = SegGuided(inner, s_a, s_b), make_pair(shape)
    images = [pair[side]["image"] for side in ("moving", "fixed")]
    maps = [np.eye(N_CLASSES, dtype="f")[np.argmax(s(x), -1)] for s, x in zip((s_a, s_b), images, strict=True)]
    np.testing.assert_allclose(method.nets["registration"](images), inner(maps), atol=1e-5)


@pytest.mark.slow
def test_the_segmentation_networks_stay_frozen():
    shape = (9, 10)
    inner, (s_a, s_b) = moving_net(shape), (segmenter(shape, 1), segmenter(shape, 2))
    method = SegGuided(inner, s_a, s_b)
    method.compile()
    before = [net.get_weights() for net in (s_a, s_b, inner)]
    for _ in range(2):
        method.train_step(make_pair(shape))
    for old, net in zip(before[:2], (s_a, s_b), strict=True):
        np.testing.assert_array_equal(old[0], net.get_weights()[0])
    assert not np.array_equal(before[2][0], inner.get_weights()[0])


def shift_by_one(shape):
    """A registration network that always moves by one voxel along the first axis."""
    moving, fixed = keras.Input((*shape, 1)), keras.Input((*shape, 1))
    conv = getattr(keras.layers, f"Conv{len(shape)}D")(len(shape), 1, kernel_initializer="zeros")
    net = keras.Model([moving, fixed], conv(keras.layers.Concatenate()([moving, fixed])))
    conv.bias.assign([1.0] + [0.0] * (len(shape) - 1))
    return net


@pytest.mark.parametrize("shape", SHAPES)
def test_image_and_label_are_warped_together(shape):
    segmentation = segmenter(shape, 1)
    method, pair = RegistrationAugmentation(shift_by_one(shape), segmentation), make_pair(shape, (0, 1, 1))
    method.compile()
    image, label = (np.concatenate([x[:, 1:], x[:, -1:]], axis=1) for x in map(pair["moving"].get, ("image", "label")))
    p, q = segmentation(image).numpy(), np.eye(N_CLASSES)[label]
    terms = method.segmentation_terms(pair)
    np.testing.assert_allclose(terms["supervised"], dice(p, q), rtol=1e-4)
    known = (q * [0, 1, 1]).sum(-1)  # the background may be anything else: it has no weight
    log_p = np.where(known > 0, np.log((p * q).sum(-1)), np.log(p[..., 0]))
    expected = -log_p.mean(axis=tuple(range(1, log_p.ndim)))
    np.testing.assert_allclose(terms["supervised_cross_entropy"], expected, rtol=1e-3)
    before = method.nets["registration"].get_weights()
    method.train_step(pair)
    np.testing.assert_array_equal(before[-1], method.nets["registration"].get_weights()[-1])


class Shift(keras.Model):
    """A registration of label maps that is no functional model: it always moves by the same, learned distance."""

    def build(self, input_shape):
        self.shift = self.add_weight("shift", (input_shape[0].rank - 2,), initializer="ones")

    def call(self, inputs, training=None):
        return tf.ones_like(inputs[0][..., :1]) * self.shift


class Classes(keras.Model):
    """A segmentation network that is no functional model."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(N_CLASSES, "softmax", kernel_initializer=keras.initializers.RandomNormal(0, 5))

    def call(self, image, training=None):
        return self.dense(image)


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_networks_that_are_no_functional_models(shape):
    pair, register, segment = make_pair(shape), Shift(), [Classes(), Classes()]
    with pytest.raises(SettingError, match="Classes does not know its inputs yet"):
        SegGuided(register, *segment)
    probabilities = [net(pair["fixed"]["image"]) for net in segment]
    fixed = np.eye(N_CLASSES, dtype="f")[np.argmax(probabilities[1], -1)]
    moving = np.eye(N_CLASSES, dtype="f")[pair["moving"]["label"]]
    u = register([moving, fixed]).numpy()
    method = SegGuided(register, *segment)
    method.compile()
    terms = method.registration_terms(pair)
    np.testing.assert_allclose(terms["anatomy"], dice(scipy_warp(moving, u), fixed), rtol=1e-3, atol=1e-4)
    frozen = [net.get_weights()[0] for net in segment]
    method.train_step(pair)
    np.testing.assert_array_equal(frozen, [net.get_weights()[0] for net in segment])
    assert not np.array_equal(register.get_weights()[0], np.ones(len(shape)))
