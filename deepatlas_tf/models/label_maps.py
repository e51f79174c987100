"""Registration by predicted label maps: two segmentation networks and a registration network as one network."""

from typing import Any

from deepatlas_tf.keras_stack import keras, tf
from deepatlas_tf.models.functional import as_functional
from deepatlas_tf.types import Tensor


@keras.utils.register_keras_serializable("deepatlas_tf")
class MostProbable(keras.layers.Layer):
    """The one-hot map of the most probable class: ``(B, *S, C) -> (B, *S, C)`` float32. No gradient passes."""

    def __init__(self, **kwargs: Any):
        super().__init__(**{**kwargs, "dtype": "float32"})

    def call(self, probabilities: Tensor) -> Tensor:
        return tf.one_hot(tf.argmax(probabilities, axis=-1), probabilities.shape[-1], dtype=tf.float32)


def on_label_maps(
    registration: keras.Model, segmentation_moving: keras.Model, segmentation_fixed: keras.Model
) -> keras.Model:
    """Join three networks to one that registers two images by their predicted label maps.

    It is a Keras model ``[moving, fixed] (B, *S, K) -> u (B, *S, D)`` in voxels.

    Args:
        registration: Keras model ``[moving, fixed] (B, *S, C) -> u (B, *S, D)`` on one-hot label maps.
        segmentation_moving: Keras model ``image (B, *S, K) -> probabilities (B, *S, C)`` of the moving domain; it is
            frozen.
        segmentation_fixed: the same of the fixed domain; it is frozen.

    Raises:
        SettingError: if one is a subclass of ``keras.Model`` that was never called.
    """
    maps, inputs = [], []
    for side, net in (("moving", segmentation_moving), ("fixed", segmentation_fixed)):
        frozen = as_functional(net, f"segmentation_{side}")
        frozen.trainable = False
        image = keras.Input(frozen.inputs[0].shape[1:], name=side)
        maps.append(MostProbable(name=f"label_map_{side}")(frozen(image)))
        inputs.append(image)
    inner = as_functional(registration, "label_registration")
    return keras.Model(inputs, inner(maps), name="registration")
