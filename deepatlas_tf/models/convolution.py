"""Keras' convolutions, with gradients that are computed in the way that is fastest on a CPU.

A CPU computes as many output channels at a time as a vector register holds, and takes as long for fewer. So where a
convolution has few output channels, the gradient of its kernel is computed as that of a convolution from these channels
to the many, and then reversed along each axis. :func:`plain_convolve` and :func:`plain_add_bias` are the definitions.
"""

from collections.abc import Sequence

from deepatlas_tf.keras_stack import keras, tf
from deepatlas_tf.ops.interpolation import sizes
from deepatlas_tf.ops.sums import on_gpu
from deepatlas_tf.types import Tensor

VECTOR = 16  # float32 numbers, of AVX-512
_KERNEL_GRADIENTS = {4: tf.raw_ops.Conv2DBackpropFilter, 5: tf.raw_ops.Conv3DBackpropFilterV2}  # by the rank


@keras.utils.register_keras_serializable("deepatlas_tf")
class Conv2D(keras.layers.Conv2D):
    """``keras.layers.Conv2D``: ``(B, *S, I) -> (B, *S, O)``, with the same arguments, values and gradients."""

    def call(self, inputs: Tensor) -> Tensor:
        if not _is_plain(self):
            return super().call(inputs)
        return _convolved(self, inputs)


@keras.utils.register_keras_serializable("deepatlas_tf")
class Conv3D(keras.layers.Conv3D):
    """``keras.layers.Conv3D``: ``(B, *S, I) -> (B, *S, O)``, with the same arguments, values and gradients."""

    def call(self, inputs: Tensor) -> Tensor:
        if not _is_plain(self):
            return super().call(inputs)
        return _convolved(self, inputs)


def _is_plain(layer: keras.layers.Layer) -> bool:
    """Whether a convolution is one that :func:`convolve` computes: stride 1, zeros around, no dilation, no groups."""
    return layer.padding == "same" and layer.groups == 1 and {*layer.strides, *layer.dilation_rate} == {1}


def _convolved(layer: keras.layers.Layer, inputs: Tensor) -> Tensor:
    """Apply such a layer, with its bias and activation, to ``inputs (B, *S, I)``: ``(B, *S, O)``."""
    result = convolve(inputs, tf.convert_to_tensor(layer.kernel))
    return layer.activation(add_bias(result, tf.convert_to_tensor(layer.bias)) if layer.use_bias else result)


def convolve(x: Tensor, kernel: Tensor) -> Tensor:
    """Convolve ``x (B, *S, I)`` with a kernel ``(K, ..., I, O)``, with stride 1 and zeros around: ``(B, *S, O)``."""
    if on_gpu():
        return plain_convolve(x, kernel)

    @tf.custom_gradient
    def with_gradient(x, kernel):
        def backward(upstream):
            with tf.name_scope("gradient"):
                grad_x = tf.nn.conv_transpose(upstream, kernel, sizes(x), 1, "SAME")
                return grad_x, _kernel_gradient(x, upstream, kernel.shape)

        return plain_convolve(x, kernel), backward

    return with_gradient(x, kernel)


def plain_convolve(x: Tensor, kernel: Tensor) -> Tensor:
    """The definition of :func:`convolve`: TensorFlow's convolution with its own gradients."""
    # that of a volume has no gradient where no layout is named
    return tf.nn.convolution(x, kernel, padding="SAME", data_format="NHWC" if x.shape.rank == 4 else "NDHWC")


def _kernel_gradient(x: Tensor, upstream: Tensor, shape: Sequence[int]) -> Tensor:
    axes, kernel_gradient = list(range(len(shape) - 2)), _KERNEL_GRADIENTS[x.shape.rank]
    settings = {"strides": [1] * x.shape.rank, "padding": "SAME"}
    symmetric = all(width % 2 for width in shape[:-2])  # the zeros around
    if shape[-1] >= min(shape[-2], VECTOR) or not symmetric:
        return kernel_gradient(input=x, filter_sizes=shape, out_backprop=upstream, **settings)
    turned = [*shape[:-2], shape[-1], shape[-2]]
    found = kernel_gradient(input=upstream, filter_sizes=turned, out_backprop=x, **settings)
    return tf.transpose(tf.reverse(found, axes), [*axes, len(axes) + 1, len(axes)])


def add_bias(x: Tensor, bias: Tensor) -> Tensor:
    """Add a bias ``(O,)`` to each voxel of ``x (B, *S, O)``."""
    if on_gpu() or x.shape[-1] >= VECTOR:
        return plain_add_bias(x, bias)

    @tf.custom_gradient
    def with_gradient(x, bias):
        def backward(upstream):  # a sum is several times as fast as TensorFlow's kernel for it
            return upstream, tf.reduce_sum(upstream, range(x.shape.rank - 1), name="gradient_of_bias")

        return plain_add_bias(x, bias), backward

    return with_gradient(x, bias)


def plain_add_bias(x: Tensor, bias: Tensor) -> Tensor:
    """The definition of :func:`add_bias`: TensorFlow's sum with its own gradients."""
    return tf.nn.bias_add(x, bias)
