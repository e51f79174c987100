"""What a network is: frozen settings, from which a Keras model is built for a grid."""

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

    role: one of ``ROLES``. images: how many it takes. channels: of each of them. outputs: channels of what it gives.
    """

    role: str
    images: int
    channels: int
    outputs: int

    @property
    def kind(self) -> str:
        """The one of ``KINDS`` that the network is chosen from."""
        return "registration" if self.role == "label_registration" else self.role


def interface(role: str, n_axes: int, n_classes: int) -> Interface:
    """The interface of one of ``ROLES`` on a grid of so many axes, for so many classes, background included."""
    return {
        "registration": Interface(role, images=2, channels=1, outputs=n_axes),
        "label_registration": Interface(role, images=2, channels=n_classes, outputs=n_axes),
        "segmentation": Interface(role, images=1, channels=1, outputs=n_classes),
        "generator": Interface(role, images=1, channels=1, outputs=1),
        "discriminator": Interface(role, images=1, channels=1, outputs=1),
    }[role]


@dataclasses.dataclass(frozen=True)
class Network:
    """Base of the networks. A subclass is a frozen dataclass: its fields are the settings of the network."""

    def build(self, shape: Sequence[int | None], needed: Interface) -> keras.Model:
        """A new Keras model.

        Args:
            shape: spatial size ``*S``; ``None`` for an axis of any length.
            needed: what it has to take and to give.
        """
        raise NotImplementedError

    def tiny(self) -> "Network":
        """Settings of a network of this kind with few channels, to see quickly that everything works."""
        return self

    def check(self, kind: str) -> None:
        """Raise SettingError where it cannot be built for sure, such as for a file that is not there."""
