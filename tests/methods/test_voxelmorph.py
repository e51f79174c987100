"""VoxelMorph: on the same weights and inputs its terms are those of voxelmorph 0.2's own losses."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

from deepatlas_tf.keras_stack import graph_function, keras, tf, vxm
from deepatlas_tf.losses.consistency import gradient_inverse_consistency, inverse_consistency
from deepatlas_tf.losses.similarity import SIMILARITIES as ALL_SIMILARITIES
from deepatlas_tf.losses.smoothness import bending_energy
from deepatlas_tf.methods.voxelmorph import VoxelMorph
from deepatlas_tf.models.build import load_net
from deepatlas_tf.models.registration.voxelmorph import registration_net
from deepatlas_tf.models.velocity import split_integration

N_CLASSES = 4
SHAPES = [(9, 10), (6, 7, 8)]
EVERY_TERM = dict.fromkeys(VoxelMorph.default_weights["registration"], 1.0)


def moving_net(shape, diffeomorphic=False):
    """A registration network that moves by about a voxel."""
    keras.utils.set_random_seed(0)
    net = registration_net(shape, (4, 4), (4, 4, 4), diffeomorphic=diffeomorphic)
    flow = net.get_layer("flow")
    flow.kernel.assign(tf.random.stateless_normal(flow.kernel.shape, (0, 1), stddev=0.3))
    return net


def make_pair(shape, moving_weight=(1.0,) * N_CLASSES, fixed_weight=(1.0,) * N_CLASSES):
    rng = np.random.default_rng(0)

    def sample(weight):
        return {
            "image": rng.random((2, *shape, 1), dtype=np.float32),
            "label": rng.integers(0, N_CLASSES, (2, *shape)).astype(np.int32),
            "label_weight": np.tile(np.float32(weight), (2, 1)),
        }

    return {"moving": sample(moving_weight), "fixed": sample(fixed_weight)}


def compiled(net, weights=EVERY_TERM, **settings):
    method = VoxelMorph(net, N_CLASSES, **settings)
    method.compile(weights={"registration": weights})
    return method


def images_of(pair):
    return [tf.constant(pair[side]["image"]) for side in ("moving", "fixed")]


def voxelmorph_warp(x, u):
    return vxm.layers.SpatialTransformer()([x, u])


SIMILARITIES = {
    "local_ncc": ({"window": 5}, lambda warped, fixed: 1 + vxm.losses.NCC(win=5).loss(fixed, warped)),
    "mse": ({"image_sigma": 0.05}, lambda warped, fixed: vxm.losses.MSE(image_sigma=0.05).loss(fixed, warped)),
}


@pytest.mark.long
@pytest.mark.parametrize(
    ("shape", "diffeomorphic", "similarity"),
    [
        (SHAPES[0], False, "local_ncc"),
        (SHAPES[0], True, "mse"),
        (SHAPES[1], False, "mse"),
        (SHAPES[1], True, "local_ncc"),
    ],
)
def test_terms_equal_voxelmorphs(shape, diffeomorphic, similarity):
    """Both directions; the field and its inverse come from voxelmorph's VecInt and are warped by its layers."""
    net, pair = moving_net(shape, diffeomorphic), make_pair(shape)
    settings, own = SIMILARITIES[similarity]
    terms = graph_function(compiled(net, similarity=similarity, similarity_settings=settings).registration_terms)(pair)
    moving, fixed = images_of(pair)
    if diffeomorphic:
        field = keras.Model(net.inputs, net.get_layer("crop").output)([moving, fixed])
        integrate = vxm.layers.VecInt(method="ss", int_steps=7)
        u, inverse = integrate(field), integrate(-field)
    else:
        field = u = net([moving, fixed])
        inverse = net([fixed, moving])
    labels = [tf.one_hot(pair[side]["label"], N_CLASSES) for side in ("moving", "fixed")]
    dices = [
        vxm.losses.Dice().loss(target[..., 1:], voxelmorph_warp(source, by)[..., 1:])
        for source, target, by in ((*labels, u), (*labels[::-1], inverse))
    ]
    expected = {
        "similarity": own(voxelmorph_warp(moving, u), fixed),
        "similarity_inverse": own(voxelmorph_warp(fixed, inverse), moving),
        "gradient": vxm.losses.Grad("l2").loss(None, field),
        "gradient_l1": vxm.losses.Grad("l1").loss(None, field),
        "anatomy": 1 + dices[0],
        "anatomy_inverse": 1 + dices[1],
    }
    for name, reference in expected.items():
        np.testing.assert_allclose(tf.reduce_mean(terms[name]), tf.reduce_mean(reference), rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("diffeomorphic", [False, True])
def test_the_other_regularisers(diffeomorphic):
    net, pair = moving_net((9, 10), diffeomorphic), make_pair((9, 10))
    terms = compiled(net).registration_terms(pair)
    moving, fixed = images_of(pair)
    head, _ = split_integration(net)
    u, back = net([moving, fixed]), net([fixed, moving])
    np.testing.assert_allclose(terms["smoothness"], bending_energy(head([moving, fixed])), rtol=1e-4)
    np.testing.assert_allclose(terms["inverse_consistency"], inverse_consistency(u, back), rtol=1e-4)
    np.testing.assert_allclose(terms["gradient_inverse_consistency"], gradient_inverse_consistency(u, back), rtol=1e-4)
    assert set(terms) == set(EVERY_TERM) and all(value.shape == (2,) for value in terms.values())


@pytest.mark.parametrize("diffeomorphic", [False, True])
def test_each_pass_of_the_network_is_paid_for_by_a_weight(diffeomorphic, monkeypatch):
    passes = {
        ("similarity", "smoothness"): 1,
        ("similarity", "similarity_inverse"): 1 if diffeomorphic else 2,
        ("anatomy", "anatomy_inverse", "gradient_inverse_consistency"): 2,
    }
    for weights, expected in passes.items():
        method, calls = compiled(moving_net((9, 10), diffeomorphic), dict.fromkeys(weights, 1.0)), []
        head = method.head
        monkeypatch.setattr(method, "head", lambda *a, head=head, calls=calls, **k: calls.append(1) or head(*a, **k))
        terms = method.registration_terms(make_pair((9, 10)))
        assert len(calls) == expected and set(weights) <= set(terms)


def test_anatomy_is_the_dice_of_the_classes_labelled_on_both_sides():
    """Class 1 on both sides, 2 on the moving side only, 3 on the fixed side only."""
    net = moving_net((9, 10))
    pair = make_pair((9, 10), (0, 1, 1, 0), (0, 1, 0, 1))
    terms = compiled(net).registration_terms(pair)
    moving, fixed = (tf.cast(pair[side]["label"] == 1, tf.float32)[..., None] for side in ("moving", "fixed"))
    dice = vxm.losses.Dice().loss(fixed, voxelmorph_warp(moving, net(images_of(pair))))
    np.testing.assert_allclose(tf.reduce_mean(terms["anatomy"]), (1 + dice) / 3, rtol=1e-5)
    none_in_common = compiled(net).registration_terms(make_pair((9, 10), (0, 1, 0, 0), (0, 0, 1, 1)))
    np.testing.assert_allclose(none_in_common["anatomy"], 0, atol=1e-7)


@pytest.mark.slow
def test_the_weight_of_gradicon_makes_the_two_directions_consistent():
    """Ten steps without and with it: the composition of the two directions comes nearer to a translation."""
    pair = make_pair((9, 10))
    consistency = {}
    for weight in (0.0, 3.0):
        method = compiled(moving_net((9, 10)), {"similarity": 1.0, "gradient_inverse_consistency": weight})
        for _ in range(10):
            method.train_step(pair)
        moving, fixed = images_of(pair)
        net = method.nets["registration"]
        errors = gradient_inverse_consistency(net([moving, fixed]), net([fixed, moving]))
        consistency[weight] = float(tf.reduce_mean(errors))
    assert consistency[3.0] < 0.5 * consistency[0.0]


@pytest.mark.long
@pytest.mark.parametrize(
    ("similarity", "shape"), [*((name, (24, 20)) for name in ALL_SIMILARITIES), ("mind_ssc", (14, 12, 13))]
)
def test_every_similarity_finds_a_shift(shape, similarity):
    """A translation is learned from two smooth images that are a voxel and a half apart."""
    coarse = np.random.default_rng(0).normal(size=(2, *[n + 4 for n in shape]))
    image = gaussian_filter(coarse, (0, *[1.5] * len(shape)))
    image = ((image - image.min()) / np.ptp(image)).astype(np.float32)
    pair = make_pair(shape)
    for side, by in (("moving", 0.0), ("fixed", 1.5)):
        moved = shift(image, (0, by, *[0] * (len(shape) - 1)), order=1, mode="nearest")
        pair[side]["image"] = moved[(slice(None), *[slice(2, -2)] * len(shape))][..., None]
    net = Shift(start=0.0)
    net(images_of(pair))
    method = VoxelMorph(net, N_CLASSES, similarity=similarity)
    method.compile({"registration": keras.optimizers.Adam(0.1)}, {"registration": {"similarity": 1.0}})
    for _ in range(60):
        method.train_step(pair)
    found = net.get_weights()[0]
    assert abs(found[0] + 1.5) < 0.35 and np.abs(found[1:]).max() < 0.35, found


class Shift(keras.Model):
    """A registration network that is no functional model: a learned translation."""

    def __init__(self, start=1.0):
        super().__init__()
        self.start = start

    def build(self, input_shape):
        n_axes = len(input_shape[0]) - 2
        self.shift = self.add_weight("shift", (n_axes,), initializer=keras.initializers.Constant(self.start))

    def call(self, inputs, training=None):
        return tf.ones_like(inputs[0]) * self.shift


def test_any_keras_model_can_be_the_network():
    net, pair = Shift(), make_pair((9, 10))
    net(images_of(pair))
    assert split_integration(net) == (net, None)
    method = compiled(net)
    terms = method.registration_terms(pair)
    np.testing.assert_allclose(terms["gradient"], 0, atol=1e-7)
    np.testing.assert_allclose(terms["inverse_consistency"], 8, rtol=1e-5)  # both directions shift by (1, 1)
    method.train_step(pair)
    assert not np.array_equal(net.get_weights()[0], [1, 1])


@pytest.mark.parametrize("diffeomorphic", [False, True])
def test_the_velocity_field_of_a_loaded_net(tmp_path, diffeomorphic):
    net, pair = moving_net((9, 10), diffeomorphic), make_pair((9, 10))
    net.save(tmp_path / "net.keras")
    head, integrate = split_integration(load_net(tmp_path / "net.keras"))
    field = head(images_of(pair))
    np.testing.assert_allclose(integrate(field) if diffeomorphic else field, net(images_of(pair)), atol=1e-5)
    assert (integrate is not None) == diffeomorphic


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="no setting 'sigma'"):
        VoxelMorph(moving_net((9, 10)), N_CLASSES, similarity="mse", similarity_settings={"sigma": 0.1})
