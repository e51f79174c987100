"""The light segmentation network: a U-Net with instance normalisation, in the style of DeepAtlas."""

import dataclasses
from collections.abc import Sequence
from functools import partial

from deepatlas_tf.keras_stack import as_written, keras
from deepatlas_tf.models.layers import Dropout, InstanceNormalization, PadToMultiple
from deepatlas_tf.models.network import Interface, Network
from deepatlas_tf.models.recompute import apply_part
from deepatlas_tf.models.unet import class_probabilities
from deepatlas_tf.models.upsampling import convolution
from deepatlas_tf.types import SettingError, Tensor


@dataclasses.dataclass(frozen=True)
class Light(Network):
    """The settings of the light U-Net, which are arguments of :func:`light_unet`."""

    widths: tuple[int, ...] = (16, 32, 64, 128)
    dropout: float = 0.0
    recompute: bool = False

    def build(self, shape: Sequence[int | None], needed: Interface) -> keras.Model:
        return light_unet(shape, needed.outputs, **vars(self), channels=needed.channels)

    def tiny(self) -> "Light":
        return dataclasses.replace(self, widths=(8, 8, 8))

    def check(self, kind: str) -> None:
        if not self.widths or min(self.widths) < 1:
            raise SettingError(f"networks.{kind}.widths={self.widths}: a level has at least one channel")
        if not 0 <= self.dropout < 1:
            raise SettingError(f"networks.{kind}.dropout={self.dropout}: a rate is at least 0 and below 1")


@as_written
def light_unet(
    shape: Sequence[int | None],
    n_classes: int,
    widths: Sequence[int] = (16, 32, 64, 128),
    dropout: float = 0.0,
    recompute: bool = False,
    channels: int = 1,
) -> keras.Model:
    """Build the network, a Keras model ``image (B, *S, K) -> class probabilities (B, *S, C)`` float32.

    Each level has two convolutions, each followed by instance normalisation and a leaky ReLU; max-pooling leads down,
    upsampling by repetition and concatenation up. It has instance and not batch normalisation because with one or two
    scans in a batch the running statistics lag behind the weights for hundreds of steps. Any image size works.

    Args:
        shape: spatial size ``*S``; ``None`` for an axis of any length.
        n_classes: number of classes, background included.
        widths: channels of each level; the stride is ``2 ** (len(widths) - 1)``.
        dropout: rate of the dropout after each level of the encoder but the first.
        recompute: the two convolutions of a level are computed again for the gradient, see
            :mod:`deepatlas_tf.models.recompute`.
        channels: channels ``K`` of the image.
    """
    n_axes = len(shape)
    pool = getattr(keras.layers, f"MaxPooling{n_axes}D")
    image = keras.Input((*shape, channels), name="image")
    x = PadToMultiple(2 ** (len(widths) - 1), name="pad")(image)
    skips = []
    for level, width in enumerate(widths):
        x = apply_part(partial(_conv_block, width=width, name=f"down{level}"), [x], f"down{level}", recompute)
        if dropout and level:
            x = Dropout(dropout, name=f"dropout{level}")(x)
        if level < len(widths) - 1:
            skips.append(x)
            x = pool(2, name=f"pool{level}")(x)
    for level in reversed(range(len(widths) - 1)):
        up = partial(_up_block, width=widths[level], level=level)
        x = apply_part(up, [x, skips[level]], f"up{level}", recompute)
    return keras.Model(image, class_probabilities(x, image, n_classes), name="segmentation")


def _conv_block(x: Tensor | list[Tensor], width: int, name: str) -> Tensor:
    for index in range(2):
        x = convolution(x, width, f"{name}_conv{index}", use_bias=False)
        x = InstanceNormalization(leak=0.01, name=f"{name}_norm{index}")(x)
    return x


def _up_block(x: Tensor, skip: Tensor, width: int, level: int) -> Tensor:
    return _conv_block([x, skip], width, f"up{level}")
