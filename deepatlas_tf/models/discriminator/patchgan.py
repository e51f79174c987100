"""The PatchGAN discriminator of CycleGAN (Zhu et al., ICCV 2017), in 2D and 3D, for any image size."""

import dataclasses
from collections.abc import Sequence

from deepatlas_tf.keras_stack import keras
from deepatlas_tf.models.layers import InstanceNormalization
from deepatlas_tf.models.network import Interface, Network
from deepatlas_tf.types import Tensor


@dataclasses.dataclass(frozen=True)
class PatchGAN(Network):
    """The settings of a PatchGAN discriminator, which are arguments of :func:`discriminator`."""

    widths: tuple[int, ...] = (64, 128, 256, 512)

    def build(self, shape: Sequence[int | None], needed: Interface) -> keras.Model:
        return discriminator(shape, self.widths)

    def tiny(self) -> "PatchGAN":
        return dataclasses.replace(self, widths=(4, 8))


def discriminator(shape: Sequence[int | None], widths: Sequence[int] = (64, 128, 256, 512)) -> keras.Model:
    """Build the discriminator, a Keras model ``image (B, *S, 1) -> scores (B, *S', 1)`` float32.

    Each score is of a patch of the image, and is trained to be 1 for a real image and 0 for a generated one.

    Args:
        shape: spatial size ``*S``; ``None`` for an axis of any length.
        widths: channels of each convolution before the score; all but the last halve the resolution. The default is
            the published one, with patches of 70 voxels a side; two widths less have patches of 16.
    """
    image = keras.Input((*shape, 1), name="image")
    x = image
    for level, width in enumerate(widths):
        x = _convolution(x, width, 4, 1 if level == len(widths) - 1 else 2, f"conv{level}")
        if level:  # the first has none, as published
            x = InstanceNormalization(name=f"norm{level}")(x)
        x = keras.layers.LeakyReLU(0.2, name=f"activation{level}")(x)
    conv = getattr(keras.layers, f"Conv{len(shape)}D")
    return keras.Model(image, conv(1, 4, padding="same", dtype="float32", name="score")(x), name="discriminator")


def _convolution(x: Tensor, width: int, kernel: int, stride: int, name: str) -> Tensor:
    conv = getattr(keras.layers, f"Conv{len(x.shape) - 2}D")
    return conv(width, kernel, stride, padding="same", kernel_initializer="he_normal", name=name)(x)
