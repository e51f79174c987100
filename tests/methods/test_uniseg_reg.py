"""UniSegReg's losses against NumPy, and what a soft label may and may not do."""

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from deepatlas_tf.keras_stack import keras, tf
from deepatlas_tf.methods.uniseg_reg import RESIDUAL_WEIGHTS, UniSegReg, anatomy, residual_penalty
from deepatlas_tf.models.registration.pyramid import pyramid_net

SHAPES = {"2D": (8, 6), "3D": (6, 4, 4)}


def segmentation_net(shape):
    image = keras.Input((*shape, 1))
    conv = getattr(keras.layers, f"Conv{len(shape)}D")
    return keras.Model(image, conv(3, 3, padding="same", activation="softmax")(image))


def build(shape):
    keras.utils.set_random_seed(0)
    registration = pyramid_net(shape, (4, 4))
    for k in range(2):
        kernel = registration.get_layer(f"residual{k}").kernel
        kernel.assign(tf.random.stateless_normal(kernel.shape, (k, 1), stddev=0.2))
    method = UniSegReg(registration, segmentation_net(shape), n_classes=3)
    method.compile()
    return method


def sample(shape, seed, weights, soft=True):
    rng = np.random.default_rng(seed)
    n = len(weights)
    made = {
        "image": tf.constant(rng.random((n, *shape, 1)), tf.float32),
        "label": tf.constant(rng.integers(0, 3, (n, *shape)), tf.int32),
        "label_weight": tf.constant(weights, tf.float32),
    }
    if soft:
        made["soft_label"] = tf.constant(rng.dirichlet(np.ones(3), (n, *shape)), tf.float32)
    return made


def pair(shape, soft=True):
    return {
        "moving": sample(shape, 0, [(1, 1, 1), (0, 0, 0)], soft),
        "fixed": sample(shape, 1, [(0, 0, 0), (0, 0, 0)], soft),
    }


@pytest.mark.parametrize("n_axes", [2, 3])
def test_residual_penalty_by_hand(n_axes):
    assert RESIDUAL_WEIGHTS == {2: (128, 64, 32, 16, 8), 3: (16, 8, 4, 2)}
    weights, rng = RESIDUAL_WEIGHTS[n_axes], np.random.default_rng(0)
    residuals = [rng.normal(size=(2, *[2 + k] * n_axes, n_axes)).astype(np.float32) for k in range(len(weights))]
    expected = np.zeros(2)
    for weight, r in zip(weights, residuals, strict=True):
        parts = [(np.diff(r, axis=axis + 1) ** 2).reshape(2, -1).mean(1) for axis in range(n_axes)]
        expected += weight * np.mean(parts, axis=0) / len(weights)
    np.testing.assert_allclose(residual_penalty([tf.constant(r) for r in residuals]), expected, rtol=1e-5)
    last = [(np.diff(residuals[0], axis=axis + 1) ** 2).reshape(2, -1).mean(1) for axis in range(n_axes)]
    one_level = residual_penalty([tf.constant(residuals[0])])
    np.testing.assert_allclose(one_level, weights[-1] * np.mean(last, axis=0), rtol=1e-5)
    with pytest.raises(ValueError, match="levels"):
        residual_penalty([tf.zeros((1, *[3] * n_axes, n_axes))] * 6)


def halved(x):
    """Mean of 2^D voxels, of an image of even size ``(*S, C)``."""
    for axis in range(x.ndim - 1):
        x = (x.take(range(0, x.shape[axis], 2), axis) + x.take(range(1, x.shape[axis], 2), axis)) / 2
    return x


def warped(x, u):
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in x.shape[:-1]), indexing="ij")) + np.moveaxis(u, -1, 0)
    return np.stack([map_coordinates(x[..., c], grid, order=1, mode="nearest") for c in range(x.shape[-1])], -1)


def dice_loss(p, q):
    axes = tuple(range(p.ndim - 1))
    return np.mean(1 - 2 * (p * q).sum(axes)[1:] / (p.sum(axes) + q.sum(axes))[1:])


