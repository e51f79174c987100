"""Functions compiled by XLA that keep nothing but their inputs for the gradient."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, overload

import numpy as np

from deepatlas_tf.keras_stack import as_written, tf

Function = TypeVar("Function", bound=Callable[..., Any])


@overload
def compiled(function: Function) -> Function: ...


@overload
def compiled(*, towards: tuple[str, ...]) -> Callable[[Function], Function]: ...


def compiled(function: Callable | None = None, *, towards: tuple[str, ...] = ()) -> Callable:
    """Compile a function of tensors by XLA: its value is one program, its gradient for each tensor another.

    Of a function with ``jit_compile=True`` TensorFlow keeps each intermediate result that the gradient reads, which for
    a warp are the values of all eight corners. Here the gradient starts from the inputs again, and XLA fuses the
    second computation into it. In a graph, gradients that nobody asks for are not computed.

    The function must not read variables. A function that returns several tensors has no gradient. Arguments that are
    not arrays, such as None or a number, are settings: each value makes a program of its own.

    Args:
        function: takes and returns tensors; it stays available as ``__wrapped__``, uncompiled and with TensorFlow's own
            gradient, which is what tests compare with.
        towards: names of the arguments that have a gradient, all floating point ones by default. Each costs time when
            a graph is made, needed or not.
    """
    if function is None:
        return functools.partial(compiled, towards=towards)
    signature = inspect.signature(function)
    value = tf.function(function, jit_compile=True, autograph=False)
    gradient = _compiled_gradient(function)

    @functools.wraps(function)
    @as_written
    def call(*args, **kwargs):
        arguments = signature.bind(*args, **kwargs).arguments
        # Identities, since the gradient of a branch of tf.cond does not find tensors from outside of the branch
        tensors = {name: tf.identity(tf.convert_to_tensor(x)) for name, x in arguments.items() if _is_array(x)}
        settings = {name: x for name, x in arguments.items() if name not in tensors}
        wanted = {name for name, x in tensors.items() if x.dtype.is_floating and name in (towards or tensors)}

        @tf.custom_gradient
        def with_gradient(*values):
            arguments = {**settings, **dict(zip(tensors, values, strict=True))}

            def backward(upstream):
                # Identities again, since a compiled gradient does not find tensors of the forward pass
                arguments = {**settings, **dict(zip(tensors, map(tf.identity, values), strict=True))}
                return [gradient(name, upstream, arguments) if name in wanted else None for name in tensors]

            return value(**arguments), backward

        return with_gradient(*tensors.values())

    return call


def _compiled_gradient(function):
    """Compiled gradient of a function towards its argument ``name``, from the gradient ``upstream`` of its value."""

    def gradient(name, upstream, arguments):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(arguments[name])
            result = function(**arguments)
        return tape.gradient(result, arguments[name], upstream, unconnected_gradients="zero")

    gradient.__name__ = f"{function.__name__}_gradient"  # as a profile shows it
    return tf.function(gradient, jit_compile=True, autograph=False)


def _is_array(x):
    """Whether an argument is an array, which becomes a tensor, or else a setting."""
    return tf.is_tensor(x) or isinstance(x, (np.ndarray, tf.Variable))
