"""A segmentation network of one convolution and a layer of its own."""

import dataclasses

from deepatlas_tf.keras_stack import keras
from deepatlas_tf.models.network import Network


@keras.utils.register_keras_serializable("balls")
class Twice(keras.layers.Layer):
    """Two times what comes in."""

    def call(self, x):
        return 2 * x


@dataclasses.dataclass(frozen=True)
class Linear(Network):
    """width: of the kernel, in voxels."""

    width: int = 3

    def build(self, shape, needed):
        image = keras.Input((*shape, needed.channels), name="image")
        conv = getattr(keras.layers, f"Conv{len(shape)}D")
        logits = conv(needed.outputs, self.width, padding="same", name="logits")(Twice()(image))
        return keras.Model(image, keras.layers.Softmax(dtype="float32")(logits), name="segmentation")
