"""Less memory for more time: what a part of a network has computed inside is not kept, but computed again.

Gradient checkpointing (Chen, Xu, Zhang & Guestrin, arXiv 1604.06174): for the gradient only the inputs of the parts are
kept. The definition is the network without it, ``recompute=False``: the values and the gradients are equal.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from deepatlas_tf.keras_stack import keras, tf
from deepatlas_tf.types import Tensor


@keras.utils.register_keras_serializable("deepatlas_tf")
class Recomputed(keras.layers.Layer):
    """A Keras model as a layer whose inner features are computed again for the gradient.

    The model must not draw random numbers or count its calls, since it is called twice in a step.
    """

    def __init__(self, part: keras.Model, **kwargs: Any):
        super().__init__(**kwargs)
        self.part = part

    def call(self, inputs: Any, training: bool | None = None) -> Tensor:
        inputs = tf.nest.flatten(inputs)
        return tf.recompute_grad(lambda *tensors: self.part(list(tensors), training=training))(*inputs)

    def get_config(self) -> dict[str, Any]:
        part = keras.saving.serialize_keras_object(self.part)
        for layer in part["config"]["layers"]:
            if layer["class_name"] == "InputLayer":  # so that the network can be made anew for images of any size
                batch, *spatial, channels = layer["config"]["batch_input_shape"]
                layer["config"]["batch_input_shape"] = (batch, *(None for _ in spatial), channels)
        return {**super().get_config(), "part": part}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Recomputed":
        return cls(**{**config, "part": keras.saving.deserialize_keras_object(config["part"])})


def apply_part(block: Callable, inputs: Sequence, name: str, recompute: bool) -> Tensor:
    """``block(*inputs)`` of Keras tensors; with ``recompute`` as a layer ``name`` that computes it twice."""
    if not recompute:
        return block(*inputs)
    own = [keras.Input(x.shape[1:], dtype=x.dtype, name=f"{name}_in{i}") for i, x in enumerate(inputs)]
    return Recomputed(keras.Model(own, block(*own), name=f"{name}_part"), name=name)(list(inputs))
