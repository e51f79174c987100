"""A whole turn of DeepAtlas as one program of XLA: losses, gradients and update are those of the normal step."""

from functools import partial

import numpy as np
import pytest

from deepatlas_tf.keras_stack import graph_function, keras, tf
from deepatlas_tf.methods.deepatlas import DeepAtlas
from deepatlas_tf.models.registration.voxelmorph import registration_net
from deepatlas_tf.models.segmentation.light import light_unet

N_CLASSES = 3
pytestmark = pytest.mark.slow  # XLA takes seconds for each program
TURNS = ("registration", "segmentation")


def deep_atlas(shape, partial_labels):
    keras.utils.set_random_seed(0)
    registration = registration_net(shape, (4, 4), (4, 4, 4))
    flow = registration.get_layer("flow")
    flow.kernel.assign(tf.random.stateless_normal(flow.kernel.shape, (0, 1), stddev=0.3))
    segmentation = light_unet(shape, N_CLASSES, (4, 8))
    method = DeepAtlas(registration, segmentation, turns=TURNS, partial_labels=partial_labels)
    weights = {"segmentation": dict.fromkeys(DeepAtlas.default_weights["segmentation"], 1.0)}  # every term
    method.compile(weights=weights)
    return method


def make_pair(shape, moving_weight, fixed_weight):
    rng = np.random.default_rng(0)

    def sample(weight):
        return {
            "image": tf.constant(rng.random((1, *shape, 1)), tf.float32),
            "label": tf.constant(rng.integers(0, N_CLASSES, (1, *shape)), tf.int32),
            "label_weight": tf.constant([weight], tf.float32),
        }

    return {"moving": sample(moving_weight), "fixed": sample(fixed_weight)}


def variables_of(method):
    optimizers = [variable for one in method.optimizers_by_net.values() for variable in one.variables]
    means = [variable for metric in method.metrics for variable in metric.variables]
    return [*method.nets["registration"].variables, *method.nets["segmentation"].variables, *optimizers, *means]


@pytest.mark.long
@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize(
    ("shape", "partial_labels"), [((10, 9), False), ((6, 7, 8), True)], ids=["2d-whole", "3d-partial"]
)
def test_one_program_equals_the_normal_step(shape, partial_labels, turn):
    """Weights, the optimizer's variables and all terms after two steps, for each case of what is labelled."""
    method = deep_atlas(shape, partial_labels)
    update = partial(method.update, turn)
    normal, whole = graph_function(update), tf.function(update, jit_compile=True, autograph=False)
    variables = variables_of(method)
    start = [variable.numpy() for variable in variables]
    labelled, unlabelled, some = (1.0,) * N_CLASSES, (0.0,) * N_CLASSES, (1.0, 0.0, 1.0)
    cases = [(labelled, unlabelled), (unlabelled, labelled), (labelled, labelled), (unlabelled, unlabelled)]
    for weights in [*cases, *([(some, labelled)] if partial_labels else [])]:
        pair, found = make_pair(shape, *weights), []
        for step in (normal, whole):
            for variable, value in zip(variables, start, strict=True):
                variable.assign(value)
            step(pair), step(pair)
            found.append([variable.numpy() for variable in variables])
        for variable, expected, value in zip(variables, *found, strict=True):
            np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-5, err_msg=f"{variable.name}, {weights}")
        changed = [not np.array_equal(a, b) for a, b in zip(start, found[1], strict=True)]
        assert any(changed[: len(method.nets["registration"].variables)]) == (turn == "registration")


@pytest.mark.parametrize("turn", TURNS)
def test_every_shape_of_the_program_is_fixed(turn):
    """Neither a GPU nor JAX's client can be counted on for shapes that depend on what is labelled."""
    method, pair = deep_atlas((10, 9), False), make_pair((10, 9), (1.0,) * N_CLASSES, (0.0,) * N_CLASSES)
    step = tf.function(partial(method.update, turn), jit_compile=True, autograph=False)
    program = step.experimental_get_compiler_ir(pair)(stage="hlo")
    assert "f32[1,10,9,1]" in program and "<=" not in program
