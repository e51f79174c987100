"""Registration network: voxelmorph's U-Net with a displacement or a diffeomorphic head."""

from collections.abc import Sequence

from deepatlas_tf.keras_stack import keras, vxm
from deepatlas_tf.models.layers import CropLike, PadToMultiple, VecInt
from deepatlas_tf.models.recompute import Recomputed
from deepatlas_tf.models.upsampling import convolution, fold_upsampling

# Widths of DeepAtlas' registration network, which are those of VoxelMorph (CVPR 2018), on voxelmorph 0.2's U-Net.
ENCODER = (16, 32, 32, 32)
DECODER = (32, 32, 32, 32, 8, 8)


def registration_net(
    shape: Sequence[int | None],
    encoder: Sequence[int] = ENCODER,
    decoder: Sequence[int] = DECODER,
    diffeomorphic: bool = False,
    int_steps: int = 7,
    channels: int = 1,
    recompute: bool = False,
):
    """A Keras model ``[moving (B, *S, C), fixed (B, *S, C)] -> u (B, *S, D)`` in voxels (Balakrishnan et al. 2019).

    Any image size works: it is padded to the stride of the U-Net and cropped back. The last convolution starts near
    zero, so that training starts from the identity. The field is float32 under any precision policy.

    Args:
        shape: spatial size ``*S``; ``None`` for an axis of any length.
        encoder: widths of the encoder, one a level.
        decoder: widths of the decoder; those beyond the encoder's levels are convolutions at full resolution.
        diffeomorphic: the network predicts a velocity field, integrated by :class:`VecInt`.
        int_steps: squarings of the integration.
        channels: of the images, ``C``.
        recompute: the U-Net is computed again for the gradient, in three parts: the convolution at full resolution,
            all at lower ones, and those at full resolution after them; see :mod:`deepatlas_tf.models.recompute`.
    """
    moving = keras.Input((*shape, channels), name="moving")
    fixed = keras.Input((*shape, channels), name="fixed")
    both = keras.layers.Concatenate(name="moving_fixed")([moving, fixed])
    padded = PadToMultiple(2 ** len(encoder), name="pad")(both)
    features = unet_features([moving, fixed], padded, encoder, decoder, recompute)
    small = keras.initializers.RandomNormal(stddev=1e-5)
    flow = convolution(features, len(shape), "flow", kernel_initializer=small, dtype="float32")
    u = CropLike(name="crop", dtype="float32")([flow, both])
    if diffeomorphic:
        u = VecInt(int_steps, name="integrate")(u)
    return keras.Model([moving, fixed], u, name="registration")


def unet_features(inputs, x, encoder: Sequence[int], decoder: Sequence[int], recompute: bool = False):
    """Features of voxelmorph's ``Unet`` on ``x``, a Keras tensor made from ``inputs`` whose size fits the stride."""
    widths = (list(encoder), list(decoder))
    unet = vxm.networks.Unet(input_model=keras.Model(inputs, x), nb_features=widths, name="unet")
    features = fold_upsampling(unet.output, x)
    if not recompute:
        return features
    folded = keras.Model(x, features)
    first = folded.get_layer("unet_enc_conv_0_0_activation").output
    last_lower = folded.get_layer("unet_dec_conv_0_0_activation").output
    skip = Recomputed(keras.Model(x, first), name="full")(x)
    lower = Recomputed(keras.Model(first, last_lower), name="lower")(skip)
    return Recomputed(keras.Model([last_lower, first], features), name="full_again")([lower, skip])
