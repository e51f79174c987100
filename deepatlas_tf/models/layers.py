"""Keras layers that the networks share: warping, integration, normalisation, dropout, padding and upsampling."""

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from deepatlas_tf.keras_stack import keras, tf, vxm
from deepatlas_tf.ops.compiled import compiled
from deepatlas_tf.ops.filters import cut
from deepatlas_tf.ops.interpolation import sizes
from deepatlas_tf.ops.velocity import integrate
from deepatlas_tf.ops.warp import warp
from deepatlas_tf.types import Tensor

_register = keras.utils.register_keras_serializable("deepatlas_tf")


@_register
class SpatialTransformer(vxm.layers.SpatialTransformer):
    """Warps an image by a displacement field, as voxelmorph's layer of this name does, but a whole batch at once.

    Call it with ``[image (B, *S, C), u (B, *S, D) in voxels]``: ``(B, *S, C)`` float32. ``interp_method`` is
    ``"linear"`` or ``"nearest"``. The number of channels may differ from call to call (voxelmorph's layer keeps that of
    the first), so that one layer warps images and anatomies.
    """

    def __init__(self, interp_method: str = "linear", **kwargs: Any):
        for name, only in (("indexing", "ij"), ("fill_value", None), ("single_transform", False)):
            if kwargs.get(name, only) != only:
                raise ValueError(f"SpatialTransformer supports {name}={only!r} only")
        super().__init__(interp_method=interp_method, dtype="float32", **_without(kwargs, "dtype"))

    def build(self, input_shape: Any) -> None:
        keras.layers.Layer.build(self, input_shape)

    def call(self, inputs: Sequence[Tensor]) -> Tensor:
        image, u = inputs
        return warp(image, u, self.interp_method)


@_register
class VecInt(keras.layers.Layer):
    """Integrates a stationary velocity field by scaling and squaring: ``(B, *S, D) -> u (B, *S, D)`` float32.

    Both are in voxels. ``int_steps`` is the number of squarings. The result is that of voxelmorph's
    ``VecInt(method="ss")``, whose constructor cannot be inherited from.
    """

    def __init__(self, int_steps: int = 7, **kwargs: Any):
        super().__init__(dtype="float32", **_without(kwargs, "dtype"))
        self.int_steps = int_steps

    def call(self, velocity: Tensor) -> Tensor:
        return integrate(velocity, self.int_steps)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "int_steps": self.int_steps}


@_register
class InstanceNormalization(keras.layers.Layer):
    """Gives each channel of each example zero mean and unit variance, then a learned scale and offset; ``(B, *S, C)``.

    With ``leak`` below 1 a leaky ReLU of this slope (above 0) follows; as one layer the two keep one volume less in
    memory for the gradient. Mean, variance, scale and offset are float32 also where the features are float16 or
    bfloat16. Keras 2's ``GroupNormalization(groups=-1)`` gives the same, at several times the cost.
    """

    def __init__(self, epsilon: float = 1e-5, leak: float = 1.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.epsilon = epsilon
        self.leak = leak

    def build(self, input_shape: Any) -> None:
        kept = {"shape": (input_shape[-1],), "experimental_autocast": False}
        self.scale = self.add_weight("scale", initializer="ones", **kept)
        self.offset = self.add_weight("offset", initializer="zeros", **kept)
        super().build(input_shape)

    def call(self, x: Tensor) -> Tensor:
        if x.shape[0] is None:
            normalised = _normalise(tf.cast(x, tf.float32), self.scale, self.offset, self.epsilon)
            return tf.cast(tf.nn.leaky_relu(normalised, self.leak), x.dtype)
        # TensorFlow's fused kernel takes one example at a time, and is four times as fast on a CPU
        examples = [self._normalise_example(example) for example in tf.unstack(x, axis=0)]
        return tf.stack(examples, axis=0)

    def _normalise_example(self, x: Tensor) -> Tensor:
        flat = tf.reshape(x, (1, -1, 1, x.shape[-1]))  # (1, voxels, 1, C)
        scale, offset = tf.convert_to_tensor(self.scale), tf.convert_to_tensor(self.offset)
        return tf.reshape(_normalise_and_activate(flat, scale, offset, self.epsilon, self.leak), tf.shape(x))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "epsilon": self.epsilon, "leak": self.leak}


