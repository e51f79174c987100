"""voxelmorph's registration network: a U-Net that predicts a displacement field or, diffeomorphic, a velocity field."""

import dataclasses
from collections.abc import Sequence

from deepatlas_tf.keras_stack import as_written, keras
from deepatlas_tf.models.layers import CropLike, PadToMultiple, VecInt
from deepatlas_tf.models.network import Interface, Network
from deepatlas_tf.models.unet import unet_features
from deepatlas_tf.models.upsampling import convolution

# Widths of DeepAtlas' registration network, which are those of VoxelMorph (CVPR 2018), on voxelmorph 0.2's U-Net.
ENCODER = (16, 32, 32, 32)
DECODER = (32, 32, 32, 32, 8, 8)
TINY_ENCODER, TINY_DECODER = (8, 8, 8), (8, 8, 8, 8)


@dataclasses.dataclass(frozen=True)
class VoxelMorphRegistration(Network):
    """The settings of voxelmorph's registration network, which are arguments of :func:`registration_net`."""

    encoder: tuple[int, ...] = ENCODER
    decoder: tuple[int, ...] = DECODER
    diffeomorphic: bool = False
    int_steps: int = 7
    recompute: bool = False

    def build(self, shape: Sequence[int | None], needed: Interface) -> keras.Model:
        return registration_net(shape, **vars(self), channels=needed.channels)

    def tiny(self) -> "VoxelMorphRegistration":
        return dataclasses.replace(self, encoder=TINY_ENCODER, decoder=TINY_DECODER)


@as_written
def registration_net(
    shape: Sequence[int | None],
    encoder: Sequence[int] = ENCODER,
    decoder: Sequence[int] = DECODER,
    diffeomorphic: bool = False,
    int_steps: int = 7,
    channels: int = 1,
    recompute: bool = False,
) -> keras.Model:
    """Build the network, a Keras model ``[moving (B, *S, C), fixed (B, *S, C)] -> u (B, *S, D)`` in voxels.

    It is that of Balakrishnan et al. (TMI 2019), or, diffeomorphic, that of Dalca et al. (MedIA 2019).
    Any image size works: it is padded to the stride of the U-Net and cropped back. The last convolution starts near
    zero, so that training starts from the identity. The field is float32 under any precision policy.

    Args:
        shape: spatial size ``*S``; ``None`` for an axis of any length.
        encoder: channels of each level of the encoder, full resolution first.
        decoder: channels of the decoder from the lowest resolution up; those beyond the encoder's levels are of
            convolutions at full resolution.
        diffeomorphic: the network predicts a velocity field, integrated by :class:`VecInt`.
        int_steps: number of squarings of the integration.
        channels: channels ``C`` of the images.
        recompute: the U-Net is computed again for the gradient, in three parts: the convolution at full resolution,
            all at lower ones, and those at full resolution after them; see :mod:`deepatlas_tf.models.recompute`.
    """
    moving = keras.Input((*shape, channels), name="moving")
    fixed = keras.Input((*shape, channels), name="fixed")
    both = keras.layers.Concatenate(name="moving_fixed")([moving, fixed])
    padded = PadToMultiple(2 ** len(encoder), name="pad")(both)
    features = unet_features(padded, encoder, decoder, recompute)
    small = keras.initializers.RandomNormal(stddev=1e-5)
    flow = convolution(features, len(shape), "flow", kernel_initializer=small, dtype="float32")
    u = CropLike(name="crop", dtype="float32")([flow, both])
    if diffeomorphic:
        u = VecInt(int_steps, name="integrate")(u)
    return keras.Model([moving, fixed], u, name="registration")
