"""Gradient checkpointing (Chen, Xu, Zhang & Guestrin, arXiv 1604.06174): less memory for more time.

A network is cut into parts. For the gradient only what goes into a part is kept; its inner features are computed a
second time. Values and gradients are those of the network without it, ``recompute=False``, which is the definition.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from deepatlas_tf.keras_stack import keras, tf
from deepatlas_tf.types import Tensor


@keras.utils.register_keras_serializable("deepatlas_tf")
class Recomputed(keras.layers.Layer):
    """A layer that applies a Keras model, ``part``, and computes its inner features a second time for the gradient.

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
    """Apply a function of Keras tensors: ``block(*inputs)``.

    With ``recompute`` it becomes a :class:`Recomputed` layer called ``name``.
    """
    if not recompute:
        return block(*inputs)
    own = [keras.Input(x.shape[1:], dtype=x.dtype, name=f"{name}_in{i}") for i, x in enumerate(inputs)]
    return Recomputed(keras.Model(own, block(*own), name=f"{name}_part"), name=name)(list(inputs))
