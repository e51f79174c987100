"""voxelmorph's U-Net and the head of a segmentation, which several networks share.

:func:`unet_features` builds the U-Net from the layers that train fastest. Its weights have the order and the names of
those of ``voxelmorph.networks.Unet``, and with these weights it gives the values of that network up to rounding.
"""

from collections.abc import Sequence

from deepatlas_tf.keras_stack import keras
from deepatlas_tf.models.layers import CropLike, LeakyReLU, Softmax
from deepatlas_tf.models.recompute import Recomputed
from deepatlas_tf.models.upsampling import convolution
from deepatlas_tf.types import SettingError, Tensor


def unet_features(x: Tensor, encoder: Sequence[int], decoder: Sequence[int], recompute: bool = False) -> Tensor:
    """Build voxelmorph's U-Net on a Keras tensor ``x (B, *S, C)``; its features are ``(B, *S, W)`` of the last width.

    Each level has one convolution with a leaky ReLU. On the way down max-pooling halves the resolution; on the way up
    the features are doubled and joined with those of the encoder, see
    :class:`~deepatlas_tf.models.upsampling.UpsampledConvolution`.

    Args:
        x: Keras tensor whose size is a multiple of ``2 ** len(encoder)`` along each axis.
        encoder: channels of each level from full resolution down.
        decoder: channels from the lowest resolution up; those beyond the encoder's levels are at full resolution.
        recompute: the features are computed again for the gradient, in three parts: the convolution at full resolution,
            all at lower ones, and those at full resolution after them.

    Raises:
        SettingError: if the decoder does not come back to full resolution with one convolution there.
    """
    if len(decoder) <= len(encoder):
        raise SettingError(f"the decoder {decoder} needs more widths than the encoder {encoder}")
    _draw_as_before(len(encoder) + len(decoder))
    start, n_axes = x, len(x.shape) - 2
    pool = getattr(keras.layers, f"MaxPooling{n_axes}D")
    skips = []
    for level, width in enumerate(encoder):
        skips.append(_convolution(x, width, f"unet_enc_conv_{level}_0"))
        x = pool(2, name=f"unet_enc_pooling_{level}")(skips[-1])
    first = skips[0]
    names = [f"unet_dec_conv_{level}_0" for level in reversed(range(len(encoder)))]
    names += [f"unet_dec_final_conv_{index}" for index in range(len(decoder) - len(encoder))]
    last_lower = None
    for index, (width, name) in enumerate(zip(decoder, names, strict=True)):
        if 1 <= index <= len(encoder):
            last_lower, x = x, [x, skips.pop()]
        x = _convolution(x, width, name)
    return _in_three_parts(start, first, last_lower, x) if recompute else x


def class_probabilities(features: Tensor, image: Tensor, n_classes: int) -> Tensor:
    """Build the head of a segmentation network, which gives class probabilities ``(B, *S, C)`` float32.

    Args:
        features: Keras tensor ``(B, *P, W)`` on the padded grid.
        image: Keras tensor ``(B, *S, K)``, to whose size the result is cropped.
        n_classes: C, background included.
    """
    logits = convolution(features, n_classes, "logits", width=1, kernel_initializer="glorot_uniform", dtype="float32")
    logits = CropLike(name="crop", dtype="float32")([logits, image])
    return Softmax(dtype="float32", name="probabilities")(logits)


def _convolution(x: Tensor | list[Tensor], width: int, name: str) -> Tensor:
    return LeakyReLU(0.2, name=f"{name}_activation")(convolution(x, width, name))


def _in_three_parts(start: Tensor, first: Tensor, last_lower: Tensor, features: Tensor) -> Tensor:
    skip = Recomputed(keras.Model(start, first), name="full")(start)
    lower = Recomputed(keras.Model(first, last_lower), name="lower")(skip)
    return Recomputed(keras.Model([last_lower, first], features), name="full_again")([lower, skip])


def _draw_as_before(n: int) -> None:
    """Use up ``n`` seeds, as earlier versions did by building voxelmorph's own network, to begin with equal weights."""
    for _ in range(n):
        keras.initializers.HeNormal()((1, 1))
