"""Networks made of networks, for images of any size."""

import numpy as np
import pytest

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.models.label_maps import on_label_maps
from deepatlas_tf.models.registration.cascade import cascade_net
from deepatlas_tf.models.segmentation.light import light_unet
from deepatlas_tf.runs.predict import any_size


@pytest.mark.slow
def test_a_registration_by_label_maps_takes_images_of_another_size():
    shape, other = (12, 16), (13, 18)
    segmenters = [light_unet(shape, 3, (4, 8)) for _ in range(2)]
    net = on_label_maps(cascade_net(shape, (4, 4), (4, 4, 4), (2, 1), channels=3), *segmenters)
    images, larger = ([tf.random.stateless_uniform((1, *s, 1), (seed, 0)) for seed in (0, 1)] for s in (shape, other))
    free = any_size(net)
    np.testing.assert_allclose(free(images), net(images), atol=1e-5)
    assert free(larger).shape == (1, *other, 2)
