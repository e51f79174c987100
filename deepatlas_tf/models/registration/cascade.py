"""Registration in several steps from coarse to fine.

The cascade is that of GradICON (Tian et al., CVPR 2023): each step is a network of its own, which sees the moving image
as the steps before have warped it.
"""

import dataclasses
from collections.abc import Sequence

from deepatlas_tf.keras_stack import as_written, keras
from deepatlas_tf.models.layers import CropLike, PadToMultiple, SpatialTransformer, UpsampleField
from deepatlas_tf.models.network import Interface, Network
from deepatlas_tf.models.registration.voxelmorph import DECODER, ENCODER, TINY_DECODER, TINY_ENCODER, registration_net
from deepatlas_tf.types import Tensor


@dataclasses.dataclass(frozen=True)
class Cascade(Network):
    """The settings of a cascade, which are arguments of :func:`cascade_net`."""

    encoder: tuple[int, ...] = ENCODER
    decoder: tuple[int, ...] = DECODER
    factors: tuple[int, ...] = (4, 2, 1, 1)

    def build(self, shape: Sequence[int | None], needed: Interface) -> keras.Model:
        return cascade_net(shape, self.encoder, self.decoder, self.factors, needed.channels)

    def tiny(self) -> "Cascade":
        return dataclasses.replace(self, encoder=TINY_ENCODER, decoder=TINY_DECODER)


@as_written
def cascade_net(
    shape: Sequence[int | None],
    encoder: Sequence[int] = ENCODER,
    decoder: Sequence[int] = DECODER,
    factors: Sequence[int] = (4, 2, 1, 1),
    channels: int = 1,
) -> keras.Model:
    """Build the cascade, a Keras model ``[moving (B, *S, C), fixed (B, *S, C)] -> u (B, *S, D)`` in voxels.

    Step ``k`` registers the moving image warped by ``u_{k-1}`` to the fixed one, both mean-pooled by its factor. Its
    field ``v`` makes ``u_k(x) = v(x) + u_{k-1}(x + v(x))``, so that warping by ``u_k`` once is warping by ``u_{k-1}``
    and then by ``v``. GradICON has the factors (4, 2, 1), then one more at full resolution. Any image size works.

    Args:
        shape: spatial size ``*S``; ``None`` for an axis of any length.
        encoder, decoder: widths of the U-Net of each step, see
            :func:`~deepatlas_tf.models.registration.voxelmorph.registration_net`.
        factors: for each step its voxel size, as a multiple of that of the images.
        channels: channels ``C`` of the images.
    """
    moving = keras.Input((*shape, channels), name="moving")
    fixed = keras.Input((*shape, channels), name="fixed")
    u = None
    for index, factor in enumerate(factors):
        warped = moving if u is None else SpatialTransformer(name=f"warp{index}")([moving, u])
        v = _step(warped, fixed, (encoder, decoder), factor, f"step{index}")
        if u is not None:
            u = keras.layers.Add(name=f"compose{index}", dtype="float32")(
                [v, SpatialTransformer(name=f"displace{index}")([u, v])]
            )
        else:
            u = v
    return keras.Model([moving, fixed], u, name="registration")


def _step(moving: Tensor, fixed: Tensor, widths: tuple[Sequence[int], Sequence[int]], factor: int, name: str) -> Tensor:
    """Build one step; gives its displacement field on the full grid, in voxels of it."""
    images = [moving, fixed]
    if factor > 1:
        pool = getattr(keras.layers, f"AveragePooling{len(fixed.shape) - 2}D")
        padded = [PadToMultiple(factor, name=f"{name}_{side}_pad")(x) for side, x in zip("mf", images, strict=True)]
        images = [pool(factor, name=f"{name}_{side}_pool")(x) for side, x in zip("mf", padded, strict=True)]
    shape, channels = images[0].shape[1:-1], fixed.shape[-1]
    net = registration_net(shape, *widths, channels=channels)
    v = keras.Model(net.inputs, net.output, name=name)(images)
    if factor == 1:
        return v
    return CropLike(name=f"{name}_crop", dtype="float32")([UpsampleField(factor, name=f"{name}_upsample")(v), fixed])
