"""Domain adaptation: every term against NumPy, with networks of one layer; who changes in which turn."""

import numpy as np
import pytest
from scipy.special import expit, softmax

from deepatlas_tf.keras_stack import keras, tf
from deepatlas_tf.methods.domain_adaptation import DomainAdaptation

N_CLASSES = 3
SHAPES = [(5, 4), (3, 4, 5)]
ACTIVATIONS = {"segmentation": (N_CLASSES, softmax), "generator": (1, expit), "discriminator": (1, None)}


def pointwise(name, shape, seed):
    """One linear function of the intensity for each voxel, and the activation of the kind of network."""
    width, function = ACTIVATIONS[name.split("_")[0]]
    activation = {softmax: "softmax", expit: "sigmoid", None: None}[function]
    net = keras.Sequential([keras.Input((*shape, 1)), keras.layers.Dense(width, activation)])
    rng = np.random.default_rng(seed)
    net.set_weights([rng.normal(0, 3, w.shape).astype(np.float32) for w in net.get_weights()])
    return net


def in_numpy(net, name):
    function = ACTIVATIONS[name.split("_")[0]][1] or (lambda x: x)
    options = {"axis": -1} if function is softmax else {}
    kernel, bias = net.get_weights()
    return lambda x: function(x @ kernel + bias, **options)


def make_method(shape, weights=None):
    names = ("segmentation", "segmentation_a", "generator_ab", "generator_ba", "discriminator_a", "discriminator_b")
    nets = {name: pointwise(name, shape, seed) for seed, name in enumerate(names)}
    method = DomainAdaptation(**nets)
    method.compile(weights=weights)
    return method, {name: in_numpy(net, name) for name, net in nets.items()}


def make_pair(shape, moving_weight=(1.0, 1.0, 1.0)):
    rng = np.random.default_rng(9)

    def sample(weight):
        return {
            "image": rng.random((2, *shape, 1), dtype=np.float32),
            "label": rng.integers(0, N_CLASSES, (2, *shape)).astype(np.int32),
            "label_weight": np.tile(np.float32(weight), (2, 1)),
        }

    return {"moving": sample(moving_weight), "fixed": sample((0, 0, 0))}


def dice(p, q):
    """One minus the mean Dice over the foreground classes, for each example."""
    axes = tuple(range(1, p.ndim - 1))
    return (1 - 2 * (p * q).sum(axes) / (p.sum(axes) + q.sum(axes)))[:, 1:].mean(axis=1)


def mean(x):
    return x.mean(axis=tuple(range(1, x.ndim)))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("labelled", [True, False])
def test_terms_of_the_generators_are_those_of_the_equations(shape, labelled):
    method, net = make_method(shape)
    pair = make_pair(shape, (1, 1, 1) if labelled else (0, 0, 0))
    a, b = pair["moving"]["image"], pair["fixed"]["image"]
    s_a, s_b, g, f = (net[n] for n in ("segmentation_a", "segmentation", "generator_ab", "generator_ba"))
    y = np.eye(N_CLASSES)[pair["moving"]["label"]] if labelled else s_a(a)
    expected = {
        "adversarial": mean((net["discriminator_b"](g(a)) - 1) ** 2) + mean((net["discriminator_a"](f(b)) - 1) ** 2),
        "cycle": mean(np.abs(f(g(a)) - a)) + mean(np.abs(g(f(b)) - b)),
        "identity": mean(np.abs(g(b) - b)) + mean(np.abs(f(a) - a)),
        "dice_translated": dice(s_b(g(a)), y),
        "dice_cycled": dice(s_a(f(g(a))), y),
        "dice_agreement": dice(s_b(b), s_a(f(b))),
        "dice_agreement_cycled": dice(s_a(f(b)), s_b(g(f(b)))),
    }
    terms = method.generators_terms(pair)
    assert set(terms) == set(expected) == set(DomainAdaptation.default_weights["generators"])
    for name, value in expected.items():
        np.testing.assert_allclose(terms[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_term_of_the_discriminators(shape):
    method, net = make_method(shape)
    pair = make_pair(shape)
    a, b = pair["moving"]["image"], pair["fixed"]["image"]
    d_a, d_b = net["discriminator_a"], net["discriminator_b"]
    in_a, in_b = net["generator_ba"](b), net["generator_ab"](a)
    parts = [mean((d_b(b) - 1) ** 2), mean(d_b(in_b) ** 2), mean((d_a(a) - 1) ** 2), mean(d_a(in_a) ** 2)]
    np.testing.assert_allclose(method.discriminators_terms(pair)["discrimination"], sum(parts) / 2, rtol=1e-4)


def test_the_loss_is_published_with_the_weights_1_10_5_and_5():
    method, _ = make_method((5, 4))
    pair = make_pair((5, 4))
    terms = {name: float(tf.reduce_mean(value)) for name, value in method.generators_terms(pair).items()}
    logs = method.train_step(pair)
    dices = sum(value for name, value in terms.items() if name.startswith("dice"))
    expected = terms["adversarial"] + 10 * terms["cycle"] + 5 * terms["identity"] + 5 * dices
    assert float(logs["generators/loss"]) == pytest.approx(expected, rel=1e-5)


def test_each_turn_changes_its_networks_only():
    method, _ = make_method((5, 4))
    pair = make_pair((5, 4))
    assert method.nets_of("generators") == ("generator_ab", "generator_ba", "segmentation")
    assert method.nets_of("segmentation") == ("segmentation",)
    for step in range(4):
        turn = method.turn_at(step)
        before = {name: net.get_weights() for name, net in method.nets.items()}
        method.train_step(pair)
        changed = {n for n, net in method.nets.items() if not np.array_equal(before[n][0], net.get_weights()[0])}
        assert changed == set(method.nets_of(turn)), turn
    assert method.steps == 4


def test_the_labels_of_the_target_domain_are_never_used():
    method, _ = make_method((5, 4))
    pair = make_pair((5, 4))
    shown = {"label": 2 - pair["fixed"]["label"], "label_weight": np.ones((2, 3), np.float32)}
    other = {**pair, "fixed": {**pair["fixed"], **shown}}
    for turn in method.turns:
        terms, same = (getattr(method, f"{turn}_terms")(p) for p in (pair, other))
        for name in terms:
            np.testing.assert_array_equal(terms[name], same[name])


def test_a_turn_that_is_neither_a_net_nor_a_group_is_refused():
    nets = {name: net for name, net in make_method((5, 4))[0].nets.items()}
    with pytest.raises(ValueError, match="turns must name the nets .*discriminators.*translation"):
        DomainAdaptation(**nets, turns=("translation",))
