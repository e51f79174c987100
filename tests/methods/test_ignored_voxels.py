"""Ignored voxels in every method: what a network predicts there has no gradient, and what a label map says no effect.

The networks are tables: one value for each voxel, whatever the images are, so that a gradient tells which voxels count.
"""

from types import SimpleNamespace

import numpy as np
import pytest

from deepatlas_tf.keras_stack import graph_function, keras, tf
from deepatlas_tf.methods import method_class, method_names
from deepatlas_tf.methods.deepatlas import DeepAtlas
from deepatlas_tf.methods.mean_teacher import MeanTeacher
from deepatlas_tf.methods.registration_augmentation import RegistrationAugmentation
from deepatlas_tf.methods.segmentation import Segmentation
from deepatlas_tf.methods.uniseg_reg import UniSegReg
from deepatlas_tf.methods.voxelmorph import VoxelMorph
from deepatlas_tf.training.build_method import check_data
from deepatlas_tf.training.experiment import Stage
from deepatlas_tf.types import SettingError

SHAPES = {"2D": (8, 10), "3D": (6, 8, 7)}
C = 3


@keras.utils.register_keras_serializable("test")
class Voxels(keras.layers.Layer):
    """A value ``(*S, n)`` for each voxel, drawn at random."""

    def __init__(self, n, spread=1.0, **kwargs):
        super().__init__(**kwargs)
        self.n, self.spread = n, spread

    def build(self, shape):
        values = keras.initializers.RandomNormal(stddev=self.spread, seed=1)
        self.values = self.add_weight(name="values", shape=(*shape[1:-1], self.n), initializer=values)

    def call(self, image):
        return 0 * image[..., :1] + self.values

    def get_config(self):
        return {**super().get_config(), "n": self.n, "spread": self.spread}


def segmentation(shape):
    image = keras.Input((*shape, 1))
    return keras.Model(image, keras.layers.Softmax()(Voxels(C)(image)))


def registration(shape):
    moving, fixed = (keras.Input((*shape, 1)) for _ in range(2))
    return keras.Model([moving, fixed], Voxels(len(shape), 0.3)(moving))


def sample(shape, seed, weight=1.0, ignored=slice(0, 3)):
    """A label map of which the first rows are ignored where it is one."""
    g = np.random.default_rng(seed)
    label = g.integers(0, C, (1, *shape)).astype(np.int32) if weight else np.zeros((1, *shape), np.int32)
    if weight:
        label[:, ignored] = C
    return {
        "image": g.random((1, *shape, 1), dtype=np.float32),
        "label": label,
        "label_weight": np.full((1, C), weight, np.float32),
        "known": (label < C).astype(np.float32)[..., None],
    }


def pair(shape, weights=(1, 1)):
    return {
        side: sample(shape, seed, w) for seed, (side, w) in enumerate(zip(("moving", "fixed"), weights, strict=True))
    }


def gradient(method, turn, data, terms, in_graph=False):
    """Of the sum of some terms towards the values of the turn's network, ``(*S, n)``."""

    def towards_values():
        with tf.GradientTape() as tape:
            found = [part.terms() for part in method.parts(turn, data)]
            loss = tf.add_n([tf.reduce_sum(one[name]) for one in found for name in terms])
        return tape.gradient(loss, method._variables(turn)[0])

    return (graph_function(towards_values) if in_graph else towards_values)().numpy()


def test_every_method_knows_ignored_voxels():
    assert all(method_class(name).knows_ignored for name in method_names())


def test_a_method_that_does_not_know_them_is_refused(monkeypatch):
    monkeypatch.setattr(Segmentation, "knows_ignored", False)
    stage = Stage(name="first", method="segmentation", steps=1)
    dataset = SimpleNamespace(name="nifti", channel_names=("image",), ignore_number=None)
    check_data(stage, dataset)
    dataset.ignore_number = 5
    with pytest.raises(SettingError, match="stage first: segmentation does not know the label 'ignore'"):
        check_data(stage, dataset)


SUPERVISED = ("supervised", "supervised_cross_entropy")


def made(method):
    method.compile()
    return method


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_supervised_terms(shape):
    one = sample(shape, 0)
    methods = [
        (Segmentation(segmentation(shape)), one),
        (MeanTeacher(segmentation(shape), steps=9), one),
        (UniSegReg(registration(shape), segmentation(shape), C), {"moving": one, "fixed": one}),
        (DeepAtlas(registration(shape), segmentation(shape)), {"moving": one, "fixed": one}),
    ]
    for method, data in methods:
        found = gradient(made(method), "segmentation", data, SUPERVISED)
        assert np.all(found[:3] == 0) and np.abs(found[3:]).max(-1).min() > 0, type(method)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_consistency_of_mean_teacher_is_of_all_voxels(shape):
    method = made(MeanTeacher(segmentation(shape), steps=9))
    method.nets["student"].trainable_variables[0].assign_add(
        tf.ones_like(method.nets["student"].weights[0]) * [1, 0, 0]
    )
    assert np.abs(gradient(method, "segmentation", sample(shape, 0), ["consistency"])).max(-1).min() > 0


def test_a_warped_label_map_teaches_nothing_where_it_is_ignored():
    shape = SHAPES["2D"]
    method = made(RegistrationAugmentation(registration(shape), segmentation(shape)))
    found = gradient(method, "segmentation", pair(shape), SUPERVISED)
    assert np.all(found[:2] == 0) and np.abs(found[4:]).max(-1).min() > 0  # the field is shorter than two voxels


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "pairs"), [(SHAPES["2D"], "paper"), (SHAPES["3D"], "weighted")])
def test_anatomy_of_the_segmentation_turn(shape, pairs):
    """The fixed image learns from the warped label map of the moving one."""
    method = made(DeepAtlas(registration(shape), segmentation(shape), segmentation_pairs=pairs))
    found = gradient(method, "segmentation", pair(shape, (1, 0)), ["anatomy", "anatomy_cross_entropy"])
    assert np.all(found[:2] == 0) and np.abs(found[4:]).max(-1).min() > 0  # the field is shorter than two voxels


@pytest.mark.slow
def test_aligned_pairs():
    shape = SHAPES["2D"]
    method = made(DeepAtlas(registration(shape), segmentation(shape), segmentation_pairs="aligned"))
    found = gradient(method, "segmentation", pair(shape, (1, 0)), ["anatomy", "anatomy_cross_entropy"])
    assert np.all(found[:2] == 0) and np.abs(found[4:]).max(-1).min() > 0


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "weights"), [(SHAPES["2D"], (1, 1)), (SHAPES["3D"], (1, 0)), (SHAPES["2D"], (0, 1))])
def test_no_anatomy_term_pulls_where_a_label_map_is_ignored(shape, weights):
    data = pair(shape, weights)
    nets = registration(shape), segmentation(shape)
    methods = [DeepAtlas(*nets), DeepAtlas(*nets, registration_confidence=True)]
    if all(weights):
        methods.append(VoxelMorph(nets[0], C))
    masks = {side: {**one, "soft_label": tf.nn.softmax(tf.random.normal((1, *shape, C)))} for side, one in data.items()}
    for method, given in [*((one, data) for one in methods), (UniSegReg(*nets, C), masks)]:
        method.compile(weights={"registration": {"anatomy": 1.0, "similarity": 1.0}})
        found = gradient(method, "registration", given, ["anatomy"], in_graph=weights == (1, 0))
        assert np.all(found[:2] == 0) and np.abs(found[5:]).max() > 0, type(method)
