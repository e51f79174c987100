"""Registration by a residual pyramid: a field at every resolution, each a correction of the one below.

    field_0 = residual_0,    field_k = 2 up(field_{k-1}) + residual_k,    u = field_{L-1}

As in UniSegReg (Li, Figueredo, Auer, Dineen, Morgan & Chen, arXiv 2502.03229). Level 0 is the coarsest; the field of a
level is in voxels of its own grid, hence the factor 2.
"""

import dataclasses
from collections.abc import Callable, Sequence

from deepatlas_tf.keras_stack import as_written, keras
from deepatlas_tf.models.layers import CropLike, LeakyReLU, PadToMultiple, UpsampleField
from deepatlas_tf.models.network import Interface, Network
from deepatlas_tf.models.upsampling import convolution
from deepatlas_tf.types import Tensor

# Channels from full resolution down; volumes, as published, have one level less than slices
WIDTHS = {2: (16, 32, 32, 32, 32), 3: (16, 32, 32, 32)}


@dataclasses.dataclass(frozen=True)
class Pyramid(Network):
    """The setting of a pyramid, which is an argument of :func:`pyramid_net`."""

    widths: tuple[int, ...] | None = None

    def build(self, shape: Sequence[int | None], needed: Interface) -> keras.Model:
        return pyramid_net(shape, self.widths, needed.channels)

    def tiny(self) -> "Pyramid":
        return dataclasses.replace(self, widths=(8, 8, 8))


@as_written
def pyramid_net(shape: Sequence[int | None], widths: Sequence[int] | None = None, channels: int = 1) -> keras.Model:
    """Build the pyramid, a Keras model ``[moving (B, *S, C), fixed (B, *S, C)] -> u (B, *S, D)`` float32, in voxels.

    It has a residual encoder with strided convolutions, and a decoder whose head at each level gives a residual. The
    heads start near zero, so that training starts from the identity. Any image size works. The authors' network has 32
    channels throughout and integrates each residual by one squaring; here full resolution has 16 and nothing is
    integrated. :func:`split_levels` gives the fields and residuals of all levels.

    Args:
        shape: spatial size ``*S``; ``None`` for an axis of any length.
        widths: channels of each level, full resolution first; None takes ``WIDTHS`` for the number of axes.
        channels: channels ``C`` of the images.
    """
    n_axes = len(shape)
    widths = tuple(widths or WIDTHS[n_axes])
    moving = keras.Input((*shape, channels), name="moving")
    fixed = keras.Input((*shape, channels), name="fixed")
    both = keras.layers.Concatenate(name="moving_fixed")([moving, fixed])
    x = PadToMultiple(2 ** (len(widths) - 1), name="pad")(both)
    skips = []
    for level, width in enumerate(widths):
        if level:
            x = _convolution(x, width, f"down{level}", strides=2)
        x = _residual_block(x, width, f"encoder{level}")
        skips.append(x)
    field = None
    for k, (width, skip) in enumerate(zip(reversed(widths), reversed(skips), strict=True)):
        x = _convolution([x, skip] if k else x, width, f"decoder{k}")
        residual = _head(x, n_axes, k)
        if k:
            finer = UpsampleField(2, name=f"finer{k}")(field)
            field = keras.layers.Add(name=f"field{k}", dtype="float32")([finer, residual])
        else:
            field = residual
    return keras.Model([moving, fixed], CropLike(name="crop", dtype="float32")([field, both]), name="registration")


def split_levels(net: keras.Model) -> Callable[..., tuple[list[Tensor], list[Tensor]]]:
    """Make a function that gives the fields and residuals of all levels of a pyramid.

    Any other registration network counts as a pyramid of one level, whose displacement field is both.

    Args:
        net: Keras model ``[moving, fixed] (B, *S, C) -> u (B, *S, D)``.

    Returns:
        A function ``inputs, training -> (fields, residuals)``, two lists from the coarsest to the finest level, each in
        voxels of its own grid. They are on the padded grid of the network and may have to be cropped.
    """
    names = {layer.name for layer in net.layers} if getattr(net, "outputs", None) else set()
    n_levels = sum(f"residual{k}" in names for k in range(len(names)))
    if not n_levels:

        def one_level(inputs, training):
            u = net(inputs, training=training)
            return [u], [u]

        return one_level
    residuals = [net.get_layer(f"residual{k}").output for k in range(n_levels)]
    fields = residuals[:1] + [net.get_layer(f"field{k}").output for k in range(1, n_levels)]
    return keras.Model(net.inputs, (fields, residuals), name="levels")


def _head(x: Tensor, n_axes: int, k: int) -> Tensor:
    small = keras.initializers.RandomNormal(stddev=1e-5)
    return convolution(x, n_axes, f"residual{k}", kernel_initializer=small, dtype="float32")


def _residual_block(x: Tensor, width: int, name: str) -> Tensor:
    """Build two convolutions, and a third one of their result and the input side by side, as the authors join them."""
    inner = _convolution(x, width, f"{name}_conv0")
    inner = _convolution(inner, width, f"{name}_conv1")
    return _convolution(keras.layers.Concatenate(name=f"{name}_both")([x, inner]), width, f"{name}_conv2")


def _convolution(x: Tensor, width: int, name: str, strides: int = 1) -> Tensor:
    return LeakyReLU(0.2, name=f"{name}_activation")(convolution(x, width, name, strides))
