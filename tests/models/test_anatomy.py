"""A registration network that sees the anatomy, against its formula, and trained on the anatomy of synthetic blobs."""

import numpy as np
import pytest
import scipy.ndimage

from deepatlas_tf.keras_stack import graph_function, keras, tf
from deepatlas_tf.losses.overlap import soft_dice
from deepatlas_tf.metrics.overlap import dice
from deepatlas_tf.models import anatomy
from deepatlas_tf.models.anatomy import IMAGES, STEP, sees_anatomy, with_anatomy
from deepatlas_tf.models.build import computing_in, load_net
from deepatlas_tf.models.registration.cascade import cascade_net
from deepatlas_tf.models.registration.learned_demons import learned_demons_net
from deepatlas_tf.models.registration.voxelmorph import registration_net
from deepatlas_tf.models.segmentation.light import light_unet
from deepatlas_tf.ops.warp import warp
from deepatlas_tf.runs.predict import any_size, warp_label

SHAPES = {"2D": (32, 24), "3D": (16, 24, 16)}
NETS = {
    "demons": lambda shape: learned_demons_net(shape, steps=(1, 1), width=4),
    "u-net": lambda shape: registration_net(shape, (4, 4), (4, 4, 4)),
    "diffeomorphic": lambda shape: registration_net(shape, (4, 4), (4, 4, 4), diffeomorphic=True),
    "cascade": lambda shape: cascade_net(shape, (4, 4), (4, 4, 4), (2, 1)),
}


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    """The step has few channels, which is quicker to build and to compile."""
    monkeypatch.setattr(anatomy, "ENCODER", (8, 16))
    monkeypatch.setattr(anatomy, "DECODER", (16, 8, 8))


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


def shaken(net, stddev):
    """The network with other weights, as if it were trained."""
    for weight in net.trainable_variables:
        weight.assign_add(tf.random.normal(weight.shape, stddev=stddev))
    return net


