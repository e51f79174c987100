"""voxelmorph's U-Net with a softmax, as a segmentation network."""

import dataclasses
from collections.abc import Sequence

from deepatlas_tf.keras_stack import as_written, keras
from deepatlas_tf.models.layers import PadToMultiple
from deepatlas_tf.models.network import Interface, Network
from deepatlas_tf.models.unet import class_probabilities, unet_features


@dataclasses.dataclass(frozen=True)
class VoxelMorphSegmentation(Network):
    """The settings of voxelmorph's U-Net, which are arguments of :func:`voxelmorph_unet`."""

    encoder: tuple[int, ...] = (16, 32, 32, 32)
    decoder: tuple[int, ...] = (32, 32, 32, 32, 16, 16)

    def build(self, shape: Sequence[int | None], needed: Interface) -> keras.Model:
        return voxelmorph_unet(shape, needed.outputs, **vars(self), channels=needed.channels)

    def tiny(self) -> "VoxelMorphSegmentation":
        return dataclasses.replace(self, encoder=(8, 8, 8), decoder=(8, 8, 8, 8))


@as_written
def voxelmorph_unet(
    shape: Sequence[int | None],
    n_classes: int,
    encoder: Sequence[int] = (16, 32, 32, 32),
    decoder: Sequence[int] = (32, 32, 32, 32, 16, 16),
    channels: int = 1,
) -> keras.Model:
    """Build the network, a Keras model ``image (B, *S, K) -> class probabilities (B, *S, C)`` float32.

    It is voxelmorph's U-Net, with one convolution in each level and no normalisation. Any image size works.

    Args:
        shape: spatial size ``*S``; ``None`` for an axis of any length.
        n_classes: number of classes, background included.
        encoder, decoder: channels of the levels, as those of
            :func:`~deepatlas_tf.models.registration.voxelmorph.registration_net`.
        channels: channels ``K`` of the image.
    """
    image = keras.Input((*shape, channels), name="image")
    padded = PadToMultiple(2 ** len(encoder), name="pad")(image)
    features = unet_features(padded, encoder, decoder)
    return keras.Model(image, class_probabilities(features, image, n_classes), name="segmentation")
