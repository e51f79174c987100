"""Instance optimisation on a small synthetic pair: better and no folds, for displacement and velocity fields."""

import dataclasses
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from deepatlas_tf.keras_stack import graph_function, keras, tf
from deepatlas_tf.losses.consistency import inverse_consistency
from deepatlas_tf.methods import method_class
from deepatlas_tf.metrics.deformation import folds_percent
from deepatlas_tf.metrics.overlap import dice
from deepatlas_tf.models.networks import Networks
from deepatlas_tf.models.registration.cascade import Cascade
from deepatlas_tf.models.registration.voxelmorph import VoxelMorphRegistration, registration_net
from deepatlas_tf.models.segmentation.light import Light
from deepatlas_tf.models.velocity import split_integration
from deepatlas_tf.ops.velocity import integrate
from deepatlas_tf.runs.instance import InstanceOptimisation, instance_loss, optimise, refiner
from deepatlas_tf.runs.predict import registrar, warp_image, warp_label
from deepatlas_tf.training.build_method import build_method
from deepatlas_tf.training.experiment import Stage
from deepatlas_tf.types import SettingError

SHAPES = [(32, 30), (18, 20, 16)]


@pytest.fixture(autouse=True)
def two_resolutions(monkeypatch):
    """Small images go through the coarser grid too, as those of 40 voxels and more do."""
    monkeypatch.setattr("deepatlas_tf.runs.instance.SMALLEST", 16)


N_CLASSES = 3


def synthetic_pair(shape):
    """moving, fixed images (*S, 1) and label maps: two nested balls, and the same under a smooth deformation."""
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij"), -1)
    label = (np.linalg.norm(grid, axis=-1) < 0.75).astype(np.int32)
    label[np.linalg.norm(grid - 0.25, axis=-1) < 0.4] = 2
    velocity = np.stack([gaussian_filter(rng.normal(size=shape), 4) for _ in shape], -1)
    velocity *= 3 / np.abs(velocity).max()
    u = integrate(tf.constant(velocity[None], tf.float32)).numpy()[0]
    image = gaussian_filter(label / 2, 0.7)[..., None].astype(np.float32)
    noisy = [x + 0.02 * rng.normal(size=x.shape).astype(np.float32) for x in (image, warp_image(image, u))]
    return *noisy, label, warp_label(label, u)


def identity_net(shape, diffeomorphic):
    keras.utils.set_random_seed(0)
    return registration_net(shape, (4, 4), (4, 4, 4), diffeomorphic=diffeomorphic)