@pytest.mark.slow
@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_it_begins_as_the_network_that_it_is_made_of(shape, kind):
    keras.utils.set_random_seed(0)
    net = shaken(NETS[kind](shape), 0.1)
    made = with_anatomy(net, segmentation_net(shape))
    assert sees_anatomy(made) and not sees_anatomy(net)
    moving, fixed = blobs(shape)[0], blobs(shape, 3)[0]
    u = net([moving, fixed]).numpy()
    assert np.abs(u).max() > 0.1
    np.testing.assert_allclose(made([moving, fixed]), u, atol=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("shape", [(30, 25), (12, 18, 15)], ids=SHAPES)
def test_the_field_is_that_of_the_formula(shape, compiled):
    """Written with the warp, means by NumPy and an interpolation by SciPy; sizes that half a grid does not divide."""
    keras.utils.set_random_seed(0)
    net, segment = shaken(NETS["demons"](shape), 0.02), segmentation_net(shape)
    made = with_anatomy(net, segment)
    shaken(made.get_layer(STEP), 0.05)
    moving, fixed = blobs(shape)[0], blobs(shape, 3)[0]
    run = graph_function(lambda m, f: made([m, f])) if compiled else (lambda m, f: made([m, f]))
    u0 = net([moving, fixed])
    warped = [half_grid(warp(one, u0).numpy()) for one in (moving, segment(moving)[..., 1:])]
    aimed_at = [half_grid(np.asarray(one)) for one in (fixed, segment(fixed)[..., 1:])]
    force = force_by_numpy(warped[1], aimed_at[1])
    halves = [np.concatenate([*of_one, force], axis=-1) for of_one in (warped, aimed_at)]
    v = full_grid(made.get_layer(STEP)(halves).numpy(), shape)
    assert np.abs(v).max() > 0.3
    np.testing.assert_allclose(run(moving, fixed), v + warp(u0, v).numpy(), atol=1e-4)


def force_by_numpy(warped, fixed):
    """Demons of several channels; at the edges differences are halved, as the value there repeats."""
    d, n_axes = fixed - warped, warped.ndim - 2
    wide = np.pad(warped + fixed, [(0, 0), *[(1, 1)] * n_axes, (0, 0)], mode="edge") / 2
    middle = (slice(None), *[slice(1, -1)] * n_axes, slice(None))
    g = np.stack([np.gradient(wide, axis=axis)[middle] for axis in range(1, n_axes + 1)], axis=-1)
    size = (g**2).sum((-1, -2)) + (d**2 / 4).sum(-1) + 0.02
    return ((d[..., None] * g).sum(-2) / size[..., None]).astype(np.float32)


def half_grid(volume):
    for axis in range(1, volume.ndim - 1):
        if volume.shape[axis] % 2:
            volume = np.concatenate([volume, np.zeros_like(volume.take([0], axis))], axis)
        volume = (
            volume.take(range(0, volume.shape[axis], 2), axis) + volume.take(range(1, volume.shape[axis], 2), axis)
        ) / 2
    return volume.astype(np.float32)


def full_grid(field, shape):
    """Twice the field, linear between the middles of the coarse voxels and constant beyond the last."""
    places = np.meshgrid(*[(np.arange(n) - 0.5) / 2 for n in shape], indexing="ij")
    along = [
        scipy.ndimage.map_coordinates(2 * field[0, ..., k], places, order=1, mode="nearest") for k in range(len(shape))
    ]
    return np.stack(along, -1)[None].astype(np.float32)


@pytest.mark.long
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_it_learns_from_the_anatomy(shape):
    """A registration that finds nothing by itself, taught by predicted anatomies alone, aligns the true ones."""
    keras.utils.set_random_seed(0)
    segment = segmentation_net(shape)
    made = with_anatomy(registration_net(shape, (4, 4), (4, 4, 4)), segment)
    (moving, label), (fixed, reference) = blobs(shape), blobs(shape, 4)
    adam, trained = keras.optimizers.Adam(3e-3), made.trainable_variables

    @graph_function
    def update():
        with tf.GradientTape() as tape:
            u = made([moving, fixed], training=True)
            loss = tf.reduce_mean(soft_dice(warp(segment(moving), u), segment(fixed)))
        adam.apply_gradients(zip(tape.gradient(loss, trained), trained, strict=True))

    for _ in range(40):
        update()
    before, after = (
        np.mean(dice(one, reference, 3)[1:]) for one in (label, warp_label(label, made([moving, fixed])[0]))
    )
    assert after > before + 0.15


@pytest.mark.long
@pytest.mark.parametrize(("shape", "kind"), [(SHAPES["2D"], "cascade"), (SHAPES["3D"], "demons")])
def test_saved_loaded_and_of_another_size(shape, kind, tmp_path):
    keras.utils.set_random_seed(0)
    made = with_anatomy(NETS[kind](shape), light_unet(shape, 3, (4, 8)))
    shaken(made, 0.02)
    n_trained = len(made.trainable_variables)
    made.save(tmp_path / "registration.keras", save_format="keras")
    again = load_net(tmp_path / "registration.keras")
    moving, fixed = blobs(shape)[0], blobs(shape, 2)[0]
    np.testing.assert_array_equal(again([moving, fixed]), made([moving, fixed]))
    assert len(again.trainable_variables) == n_trained == len(made.get_layer(STEP).weights)
    wide = [np.pad(image, [(0, 0), *[(0, 5)] * len(shape), (0, 0)]) for image in (moving, fixed)]
    assert any_size(again)(wide).shape[1:-1] == wide[0].shape[1:-1]


@pytest.mark.slow
def test_another_segmentation_network_takes_the_place_of_the_first():
    keras.utils.set_random_seed(0)
    shape = SHAPES["2D"]
    net = shaken(with_anatomy(NETS["demons"](shape), light_unet(shape, 4, (4, 8))), 0.05)
    other = with_anatomy(net, segmentation_net(shape))
    for a, b in zip(net.trainable_variables, other.trainable_variables, strict=True):
        assert a is b
    moving, fixed = blobs(shape)[0], blobs(shape, 2)[0]
    assert np.abs(net([moving, fixed]) - other([moving, fixed])).max() > 0.01


@pytest.mark.slow
def test_a_segmentation_network_of_other_classes_begins_the_step_anew():
    keras.utils.set_random_seed(0)
    shape = SHAPES["2D"]
    net = shaken(with_anatomy(NETS["demons"](shape), light_unet(shape, 7, (4, 8))), 0.05)
    other = with_anatomy(net, segmentation_net(shape))
    assert not set(map(id, net.trainable_variables)) & set(map(id, other.trainable_variables))
    moving, fixed = blobs(shape)[0], blobs(shape, 2)[0]
    np.testing.assert_allclose(other([moving, fixed]), net.get_layer(IMAGES)([moving, fixed]), atol=2e-3)


def test_it_computes_in_the_precision_that_is_set():
    shape = SHAPES["2D"]
    with computing_in("mixed_bfloat16"):
        made = with_anatomy(NETS["demons"](shape), segmentation_net(shape))
    assert made.get_layer(STEP).get_layer("unet_enc_conv_0_0").compute_dtype == "bfloat16"
    assert made.outputs[0].dtype == "float32"
