"""What a network is here: a frozen dataclass of settings, which builds a Keras model for a grid."""

import dataclasses
from collections.abc import Sequence

from deepatlas_tf.keras_stack import keras

KINDS = ("registration", "segmentation", "generator", "discriminator")
"""Kinds of networks: the folders of ``models/``, and the names of their settings in an experiment."""

ROLES = (*KINDS, "label_registration")
"""What a method can need a network for. A registration of one-hot label maps is a registration network too."""


@dataclasses.dataclass(frozen=True)
class Interface:
    """What a network has to take and to give.

    role: what it is for, one of ``ROLES``. images: how many images it takes. channels: how many channels each of them
    has. outputs: how many channels its result has.
    """

    role: str
    images: int
    channels: int
    outputs: int

    @property
    def kind(self) -> str:
        """The kind of network that can have this role, one of ``KINDS``."""
        return "registration" if self.role == "label_registration" else self.role


def interface(role: str, n_axes: int, n_classes: int, n_channels: int = 1) -> Interface:
    """What a network for one of ``ROLES`` has to take and to give.

    ``n_axes`` is 2 or 3; ``n_classes`` counts the background; ``n_channels`` is that of the images. Generators and
    discriminators are for images of one channel.
    """
    return {
        "registration": Interface(role, images=2, channels=n_channels, outputs=n_axes),
        "label_registration": Interface(role, images=2, channels=n_classes, outputs=n_axes),
        "segmentation": Interface(role, images=1, channels=n_channels, outputs=n_classes),
        "generator": Interface(role, images=1, channels=1, outputs=1),
        "discriminator": Interface(role, images=1, channels=1, outputs=1),
    }[role]


@dataclasses.dataclass(frozen=True)
class Network:
    """Base class of the networks. A subclass is a frozen dataclass whose fields are the settings of the network."""

    def build(self, shape: Sequence[int | None], needed: Interface) -> keras.Model:
        """Build a new Keras model with these settings.

        Args:
            shape: spatial size ``*S`` of the images; ``None`` for an axis of any length.
            needed: what the model has to take and to give.
        """
        raise NotImplementedError

    def tiny(self) -> "Network":
        """The same network with few channels, to see quickly that everything works."""
        return self

    def check(self, kind: str) -> None:
        """Raise SettingError where it is known already that it cannot be built, such as from a file that is missing."""