@_register
class LeakyReLU(keras.layers.LeakyReLU):
    """Keras' leaky ReLU in less memory: its gradient is computed from the result, so that the input need not be kept.

    For this the slope, ``alpha``, has to be above 0: the result then has the signs of the input.
    """

    def call(self, inputs: Tensor) -> Tensor:
        slope = float(self.alpha)

        @tf.custom_gradient
        def with_gradient(x):
            result = tf.nn.leaky_relu(x, slope)

            def backward(upstream):
                return tf.raw_ops.LeakyReluGrad(gradients=upstream, features=result, alpha=slope)

            return result, backward

        return with_gradient(inputs)


@_register
class Softmax(keras.layers.Softmax):
    """Keras' softmax in less memory: its gradient is one compiled program, which makes fewer volumes on its way."""

    def call(self, inputs: Tensor) -> Tensor:
        @tf.custom_gradient
        def with_gradient(logits):
            probabilities = tf.nn.softmax(logits, self.axis)
            return probabilities, lambda upstream: _softmax_gradient(probabilities, upstream, self.axis)

        return with_gradient(inputs)


@compiled
def _softmax_gradient(probabilities: Tensor, upstream: Tensor, axis: int) -> Tensor:
    mean = tf.reduce_sum(probabilities * upstream, axis, keepdims=True)
    return probabilities * (upstream - mean)


@_register
class Dropout(keras.layers.Layer):
    """Dropout (Srivastava et al., JMLR 2014) that a resumed run repeats: its masks follow from a counter of its calls.

    The counter is one of its weights, which checkpoints hold. So a resumed run drops what an uninterrupted one would
    have dropped; Keras' own layer has a state that is in no checkpoint. ``rate`` is the part that is dropped.
    """

    def __init__(self, rate: float, **kwargs: Any):
        super().__init__(**kwargs)
        self.rate = rate

    def build(self, input_shape: Any) -> None:
        once = tf.VariableAggregation.ONLY_FIRST_REPLICA
        self.calls = self.add_weight("calls", (), dtype="int64", initializer="zeros", trainable=False, aggregation=once)
        super().build(input_shape)

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        if not training or not self.rate:
            return x
        seed = tf.stack([self.calls, zlib.crc32(self.name.encode())])
        self.calls.assign_add(1)
        kept = tf.random.stateless_uniform(tf.shape(x), seed) >= self.rate
        return tf.where(kept, x / (1 - self.rate), tf.zeros_like(x))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate}


@_register
class Foreground(keras.layers.Layer):
    """Leaves out the first class, which the others tell: ``(B, *S, C) -> (B, *S, C - 1)`` float32."""

    def call(self, probabilities: Tensor) -> Tensor:
        return tf.cast(probabilities[..., 1:], tf.float32)


@_register
class PadToMultiple(keras.layers.Layer):
    """Pads ``(B, *S, C)`` with zeros at the far end of each spatial axis, to a multiple of ``stride`` voxels."""

    def __init__(self, stride: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.stride = stride

    def call(self, x: Tensor) -> Tensor:
        # Not tf.pad: TensorFlow's graph optimiser drops it in front of a 3D convolution. Nor a slab that may have no
        # voxels: OpenVINO does not take it
        for axis in range(1, x.shape.rank - 1):
            length = sizes(x)[axis]
            missing = self._missing(length)
            if isinstance(missing, int) and not missing:
                continue
            slab = tf.concat([tf.shape(x)[:axis], [self.stride], tf.shape(x)[axis + 1 :]], axis=0)
            x = tf.concat([x, tf.zeros(slab, x.dtype)], axis=axis)
            x = x[(slice(None),) * axis + (slice(0, length + missing),)]
        return x

    def _missing(self, length: Any) -> Any:
        return -length % self.stride

    def compute_output_shape(self, input_shape: Any) -> tf.TensorShape:
        spatial = [None if n is None else n + self._missing(n) for n in input_shape[1:-1]]
        return tf.TensorShape([input_shape[0], *spatial, input_shape[-1]])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "stride": self.stride}


