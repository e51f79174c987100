"""A registration network that sees the anatomy, against its formula and on phantoms."""

import numpy as np
import pytest

from deepatlas_tf.keras_stack import keras, tf
from deepatlas_tf.metrics.overlap import dice
from deepatlas_tf.models.anatomy import can_see_anatomy, learns_anatomy, set_anatomy_gain, with_anatomy
from deepatlas_tf.models.build import computing_in, load_net
from deepatlas_tf.models.registration.learned_demons import DemonsForce, learned_demons_net
from deepatlas_tf.models.registration.voxelmorph import registration_net
from deepatlas_tf.models.segmentation.light import light_unet
from deepatlas_tf.phantoms.knee import CLASS_NAMES, knee
from deepatlas_tf.runs.predict import any_size, warp_label

FAINT = 1e-3
SHAPES = {"2D": (32, 24), "3D": (16, 24, 16)}


class Classes(keras.layers.Layer):
    """Class probabilities of an image of which each class has its own brightness, as a segmentation network."""

    def call(self, image):
        middles = tf.linspace(0.0, 1.0, 4)
        return tf.nn.softmax(-200 * (image - middles) ** 2)


def segmentation_net(shape):
    image = keras.Input((*shape, 1))
    return keras.Model(image, Classes(dtype="float32")(image), name="segmentation")


def blobs(shape, shift=0.0):
    """A disc within a disc, moved along the first axis."""
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1) - np.array(shape) / 2
    places[..., 0] -= shift
    distance = np.linalg.norm(places, axis=-1)
    label = (distance < min(shape) / 3).astype(np.int32) + (distance < min(shape) / 6)
    return (label / 3.0).astype(np.float32)[None, ..., None], label