@pytest.mark.slow
@pytest.mark.parametrize("dimension", SHAPES)
def test_registration_terms_are_means_over_the_levels(dimension):
    shape = SHAPES[dimension]
    method, data = build(shape), pair(shape)
    fields, _ = method.levels([data["moving"]["image"], data["fixed"]["image"]], training=True)
    terms = method.registration_terms(data)
    a_m, a_f = (anatomy(data[side], 3).numpy() for side in ("moving", "fixed"))
    one_hot = np.eye(3, dtype=np.float32)[data["moving"]["label"][0]]
    np.testing.assert_allclose(a_m[0], one_hot, atol=1e-6)  # a whole label needs no soft one
    np.testing.assert_allclose(a_m[1], data["moving"]["soft_label"][1], atol=1e-6)
    for i in range(2):
        moving, fixed = (data[s]["image"][i].numpy() for s in ("moving", "fixed"))
        levels = [(moving, fixed, a_m[i], a_f[i]), tuple(map(halved, (moving, fixed, a_m[i], a_f[i])))]
        ncc, overlap = [], []
        for (im, jm, am, bm), u in zip(levels, reversed(fields), strict=True):
            ncc.append(1 - np.corrcoef(warped(im, u[i].numpy()).ravel(), jm.ravel())[0, 1])
            overlap.append(dice_loss(warped(am, u[i].numpy()), bm))
        np.testing.assert_allclose(terms["similarity"][i], np.mean(ncc), atol=1e-4)
        np.testing.assert_allclose(terms["anatomy"][i], np.mean(overlap), atol=1e-4)


@pytest.mark.parametrize("dimension", SHAPES)
def test_segmentation_terms_are_means_over_the_two_images(dimension):
    shape = SHAPES[dimension]
    method, data = build(shape), pair(shape)
    terms = method.segmentation_terms(data)
    for i in range(2):
        dices, entropies = [], []
        for side in ("moving", "fixed"):
            p = method.nets["segmentation"](data[side]["image"]).numpy()[i]
            q = anatomy(data[side], 3).numpy()[i]
            dices.append(dice_loss(p, q))
            entropies.append(-(q * np.log(p)).sum(-1).mean())
        np.testing.assert_allclose(terms["supervised"][i], np.mean(dices), atol=1e-4)
        np.testing.assert_allclose(terms["supervised_cross_entropy"][i], np.mean(entropies), atol=1e-4)
    assert method.weights_by_turn["segmentation"] == {"supervised": 0.5, "supervised_cross_entropy": 0.5}


def test_an_emptied_voxel_has_no_influence():
    """As by the gate of a stage: there, neither the prediction nor the other image's anatomy counts."""
    shape = SHAPES["2D"]
    method, data = build(shape), pair(shape)
    for k in range(2):
        method.nets["registration"].get_layer(f"residual{k}").kernel.assign(tf.zeros((3, 3, 4, 2)))
    soft = data["fixed"]["soft_label"].numpy()
    soft[:, :4, :2] = 0  # whole voxels of the coarse level
    moving = {**data["moving"], "label_weight": tf.zeros((2, 3))}
    gated = {"moving": moving, "fixed": {**data["fixed"], "soft_label": tf.constant(soft)}}
    changed = moving["soft_label"].numpy()
    changed[:, :4, :2] = changed[:, :4, :2, ::-1]
    other = {**gated, "moving": {**moving, "soft_label": tf.constant(changed)}}
    before, after = (method.registration_terms(x)["anatomy"].numpy() for x in (gated, other))
    np.testing.assert_allclose(before, after, atol=1e-6)
    p = method.nets["segmentation"](data["fixed"]["image"]).numpy()
    log = -(soft * np.log(p)).sum(-1).mean((1, 2))
    both = {"moving": gated["fixed"], "fixed": gated["fixed"]}
    np.testing.assert_allclose(method.segmentation_terms(both)["supervised_cross_entropy"], log, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("soft", [True, False])
def test_only_the_net_of_the_turn_changes(soft):
    shape = SHAPES["2D"]
    method = build(shape)
    for turn in ("registration", "segmentation"):
        before = {name: net.get_weights() for name, net in method.nets.items()}
        method.update(turn, pair(shape, soft))
        for name, net in method.nets.items():
            unchanged = all(np.array_equal(x, y) for x, y in zip(before[name], net.get_weights(), strict=True))
            assert unchanged == (name != turn)
