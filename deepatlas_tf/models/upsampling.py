"""The convolution after an upsampling, computed without the upsampled volume.

U-Nets double a volume by repeating its voxels, append the skip connection, and convolve. Three neighbours along an axis
are then only two different voxels of the small volume, so the part of the kernel that meets it is, exactly, a
transposed convolution of width 4 and stride 2: 8 multiplications in place of 27, and neither the doubled nor the joined
volume is ever made. The values are the same up to rounding.
"""

from deepatlas_tf.keras_stack import keras, tf
from deepatlas_tf.models.convolution import Conv2D, Conv3D, add_bias, convolve
from deepatlas_tf.models.layers import LeakyReLU
from deepatlas_tf.ops.interpolation import sizes


@keras.utils.register_keras_serializable("deepatlas_tf")
class UpsampledConvolution(keras.layers.Layer):
    """``Conv(3, padding="same")`` of ``Concatenate()([UpSampling(2)(low), skip])``, in 2D and 3D.

    Call it with ``[low (B, *S / 2, L), skip (B, *S, K)]``; it gives ``(B, *S, filters)``. The kernel is that of the
    convolution, ``(3, ..., 3, L + K, filters)``.
    """

    def __init__(self, filters, use_bias=True, kernel_initializer="glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape):
        low, skip = input_shape
        width = (3,) * (len(low) - 2)
        shape = (*width, low[-1] + skip[-1], self.filters)
        self.kernel = self.add_weight("kernel", shape, initializer=self.kernel_initializer)
        self.bias = self.add_weight("bias", (self.filters,), initializer="zeros") if self.use_bias else None
        super().build(input_shape)

    def call(self, inputs):
        low, skip = inputs
        of_low, of_skip = tf.split(self.kernel, [low.shape[-1], skip.shape[-1]], axis=-2)
        result = tf.nn.conv_transpose(low, _transposed(of_low), [*sizes(skip)[:-1], self.filters], 2, "SAME")
        result += convolve(skip, of_skip)
        result.set_shape([*skip.shape[:-1], self.filters])
        return result if self.bias is None else add_bias(result, tf.convert_to_tensor(self.bias))

    def get_config(self):
        initializer = keras.initializers.serialize(self.kernel_initializer)
        own = {"filters": self.filters, "use_bias": self.use_bias, "kernel_initializer": initializer}
        return {**super().get_config(), **own}


def convolution(x, filters: int, name: str, strides: int = 1, width: int = 3, **settings):
    """A convolution of a Keras tensor, or a 3-wide one of ``[low, skip]`` joined after an upsampling.

    ``settings``: other arguments of the layer, such as ``use_bias``.
    """
    settings = {"kernel_initializer": "he_normal", "name": name, **settings}
    if isinstance(x, list):
        return UpsampledConvolution(filters, **settings)(x)
    kind = {4: Conv2D, 5: Conv3D}[len(x.shape)]
    return kind(filters, width, strides, padding="same", **settings)(x)


def _transposed(kernel):
    """Kernel ``(3, ..., I, O)`` on repeated voxels -> ``(4, ..., O, I)`` of the transposed convolution."""
    axes = list(range(kernel.shape.rank - 2))
    kernel = tf.transpose(tf.reverse(kernel, axes), [*axes, len(axes) + 1, len(axes)])
    for axis in axes:
        end = [[0, 0]] * kernel.shape.rank
        end[axis] = [0, 1]
        kernel = tf.pad(kernel, end) + tf.pad(kernel, [before_after[::-1] for before_after in end])
    return kernel


def fold_upsampling(output, start):
    """The Keras tensor ``output``, with each upsampling, concatenation and convolution on its way as one layer.

    The layers between the Keras tensor ``start`` and it are made anew, with the names that they have; their weights are
    in the same order. A leaky ReLU becomes one that keeps less for the gradient, a convolution one whose gradient is
    faster.
    """
    made = {id(start): start}

    def fold(tensor):
        if id(tensor) not in made:
            layer, inputs = tensor.node.layer, tensor.node.keras_inputs
            low_and_skip = _low_and_skip(layer, inputs)
            copy = _upsampled_convolution(layer) if low_and_skip else _copy(layer)
            inputs = [fold(x) for x in low_and_skip or inputs]
            made[id(tensor)] = copy(inputs if len(inputs) > 1 else inputs[0])
        return made[id(tensor)]

    return fold(output)


def _copy(layer):
    own = {keras.layers.LeakyReLU: LeakyReLU, keras.layers.Conv2D: Conv2D, keras.layers.Conv3D: Conv3D}
    kind = own.get(type(layer), type(layer))
    return kind.from_config(layer.get_config())


def _low_and_skip(layer, inputs):
    """The two volumes that a 3-wide convolution joins, if there are two and the first was doubled, else None."""
    if not isinstance(layer, (keras.layers.Conv2D, keras.layers.Conv3D)) or not _is_plain(layer.get_config()):
        return None
    joined = inputs[0].node
    if not isinstance(joined.layer, keras.layers.Concatenate) or len(joined.keras_inputs) != 2:
        return None
    upsampled, skip = joined.keras_inputs
    doubling = upsampled.node.layer
    if not isinstance(doubling, (keras.layers.UpSampling2D, keras.layers.UpSampling3D)) or set(doubling.size) != {2}:
        return None
    if getattr(doubling, "interpolation", "nearest") != "nearest":
        return None
    return [upsampled.node.keras_inputs[0], skip]


def _is_plain(config):
    """Whether a convolution is one that :class:`UpsampledConvolution` can stand for."""
    widths = set(config["kernel_size"]), set(config["strides"]), set(config["dilation_rate"])
    kind = config["padding"], config["activation"], config["groups"]
    return widths == ({3}, {1}, {1}) and kind == ("same", "linear", 1)


def _upsampled_convolution(convolution):
    config = convolution.get_config()
    kept = ("name", "filters", "use_bias", "kernel_initializer")
    return UpsampledConvolution(**{name: config[name] for name in kept})
