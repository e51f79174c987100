"""Which networks an experiment uses, with their settings."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from deepatlas_tf.models.build import FILE, NetworkFile, network_class, network_name
from deepatlas_tf.models.discriminator.patchgan import PatchGAN
from deepatlas_tf.models.generator.resnet import ResNet
from deepatlas_tf.models.network import KINDS, Network
from deepatlas_tf.models.registration.voxelmorph import VoxelMorphRegistration
from deepatlas_tf.models.segmentation.light import Light
from deepatlas_tf.types import SettingError

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")  # policies of Keras


@dataclasses.dataclass(frozen=True)
class Networks:
    """The network of each kind, given as its settings, as a name, or as the path of a ``.keras`` file.

    registration, segmentation, generator, discriminator: names are those of the files in the folder of the kind, such
    as ``"cascade"``, and stand for the network's default settings. With a file every stage begins with its network and
    weights. generator and discriminator are for the translation between two domains.
    precision: of what the networks compute, one of ``PRECISIONS``; weights, fields, warps and losses are float32.

    Raises:
        SettingError: if there is no such network or precision.
    """

    registration: Network | str = VoxelMorphRegistration()
    segmentation: Network | str = Light()
    generator: Network | str = ResNet()
    discriminator: Network | str = PatchGAN()
    precision: str = "float32"

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise SettingError(f"networks.precision is one of {', '.join(PRECISIONS)}, not {self.precision!r}")
        for kind in KINDS:
            if not isinstance(getattr(self, kind), Network):
                object.__setattr__(self, kind, named_network(kind, getattr(self, kind)))

    def with_network(self, kind: str, name: str) -> "Networks":
        """Another network of a kind, by its name or file.

        The settings that were changed and that both have are kept, and a narrow network (:meth:`tiny`) is followed by a
        narrow one.

        Raises:
            SettingError: if there is none of this name, or the new one lacks a switch that is on.
        """
        old, new = getattr(self, kind), named_network(kind, name)
        if type(old) is type(new) and not isinstance(new, NetworkFile):
            return self
        changed, known = _changed_settings(old), _settings(new)
        lost = [setting for setting, value in changed.items() if value is True and setting not in known]
        if lost:
            raise SettingError(f"networks.{kind}={name} has no setting {lost[0]!r}, which is on")
        if type(old).tiny is not Network.tiny and old == old.tiny():
            new = new.tiny()
        new = dataclasses.replace(new, **{setting: value for setting, value in changed.items() if setting in known})
        return self._replaced({kind: new})

    def tiny(self) -> "Networks":
        """All networks narrow, to see quickly that everything works."""
        return self._replaced({kind: getattr(self, kind).tiny() for kind in KINDS})

    def _replaced(self, networks: dict[str, Any]) -> "Networks":
        return dataclasses.replace(self, **networks)

    def check(self) -> None:
        """Raise SettingError where a network is given as a file that is not there."""
        for kind in KINDS:
            getattr(self, kind).check(kind)


def named_network(kind: str, name: str) -> Network:
    """The default settings of a network, or a file's. Raises SettingError where there is no such network."""
    if isinstance(name, str) and name.endswith(".keras"):
        return NetworkFile(name)
    return network_class(kind, name)()


def networks_dict(networks: Networks) -> dict[str, Any]:
    """Names and settings of the networks as plain types: ``{kind: {"name": name, setting: value}, "precision": p}``."""
    named = {kind: (network_name(kind, getattr(networks, kind)), getattr(networks, kind)) for kind in KINDS}
    return {
        **{kind: {"name": name, **_settings(network)} for kind, (name, network) in named.items()},
        "precision": networks.precision,
    }


def networks_from(settings: Mapping[str, Any]) -> Networks:
    """The inverse of :func:`networks_dict`; lists, as JSON has them, stand for tuples.

    Raises:
        SettingError: if a network or a setting does not exist.
    """
    chosen = {}
    for kind in KINDS:
        if kind in settings:
            name = settings[kind]["name"]
            values = {key: tuple(v) if isinstance(v, list) else v for key, v in settings[kind].items() if key != "name"}
            cls = NetworkFile if name == FILE else network_class(kind, name)
            try:
                chosen[kind] = cls(**values)
            except TypeError as error:
                raise SettingError(f"networks.{kind}: {error}") from None
    return Networks(**chosen, precision=settings.get("precision", "float32"))


def _settings(network: Network) -> dict[str, Any]:
    return {field.name: getattr(network, field.name) for field in dataclasses.fields(network)}


def _changed_settings(network: Network) -> dict[str, Any]:
    """Settings that differ from the network's defaults; none for a network from a file, which has no defaults."""
    if isinstance(network, NetworkFile):
        return {}
    default = _settings(type(network)())
    return {name: value for name, value in _settings(network).items() if value != default[name]}
