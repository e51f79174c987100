"""Networks whose parts are computed again for the gradient are the same networks."""

import numpy as np
import pytest

from deepatlas_tf.keras_stack import keras, tf
from deepatlas_tf.models.build import load_net
from deepatlas_tf.models.registration.voxelmorph import registration_net
from deepatlas_tf.models.segmentation.light import light_unet
from deepatlas_tf.runs.predict import any_size

MAKERS = {
    "segmentation": lambda shape, again: light_unet(shape, 3, (4, 8), dropout=0.2, recompute=again),
    "registration": lambda shape, again: registration_net(shape, (4, 4), (4, 4, 4), recompute=again),
    "diffeomorphic": lambda shape, again: registration_net(shape, (4, 4), (4, 4, 4), True, recompute=again),
}


def output_and_gradients(net, inputs):
    """Of the weights and of the images; compiled, as in training."""

    @tf.function
    def compute():
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            output = net(inputs, training=True)
            total = tf.reduce_sum(tf.sin(100 * output))
        return output, tape.gradient(total, net.trainable_variables + inputs)

    return compute()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "shape"),
    [("segmentation", (10, 9)), ("segmentation", (9, 8, 7)), ("registration", (9, 8, 7)), ("diffeomorphic", (10, 9))],
)
def test_values_and_gradients_are_those_without_it(kind, shape):
    keras.utils.set_random_seed(0)
    plain, again = (MAKERS[kind](shape, recompute) for recompute in (False, True))
    again.set_weights(plain.get_weights())
    inputs = [tf.random.uniform((2, *shape, 1)) for _ in plain.inputs]
    expected, gradients = output_and_gradients(plain, inputs)
    found, found_gradients = output_and_gradients(again, inputs)
    np.testing.assert_array_equal(found, expected)
    for one, other in zip(found_gradients, gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * np.abs(other).max())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["segmentation", "registration"])
def test_it_is_saved_and_exported(kind, tmp_path):
    net = MAKERS[kind]((10, 9), True)
    inputs = [tf.random.uniform((1, 10, 9, 1)) for _ in net.inputs]
    net.save(tmp_path / "net.keras")
    loaded = load_net(tmp_path / "net.keras")
    np.testing.assert_array_equal(loaded(inputs), net(inputs))
    assert any(type(layer).__name__ == "Recomputed" for layer in loaded.layers), "and goes on to be trained so"
    free, larger = any_size(loaded), [tf.random.uniform((1, 13, 18, 1)) for _ in net.inputs]
    np.testing.assert_array_equal(free(inputs), net(inputs))
    assert free(larger).shape[:-1] == (1, 13, 18)
    loaded.export(tmp_path / "net")
    exported = tf.saved_model.load(tmp_path / "net")
    found = exported.serve(inputs if len(inputs) > 1 else inputs[0])
    np.testing.assert_allclose(found, net(inputs), atol=1e-5)
