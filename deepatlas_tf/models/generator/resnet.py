"""Translation into another domain by the ResNet generator of CycleGAN (Zhu et al., ICCV 2017).

In 2D and 3D, for any image size. What differs from the original: images are in [0, 1], so the generator ends in a
sigmoid; borders are padded with zeros; upsampling is nearest and a convolution, which leaves no checkerboard.
"""

import dataclasses
from collections.abc import Sequence

from deepatlas_tf.keras_stack import keras
from deepatlas_tf.models.layers import CropLike, InstanceNormalization, PadToMultiple
from deepatlas_tf.models.network import Interface, Network
from deepatlas_tf.types import Tensor

_FIRST_KERNEL = {2: 7, 3: 5}  # 7 as published; in 3D it would cost more than all other layers together


@dataclasses.dataclass(frozen=True)
class ResNet(Network):
    """The settings of a ResNet generator, which are ``widths`` and ``n_blocks`` of :func:`generator`."""

    widths: tuple[int, ...] = (64, 128, 256)
    blocks: int = 9

    def build(self, shape: Sequence[int | None], needed: Interface) -> keras.Model:
        return generator(shape, self.widths, self.blocks)

    def tiny(self) -> "ResNet":
        return dataclasses.replace(self, widths=(4, 8), blocks=1)


def generator(shape: Sequence[int | None], widths: Sequence[int] = (64, 128, 256), n_blocks: int = 9) -> keras.Model:
    """Build the generator, a Keras model ``image (B, *S, 1) -> image of the other domain (B, *S, 1)`` float32.

    Both images are in [0, 1].

    Args:
        shape: spatial size ``*S``; ``None`` for an axis of any length.
        widths: channels of each level; every level after the first has half the resolution.
        n_blocks: residual blocks at the lowest resolution; the published networks have 6 or 9.
    """
    conv, kernel = getattr(keras.layers, f"Conv{len(shape)}D"), _FIRST_KERNEL[len(shape)]
    upsample = getattr(keras.layers, f"UpSampling{len(shape)}D")
    image = keras.Input((*shape, 1), name="image")
    x = PadToMultiple(2 ** (len(widths) - 1), name="pad")(image)
    x = _normalised(_convolution(x, widths[0], kernel, 1, "first"), "first")
    for level, width in enumerate(widths[1:], start=1):
        x = _normalised(_convolution(x, width, 3, 2, f"down{level}"), f"down{level}")
    for block in range(n_blocks):
        residual = _normalised(_convolution(x, widths[-1], 3, 1, f"block{block}_conv0"), f"block{block}_0")
        residual = _convolution(residual, widths[-1], 3, 1, f"block{block}_conv1")
        residual = InstanceNormalization(name=f"block{block}_1_norm")(residual)
        x = keras.layers.Add(name=f"block{block}")([x, residual])
    for level in reversed(range(len(widths) - 1)):
        x = upsample(2, name=f"upsample{level}")(x)
        x = _normalised(_convolution(x, widths[level], 3, 1, f"up{level}"), f"up{level}")
    x = conv(1, kernel, padding="same", dtype="float32", name="last")(x)
    x = CropLike(name="crop", dtype="float32")([x, image])
    return keras.Model(
        image, keras.layers.Activation("sigmoid", dtype="float32", name="translated")(x), name="generator"
    )


def _convolution(x: Tensor, width: int, kernel: int, stride: int, name: str) -> Tensor:
    conv = getattr(keras.layers, f"Conv{len(x.shape) - 2}D")
    return conv(width, kernel, stride, padding="same", kernel_initializer="he_normal", name=name)(x)


def _normalised(x: Tensor, name: str) -> Tensor:
    return keras.layers.ReLU(name=f"{name}_activation")(InstanceNormalization(name=f"{name}_norm")(x))
