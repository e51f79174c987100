"""Making a functional model or a copy of any Keras model, also of a subclass of ``keras.Model``."""

from typing import Any

from deepatlas_tf.keras_stack import keras, tf
from deepatlas_tf.types import SettingError


def as_functional(net: keras.Model, name: str) -> keras.Model:
    """Make a functional model of any Keras model, which shares its weights.

    Args:
        net: any Keras model of one output. A subclass of ``keras.Model`` knows its inputs once it was called.
        name: what the functional model is called.

    Raises:
        SettingError: if a subclass of ``keras.Model`` was never called.
    """
    if getattr(net, "outputs", None):
        return keras.Model(net.inputs, net.outputs[0], name=name)
    inputs = new_inputs(net)
    return keras.Model(inputs, net(inputs), name=name)


def new_inputs(net: keras.Model) -> Any:
    """Make Keras inputs like those that a subclass of ``keras.Model`` was called with: one, or a list.

    Raises:
        SettingError: if it was never called.
    """
    spec = net.save_spec()
    if spec is None:
        raise SettingError(f"the network {type(net).__name__} does not know its inputs yet: call it once")
    return tf.nest.map_structure(lambda tensor: keras.Input(tensor.shape[1:], dtype=tensor.dtype), spec[0][0])


def copy_of(net: keras.Model) -> keras.Model:
    """Make another network of the same architecture with the same weights, which then has a life of its own.

    Raises:
        SettingError: if it is a subclass of ``keras.Model`` that was never called, or whose ``get_config`` lacks
            arguments of its ``__init__``.
    """
    if getattr(net, "outputs", None):
        copy = keras.models.clone_model(net)
        copy.set_weights(net.get_weights())
        return copy
    inputs = new_inputs(net)
    try:
        copy = type(net).from_config(net.get_config())
        copy(inputs)  # which makes its weights
        copy.set_weights(net.get_weights())
    except (TypeError, ValueError, NotImplementedError) as error:
        name = type(net).__name__
        raise SettingError(f"no copy can be made of the network {name}: give it a complete get_config") from error
    return copy