@_register
class CropLike(keras.layers.Layer):
    """Crops the first of two inputs to the spatial size of the second, which undoes a :class:`PadToMultiple`.

    ``[(B, *P, C), (B, *S, K)] -> (B, *S, C)``.
    """

    def call(self, inputs: Sequence[Tensor]) -> Tensor:
        x, like = inputs
        if x.shape[1:-1] == like.shape[1:-1] and like.shape[1:-1].is_fully_defined():
            return x  # the gradient of a slice would be a copy
        cropped = x[(slice(None), *(slice(0, size) for size in sizes(like)[1:-1]))]
        cropped.set_shape([x.shape[0], *like.shape[1:-1], x.shape[-1]])
        return cropped


@_register
class UpsampleField(keras.layers.Layer):
    """Interpolates a field of a coarse grid linearly to a fine one: ``(B, *S / factor, D) -> (B, *S, D)`` float32.

    The values are multiplied by ``factor``, so that the field is in voxels of its own grid before and after. A coarse
    voxel lies in the middle of the ``factor`` fine ones that it is the mean of; beyond the last one its value is kept.
    """

    def __init__(self, factor: int, **kwargs: Any):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.factor = factor

    def call(self, field: Tensor) -> Tensor:
        return _upsampled(field, self.factor)

    def compute_output_shape(self, input_shape: Any) -> tf.TensorShape:
        spatial = [None if n is None else n * self.factor for n in input_shape[1:-1]]
        return tf.TensorShape([input_shape[0], *spatial, input_shape[-1]])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "factor": self.factor}


@compiled
def _upsampled(field: Tensor, factor: int) -> Tensor:
    """What :class:`UpsampleField` gives: along each axis, ``factor`` means of neighbours for each voxel."""
    for axis in range(field.shape.rank - 2):
        wide = tf.concat([cut(field, axis, 0, 1), field, cut(field, axis, -1, None)], axis=axis + 1)
        means = []
        for index in range(factor):
            weight, before = math.modf((index - (factor - 1) / 2) / factor + 1)  # of the voxel after this one, in wide
            start = int(before)
            first, second = (cut(wide, axis, i, i - 2 or None) for i in (start, start + 1))
            means.append((1 - weight) * first + weight * second)
        shape = sizes(field)
        shape[axis + 1] *= factor
        field = tf.reshape(tf.stack(means, axis=axis + 2), shape)
    return factor * field


def _normalise_and_activate(x: Tensor, scale: Tensor, offset: Tensor, epsilon: float, leak: float) -> Tensor:
    """Normalise ``x (1, V, 1, C)`` and apply a leaky ReLU, as one function: ``(1, V, 1, C)``.

    The gradient of the ReLU needs only the signs of the normalised volume. The result has the same signs, so that the
    normalised volume need not be kept.
    """

    @tf.custom_gradient
    def with_gradient(x, scale, offset):
        settings = {"epsilon": epsilon, "is_training": True}
        normalised, _, _, *kept = tf.raw_ops.FusedBatchNormV3(
            x=x, scale=scale, offset=offset, mean=[], variance=[], **settings
        )
        result = tf.nn.leaky_relu(normalised, leak)

        def backward(upstream):
            upstream = tf.raw_ops.LeakyReluGrad(gradients=upstream, features=result, alpha=leak)
            spaces = dict(zip(("reserve_space_1", "reserve_space_2", "reserve_space_3"), kept, strict=True))
            return tf.raw_ops.FusedBatchNormGradV3(y_backprop=upstream, x=x, scale=scale, **spaces, **settings)[:3]

        return result, backward

    return with_gradient(x, scale, offset)


def _normalise(x: Tensor, scale: Tensor, offset: Tensor, epsilon: float) -> Tensor:
    axes = list(range(1, x.shape.rank - 1))
    mean, variance = tf.nn.moments(x, axes, keepdims=True)
    return tf.nn.batch_normalization(x, mean, variance, offset, scale, epsilon)


def _without(kwargs: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in kwargs.items() if key != name}
