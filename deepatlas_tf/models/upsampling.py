"""The convolution after an upsampling, computed without the upsampled volume.

U-Nets double a volume by repeating its voxels, append the skip connection, and convolve. Three neighbours along an axis
are then only two different voxels of the small volume, so the part of the kernel that meets it is, exactly, a
transposed convolution of width 4 and stride 2: 8 multiplications in place of 27, and neither the doubled nor the joined
volume is ever made. :func:`plain_upsampled_convolution` is the definition; the values are equal up to rounding.
"""

from collections.abc import Sequence
from typing import Any

from deepatlas_tf.keras_stack import keras, tf
from deepatlas_tf.models.convolution import Conv2D, Conv3D, add_bias, convolve, plain_convolve
from deepatlas_tf.ops.interpolation import sizes
from deepatlas_tf.types import Tensor


@keras.utils.register_keras_serializable("deepatlas_tf")
class UpsampledConvolution(keras.layers.Layer):
    """A layer that does what ``Conv(filters, 3, padding="same")(Concatenate()([UpSampling(2)(low), skip]))`` does.

    Call it with ``[low (B, *S / 2, L), skip (B, *S, K)]``, in 2D or 3D; it gives ``(B, *S, filters)``. Its kernel is
    that of the convolution, ``(3, ..., 3, L + K, filters)``.
    """

    def __init__(self, filters: int, use_bias: bool = True, kernel_initializer: Any = "glorot_uniform", **kwargs: Any):
        super().__init__(**kwargs)
        self.filters = filters
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape: Any) -> None:
        low, skip = input_shape
        width = (3,) * (len(low) - 2)
        shape = (*width, low[-1] + skip[-1], self.filters)
        self.kernel = self.add_weight("kernel", shape, initializer=self.kernel_initializer)
        self.bias = self.add_weight("bias", (self.filters,), initializer="zeros") if self.use_bias else None
        super().build(input_shape)

    def call(self, inputs: Sequence[Tensor]) -> Tensor:
        low, skip = inputs
        result = upsampled_convolution(low, skip, tf.convert_to_tensor(self.kernel))
        return result if self.bias is None else add_bias(result, tf.convert_to_tensor(self.bias))

    def get_config(self) -> dict[str, Any]:
        initializer = keras.initializers.serialize(self.kernel_initializer)
        own = {"filters": self.filters, "use_bias": self.use_bias, "kernel_initializer": initializer}
        return {**super().get_config(), **own}


def upsampled_convolution(low: Tensor, skip: Tensor, kernel: Tensor) -> Tensor:
    """Double ``low (B, *S / 2, L)``, append ``skip (B, *S, K)``, and convolve: ``(B, *S, O)``.

    The kernel is ``(3, ..., 3, L + K, O)``; around the volumes are zeros.
    """
    low_kernel, skip_kernel = tf.split(kernel, [low.shape[-1], skip.shape[-1]], axis=-2)
    shape = [*sizes(skip)[:-1], kernel.shape[-1]]
    result = tf.nn.conv_transpose(low, _transposed(low_kernel), shape, 2, "SAME")
    result += convolve(skip, skip_kernel)
    result.set_shape([*skip.shape[:-1], kernel.shape[-1]])
    return result


def plain_upsampled_convolution(low: Tensor, skip: Tensor, kernel: Tensor) -> Tensor:
    """The definition of :func:`upsampled_convolution`: repeat each voxel, append the skip connection, convolve."""
    for axis in range(1, low.shape.rank - 1):
        low = tf.repeat(low, 2, axis)
    return plain_convolve(tf.concat([low, skip], axis=-1), kernel)


def convolution(
    x: Tensor | list[Tensor], filters: int, name: str, strides: int = 1, width: int = 3, **settings: Any
) -> Tensor:
    """Apply a new convolution to a Keras tensor ``(B, *S, I)``, or to ``[low, skip]`` after an upsampling of ``low``.

    Args:
        x: a Keras tensor, or two for :class:`UpsampledConvolution`, which is 3 voxels wide.
        filters: output channels.
        name: what the layer is called.
        strides, width: voxels along each axis.
        settings: other arguments of the layer, such as ``use_bias``.
    """
    settings = {"kernel_initializer": "he_normal", "name": name, **settings}
    if isinstance(x, list):
        return UpsampledConvolution(filters, **settings)(x)
    kind: type[keras.layers.Layer] = {4: Conv2D, 5: Conv3D}[len(x.shape)]
    return kind(filters, width, strides, padding="same", **settings)(x)


def _transposed(kernel: Tensor) -> Tensor:
    """Turn a kernel ``(3, ..., I, O)`` for repeated voxels into one ``(4, ..., O, I)`` of a transposed convolution."""
    axes = list(range(kernel.shape.rank - 2))
    kernel = tf.transpose(kernel, [*axes, len(axes) + 1, len(axes)])
    for axis in axes:
        first, middle, last = tf.unstack(kernel, axis=axis)
        kernel = tf.stack([last, last + middle, middle + first, first], axis)
    return kernel
