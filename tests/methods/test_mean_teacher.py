"""Mean Teacher against its formulas in NumPy."""

import numpy as np
import pytest

from deepatlas_tf.keras_stack import keras, tf
from deepatlas_tf.methods.mean_teacher import MeanTeacher, consistency, sigmoid_ramp
from deepatlas_tf.types import SettingError


def build(steps=10, dims=2, rate=0.5, **settings):
    image = keras.Input((6, 5, 4)[:dims] + (1,))
    conv = getattr(keras.layers, f"Conv{dims}D")
    method = MeanTeacher(keras.Model(image, conv(3, 3, padding="same", activation="softmax")(image)), steps, **settings)
    method.compile({"segmentation": keras.optimizers.SGD(rate)})
    return method


def batch(dims=2, weights=((1, 1, 1), (0, 0, 0))):
    rng = np.random.default_rng(0)
    shape = (len(weights), *(6, 5, 4)[:dims])
    return {
        "image": tf.constant(rng.random((*shape, 1)), tf.float32),
        "label": tf.constant(rng.integers(0, 3, shape), tf.int32),
        "label_weight": tf.constant(weights, tf.float32),
    }


def test_ramp_by_hand():
    steps = np.array([0.0, 25.0, 50.0, 100.0, 1000.0])
    expected = np.exp(-5 * (1 - np.minimum(steps / 100, 1)) ** 2)
    np.testing.assert_allclose(sigmoid_ramp(tf.constant(steps), 100.0), expected)
    assert expected[0] == pytest.approx(0.006737947) and expected[-1] == 1


@pytest.mark.parametrize("dims", [2, 3])
def test_consistency_by_hand(dims):
    rng = np.random.default_rng(1)
    p, q = (rng.dirichlet(np.ones(3), (2, *(6, 5, 4)[:dims])).astype(np.float32) for _ in range(2))
    expected = [sum((a - b) ** 2 for a, b in zip(p[i].ravel(), q[i].ravel(), strict=True)) for i in range(2)]
    np.testing.assert_allclose(consistency(p, q), np.array(expected) / np.prod(p.shape[1:-1]), rtol=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_teacher_is_the_moving_average_of_the_student(dims):
    method, data = build(dims=dims, decay=0.6), batch(dims)
    teacher = [w.copy() for w in method.nets["segmentation"].get_weights()]
    for step in range(1, 5):
        method.update("segmentation", data)
        decay = min(0.6, 1 - 1 / (step + 1))  # 1/2, then 0.6
        student = method.nets["student"].get_weights()
        teacher = [decay * t + (1 - decay) * s for t, s in zip(teacher, student, strict=True)]
        for found, expected in zip(method.nets["segmentation"].get_weights(), teacher, strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_gradient_reaches_the_student_only_and_does_not_touch_other_labels():
    method, data = build(), batch(weights=((0, 0, 0),))
    terms = method.segmentation_terms(data)
    assert float(terms["supervised"][0]) == 0 and float(terms["supervised_cross_entropy"][0]) == 0
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(method.segmentation_terms(data)["consistency"])
    student, teacher = (method.nets[name].trainable_variables for name in ("student", "segmentation"))
    gradients = tape.gradient(value, [*student, *teacher])
    assert all(g is not None for g in gradients[:2]) and gradients[2:] == [None, None]


def test_the_terms_by_hand():
    """Supervised by the student's own prediction; noise is independent, and held within twice its deviation."""
    method, data = build(noise=0.2), batch()
    noise = method._noise(data["image"]).numpy()
    assert np.abs(noise).max() < 0.4001 and abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.3
    student, teacher = (
        method.nets[name](data["image"] + noise[i]).numpy() for i, name in enumerate(("student", "segmentation"))
    )
    terms = method.segmentation_terms(data)
    squared = ((student - teacher) ** 2).sum(-1).mean((1, 2))
    np.testing.assert_allclose(terms["consistency"], np.exp(-5) * squared, rtol=1e-4)
    chosen = np.take_along_axis(student, data["label"].numpy()[..., None], -1)[..., 0]
    np.testing.assert_allclose(terms["supervised_cross_entropy"][0], -np.log(chosen[0]).mean(), rtol=1e-4)


def test_the_noise_of_the_next_step_is_another():
    method, data = build(), batch()
    first, again = (method._noise(data["image"]).numpy() for _ in range(2))
    method.update("segmentation", data)
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, method._noise(data["image"]))


def test_a_checkpoint_holds_the_teacher(tmp_path):
    method, data = build(), batch()
    method.update("segmentation", data)
    path = tf.train.Checkpoint(nets=method.nets, optimizers=method.optimizers_by_net).write(str(tmp_path / "c"))
    other = build()
    tf.train.Checkpoint(nets=other.nets, optimizers=other.optimizers_by_net).read(path)
    for one in (method, other):
        one.update("segmentation", data)
    for name in method.nets:
        for x, y in zip(method.nets[name].get_weights(), other.nets[name].get_weights(), strict=True):
            np.testing.assert_array_equal(x, y)


class Pointwise(keras.Model):
    """A network that is no functional model; ``widths`` is not in its configuration unless it is told."""

    def __init__(self, widths, told=True):
        super().__init__()
        self.widths, self.told = widths, told
        self.dense = [keras.layers.Dense(width) for width in widths]

    def get_config(self):
        return {"widths": self.widths} if self.told else {}

    def call(self, image, training=None):
        for layer in self.dense:
            image = layer(image)
        return tf.nn.softmax(image)


def test_the_student_of_a_subclassed_network_is_a_copy_of_its_own():
    net, data = Pointwise([2, 3]), batch()
    with pytest.raises(SettingError, match="Pointwise does not know its inputs yet: call it once"):
        MeanTeacher(net, 10)
    expected = net(data["image"]).numpy()
    method = MeanTeacher(net, 10)
    method.compile({"segmentation": keras.optimizers.SGD(0.5)})
    np.testing.assert_array_equal(method.nets["student"](data["image"]), expected)
    method.nets["student"].dense[0].kernel.assign_add(tf.ones((1, 2)))
    np.testing.assert_array_equal(net(data["image"]), expected)
    method.update("segmentation", data)
    assert not np.allclose(net(data["image"]), expected)


def test_a_network_that_cannot_be_copied_is_refused():
    net = Pointwise([2, 3], told=False)
    net(batch()["image"])
    with pytest.raises(SettingError, match="no copy can be made of the network Pointwise: give it a complete get_conf"):
        MeanTeacher(net, 10)