@pytest.mark.slow
@pytest.mark.parametrize("diffeomorphic", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_dice_rises_and_nothing_folds(shape, diffeomorphic):
    moving, fixed, moving_label, fixed_label = synthetic_pair(shape)
    net = identity_net(shape, diffeomorphic)
    settings = InstanceOptimisation(steps=40, weights={"similarity": 1.0, "smoothness": 0.3})
    before, after = registrar(net)(moving, fixed), refiner(net, settings)(moving, fixed)
    assert after.shape == (*shape, len(shape)) and after.dtype == np.float32
    scores = [dice(warp_label(moving_label, u), fixed_label, N_CLASSES) for u in (before, after)]
    assert np.all(scores[1] > scores[0] + 0.01), scores
    assert folds_percent(after) == 0 and np.abs(after).max() < 5
    losses = [
        instance_loss(tf.constant(u[None]), moving[None], fixed[None], settings).numpy()[0] for u in (before, after)
    ]
    assert losses[1] < 0.7 * losses[0]


@pytest.mark.slow
@pytest.mark.parametrize("velocity", [False, True])
def test_eager_and_compiled_give_the_same(velocity):
    moving, fixed = (image[None] for image in synthetic_pair((32, 30))[:2])
    settings = InstanceOptimisation(steps=5, weights={"similarity": 1.0, "gradient": 1.0})
    arguments = (tf.zeros((1, 32, 30, 2)), moving, fixed, settings, integrate if velocity else None)
    eager = optimise(*arguments)
    compiled = graph_function(lambda: optimise(*arguments))()
    np.testing.assert_allclose(eager, compiled, atol=1e-4)
    assert float(tf.reduce_max(tf.abs(eager))) > 0.2


def test_the_loss_never_rises_however_long_the_steps():
    """Much too high a rate: the best field that was met is returned, at worst the first."""
    moving, fixed = (image[None] for image in synthetic_pair((32, 30))[:2])
    start = tf.zeros((1, 32, 30, 2))
    settings = InstanceOptimisation(steps=3, learning_rate=1e3)
    np.testing.assert_array_equal(optimise(start, moving, fixed, settings), start)


@pytest.mark.slow
def test_no_steps_leave_the_field_of_the_network():
    moving, fixed = synthetic_pair((32, 30))[:2]
    for diffeomorphic in (False, True):
        net = identity_net((32, 30), diffeomorphic)
        refined = refiner(net, InstanceOptimisation(steps=0))(moving, fixed)
        np.testing.assert_allclose(refined, registrar(net)(moving, fixed), atol=1e-7)


@pytest.mark.slow
def test_each_pair_is_optimised_for_itself():
    moving, fixed = synthetic_pair((32, 30))[:2]
    pairs = np.stack([moving, fixed]), np.stack([fixed, moving])
    settings = InstanceOptimisation(steps=5)
    both = optimise(tf.zeros((2, 32, 30, 2)), *pairs, settings)
    alone = optimise(tf.zeros((1, 32, 30, 2)), pairs[0][1:], pairs[1][1:], settings)
    np.testing.assert_allclose(both[1:], alone, atol=1e-3)


@pytest.mark.slow
def test_anatomies_help_where_images_say_nothing():
    """Constant images: only the label maps can align."""
    _, _, moving_label, fixed_label = synthetic_pair((32, 30))
    flat = np.full((32, 30, 1), 0.5, np.float32)
    anatomies = [np.eye(N_CLASSES, dtype=np.float32)[label] for label in (moving_label, fixed_label)]
    settings = InstanceOptimisation(steps=30, weights={"similarity": 1.0, "smoothness": 0.3, "anatomy": 1.0})
    refine = refiner(identity_net((32, 30), False), settings)
    before, after = (
        dice(warp_label(moving_label, u), fixed_label, N_CLASSES)
        for u in (refine(flat, flat), refine(flat, flat, anatomies=anatomies))
    )
    assert np.all(after > before + 0.02)


def test_the_inverse_terms_count_for_velocity_fields():
    moving, fixed = (image[None] for image in synthetic_pair((32, 30))[:2])
    field = tf.random.stateless_normal((1, 32, 30, 2), (0, 1))
    one = InstanceOptimisation(weights={"similarity": 1.0, "gradient": 1e-9})
    two = InstanceOptimisation(weights={"similarity": 1.0, "similarity_inverse": 0.5, "gradient": 1e-9})
    forward, inverse = (
        instance_loss(f, a, b, one, integrate) for f, a, b in ((field, moving, fixed), (-field, fixed, moving))
    )
    np.testing.assert_allclose(instance_loss(field, moving, fixed, two, integrate), forward + 0.5 * inverse, rtol=1e-5)
    np.testing.assert_allclose(instance_loss(field, moving, fixed, two), instance_loss(field, moving, fixed, one))


NARROW = VoxelMorphRegistration((4, 4), (4, 4, 4))
DIFFEOMORPHIC = VoxelMorphRegistration((4, 4), (4, 4, 4), diffeomorphic=True)


@pytest.mark.parametrize(
    ("method", "shape", "registration"),
    [
        ("voxelmorph", (18, 20, 16), NARROW),
        ("voxelmorph", (32, 30), DIFFEOMORPHIC),
        ("voxelmorph", (32, 30), Cascade((4, 4), (4, 4, 4), (2, 1))),
        ("deepatlas", (32, 30), DIFFEOMORPHIC),
        ("uniseg_reg", (32, 30), NARROW),
        ("uniseg_reg", (18, 20, 16), NARROW),
    ],
)
def test_the_loss_is_that_of_the_stage(method, shape, registration):
    """At the fields of the network: the terms of the method itself, for images without labels."""
    terms = method_class(method).default_weights["registration"]
    weights = {name: 0.5 + i for i, name in enumerate(terms) if not name.startswith("anatomy")}
    stage = Stage("stage", method, 10, weights={"registration": weights}, similarity="local_ncc")
    networks = Networks(registration, Light((4, 8)))
    trained = build_method(
        stage,
        networks,
        SimpleNamespace(shape=shape, class_names="abc", partial_labels=True, channel_names=("image",)),
        None,
    )
    for layer in trained.nets["registration"].submodules:
        if layer.name == "flow":  # else it begins at the identity
            layer.kernel.assign(tf.random.stateless_normal(layer.kernel.shape, (0, 1), stddev=0.3))
    moving, fixed = (image[None] for image in synthetic_pair(shape)[:2])
    nothing = {"label": np.zeros((1, *shape), np.int32), "label_weight": np.zeros((1, N_CLASSES), np.float32)}
    found = trained.registration_terms({"moving": {"image": moving, **nothing}, "fixed": {"image": fixed, **nothing}})
    expected = sum(weight * found[name] for name, weight in weights.items())
    settings = InstanceOptimisation.of_stage(dataclasses.asdict(stage))
    assert settings.both_directions == (method == "voxelmorph")
    head, integration = split_integration(trained.nets["registration"])
    both = [head(images) for images in ([moving, fixed], [fixed, moving])]
    field = tf.concat(both, axis=-1) if settings.both_directions else both[0]
    assert float(tf.reduce_max(tf.abs(field))) > 0.3
    np.testing.assert_allclose(instance_loss(field, moving, fixed, settings, integration), expected, rtol=1e-4)


GRADICON = {"similarity": 1.0, "similarity_inverse": 1.0, "gradient_inverse_consistency": 0.75}


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_both_directions_are_refined_together_and_stay_inverse(shape):
    """Under GradICON's penalty and no other; without it nothing folds either, but the two are not inverse."""
    moving, fixed, moving_label, fixed_label = synthetic_pair(shape)
    folds, errors = [], []
    for weights in (GRADICON, {**GRADICON, "gradient_inverse_consistency": 1e-9}):
        settings = InstanceOptimisation(steps=30, weights=weights)
        start = tf.zeros((1, *shape, 2 * len(shape)))
        refine = graph_function(partial(optimise, start, moving[None], fixed[None], settings))
        u, u_back = tf.split(refine(), 2, axis=-1)
        folds.append(folds_percent(u[0].numpy()))
        errors.append(float(inverse_consistency(u, u_back)[0]))
        for field, one, other in ((u, moving_label, fixed_label), (u_back, fixed_label, moving_label)):
            before, after = dice(one, other, N_CLASSES), dice(warp_label(one, field[0].numpy()), other, N_CLASSES)
            assert np.all(after > before + 0.01), (before, after)
    assert folds == [0, 0]
    assert errors[0] < 0.2 * errors[1], errors


@pytest.mark.slow
def test_both_directions_begin_with_those_of_the_network():
    moving, fixed = synthetic_pair((32, 30))[:2]
    net, settings = identity_net((32, 30), False), InstanceOptimisation(steps=3, weights=GRADICON)
    net.get_layer("flow").kernel.assign(tf.random.stateless_normal((3, 3, 4, 2), (0, 1), stddev=0.3))
    images = moving[None], fixed[None]
    start = tf.concat([net(images), net(images[::-1])], axis=-1)
    expected = graph_function(lambda: optimise(start, *images, settings))()[0, ..., :2]
    np.testing.assert_allclose(refiner(net, settings)(moving, fixed), expected, atol=1e-3)
    assert float(tf.reduce_max(tf.abs(expected - start[0, ..., :2]))) > 0.1


def test_settings_of_a_stage():
    weights = {"registration": {"similarity": 2.0, "gradient_inverse_consistency": 1.0}}
    stage = Stage("vxm", "voxelmorph", 10, weights=weights, similarity="mse", similarity_settings={"image_sigma": 0.1})
    settings = InstanceOptimisation.of_stage(dataclasses.asdict(stage), steps=7)
    assert settings.weights == weights["registration"] and settings.both_directions
    assert (settings.steps, settings.similarity, settings.similarity_settings) == (7, "mse", {"image_sigma": 0.1})
    assert InstanceOptimisation.of_stage(dataclasses.asdict(Stage("round", "uniseg_reg", 10))).method == "uniseg_reg"
    with pytest.raises(SettingError, match="stage seg has no similarity"):
        InstanceOptimisation.of_stage(dataclasses.asdict(Stage("seg", "segmentation", 10)))
    free = Stage("free", "voxelmorph", 10, weights={"registration": {"similarity": 1.0, "anatomy": 1.0}})
    with pytest.raises(SettingError, match="stage free has no regulariser"):
        InstanceOptimisation.of_stage(dataclasses.asdict(free))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": {"similarity": 1.0, "smoothnes": 1.0}}, "no term 'smoothnes'"),
        ({"weights": {"smoothness": 1.0}}, "needs a weight for the similarity"),
        ({"weights": {"similarity": 1.0, "smoothness": 0.0}}, "for one of smoothness, gradient"),
        ({"steps": -1}, "steps of 0 or more"),
        ({"learning_rate": 0.0}, "learning rate above 0"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        InstanceOptimisation(**settings)
