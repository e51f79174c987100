"""The networks, methods and losses that the pages show as one new file are what the package can build and train."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from deepatlas_tf.keras_stack import keras, tf
from deepatlas_tf.losses.overlap import soft_dice
from deepatlas_tf.methods.base import Method
from deepatlas_tf.models.build import build_net
from deepatlas_tf.models.network import Network, interface
from deepatlas_tf.models.networks import Networks
from deepatlas_tf.models.upsampling import convolution
from deepatlas_tf.ops.labels import one_hot

ROOT = Path(__file__).parents[2]
IMPORTED = (dataclasses, keras, tf, soft_dice, Method, Network, convolution, one_hot)


def shown(page: str) -> dict:
    """What the Python example of a page defines, up to the data set in it."""
    code = re.search(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)[1]
    names = {getattr(item, "__name__", "").rpartition(".")[2]: item for item in IMPORTED}
    namespace = {**names, "tf": tf, "keras": keras, "__name__": "shown"}
    exec(code.partition("\n\n# datasets/")[0], namespace)
    return namespace


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/add-a-method.md"])
def test_the_method_is_built_by_its_roles_and_updates_its_network(page):
    cls = shown(page)["MyMethod"]
    networks = Networks().tiny()
    nets = {name: build_net(role, networks, (16, 16), 2) for name, role in cls.network_roles.items()}
    method = cls(**nets, **cls.default_settings)
    method.compile()
    image = np.random.default_rng(0).random((1, 16, 16, 1), np.float32)
    sample = {"image": image, "label": (image[..., 0] > 0.5).astype(np.int32), "label_weight": np.ones((1, 2), "f")}
    before = method.nets["segmentation"].get_weights()
    method.update("segmentation", sample)
    after = method.nets["segmentation"].get_weights()
    assert any((one != other).any() for one, other in zip(before, after, strict=True))


def test_the_network_and_the_loss_give_what_is_asked_of_them():
    names = shown("CONTRIBUTING.md")
    net = names["Linear"]().build((8, 6), interface("segmentation", 2, 3))
    probabilities = net(tf.random.stateless_uniform((2, 8, 6, 1), (0, 0)))
    assert probabilities.shape == (2, 8, 6, 3)
    np.testing.assert_allclose(tf.reduce_sum(probabilities, -1), np.ones((2, 8, 6)), rtol=1e-5)
    np.testing.assert_allclose(names["absolute"](tf.ones((2, 4, 4, 1)), tf.zeros((2, 4, 4, 1))), [1, 1])