def test_the_force_by_hand():
    """Two channels on a line of voxels, the damping once in the sum over channels."""
    rng = np.random.default_rng(0)
    warped, fixed = rng.random((2, 1, 6, 5, 2)).astype(np.float32)
    found = DemonsForce(damping=0.01)([warped, fixed]).numpy()
    d = fixed - warped
    g = np.stack([(np.gradient(warped, axis=axis) + np.gradient(fixed, axis=axis)) / 2 for axis in (1, 2)], axis=-1)
    inside = (0, slice(1, -1), slice(1, -1))  # at the edge the differences are halved
    expected = (d[..., None] * g).sum(-2) / ((g**2).sum((-1, -2)) + (d**2 / 4 + 0.01).sum(-1))[..., None]
    np.testing.assert_allclose(found[inside], expected[inside], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_it_begins_as_the_network_that_it_is_made_of(shape):
    """Every weight of the second force is 0, and the others are those of before, also where they were trained."""
    keras.utils.set_random_seed(0)
    net = learned_demons_net(shape, steps=(2, 1), width=4, window=5)
    for weight in net.trainable_variables:
        weight.assign_add(tf.random.normal(weight.shape, stddev=0.01))
    assert can_see_anatomy(net)
    made = with_anatomy(net, segmentation_net(shape))
    assert not learns_anatomy(made)
    moving, fixed = blobs(shape)[0], blobs(shape, 3)[0]
    found = made([moving, fixed])
    np.testing.assert_allclose(found, net([moving, fixed]), atol=1e-5)
    assert np.abs(found).max() > 0.3
    set_anatomy_gain(made, 0.3)
    assert learns_anatomy(made) and np.abs(made([moving, fixed]) - found).max() > 0.01
    set_anatomy_gain(made, 0.0)
    np.testing.assert_array_equal(made([moving, fixed]), found)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_anatomy_alone_aligns(shape, compiled):
    """The gain of the force of the images is set to 0 afterwards."""
    keras.utils.set_random_seed(0)
    made = with_anatomy(learned_demons_net(shape), segmentation_net(shape))
    set_anatomy_gain(made, 0.7)
    for level in ("level0", "level1", "level2"):
        layer = made.get_layer(level).get_layer(f"{level}_smooth")
        kernel = layer.get_weights()[0]
        kernel[..., : len(shape), :] = 0
        layer.set_weights([kernel])
    run = tf.function(lambda m, f: made([m, f])) if compiled else (lambda m, f: made([m, f]))
    (moving, label), (fixed, reference) = blobs(shape), blobs(shape, 4)
    u = run(moving, fixed).numpy()[0]
    before, after = (np.mean(dice(one, reference, 3)[1:]) for one in (label, warp_label(label, u)))
    assert after > before + 0.15


def test_phantoms_are_registered_better_by_true_anatomy():
    """Synthetic knees, whose label map is a second channel, too faint for the force of the images."""
    shape, spacing = (40, 48), (3.0, 3.0)
    scans = [knee(number, shape, spacing) for number in range(4)]
    n = len(CLASS_NAMES)
    inputs = [np.stack([image, FAINT * label], -1)[None].astype(np.float32) for image, label in scans]
    image = keras.Input((*shape, 2))
    oracle = keras.Model(image, Oracle(n)(image))
    net = learned_demons_net(shape, channels=2)
    guided = with_anatomy(net, oracle)
    set_anatomy_gain(guided, 0.7)
    found = []
    for one in (net, guided):
        pairs = [(i, (i + 1) % 4) for i in range(4)]
        fields = [one([inputs[a], inputs[b]]).numpy()[0] for a, b in pairs]
        scores = [
            np.mean(dice(warp_label(scans[a][1], u), scans[b][1], n)[1:])
            for (a, b), u in zip(pairs, fields, strict=True)
        ]
        found.append(np.mean(scores))
    assert found[1] > found[0] + 0.02


class Oracle(keras.layers.Layer):
    """The one-hot label map that the second channel holds."""

    def __init__(self, n, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.n = n

    def call(self, image):
        return tf.one_hot(tf.cast(tf.round(image[..., 1] / FAINT), tf.int32), self.n)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_saved_loaded_and_of_another_size(shape, tmp_path):
    keras.utils.set_random_seed(0)
    net = learned_demons_net(shape, steps=(1, 1), width=4)
    made = with_anatomy(net, light_unet(shape, 3, (4, 8)))
    set_anatomy_gain(made, 0.7)
    assert len(made.trainable_variables) == len(net.trainable_variables)
    made.save(tmp_path / "registration.keras", save_format="keras")
    again = load_net(tmp_path / "registration.keras")
    moving, fixed = blobs(shape)[0], blobs(shape, 2)[0]
    np.testing.assert_array_equal(again([moving, fixed]), made([moving, fixed]))
    assert len(again.trainable_variables) == len(net.trainable_variables)
    wide = [np.pad(image, [(0, 0), *[(0, 5)] * len(shape), (0, 0)]) for image in (moving, fixed)]
    assert any_size(again)(wide).shape[1:-1] == wide[0].shape[1:-1]


def test_another_segmentation_network_takes_the_place_of_the_first():
    keras.utils.set_random_seed(0)
    shape = SHAPES["2D"]
    net = with_anatomy(learned_demons_net(shape, steps=(1, 1), width=4), light_unet(shape, 3, (4, 8)))
    set_anatomy_gain(net, 0.7)
    other = with_anatomy(net, segmentation_net(shape))
    for level in ("level0", "level1"):
        for a, b in zip(net.get_layer(level).get_weights(), other.get_layer(level).get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
    moving, fixed = blobs(shape)[0], blobs(shape, 2)[0]
    assert np.abs(net([moving, fixed]) - other([moving, fixed])).max() > 0.01


def test_it_computes_in_the_precision_of_the_network():
    shape = SHAPES["2D"]
    with computing_in("mixed_bfloat16"):
        net = learned_demons_net(shape, steps=(1, 1), width=4)
    made = with_anatomy(net, segmentation_net(shape))
    for one in (net, made):
        assert one.get_layer("level0").get_layer("level0_convolution0").compute_dtype == "bfloat16"
    assert keras.mixed_precision.global_policy().name == "float32" and made.outputs[0].dtype == "float32"


def test_other_networks_see_no_anatomy():
    assert not can_see_anatomy(registration_net((16, 16), (4, 4), (4, 4, 4)))
