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
    """The networks of an experiment, one of each kind, and the precision in which they compute.

    registration, segmentation, generator, discriminator: the settings of a network; or its name, such as ``"cascade"``,
        which stands for its default settings; or the path of a ``.keras`` file, with whose network and weights every
        stage then begins. The last two kinds are for the translation between two domains.
    precision: one of ``PRECISIONS``, for what the networks compute; weights, fields, warps and losses are float32.

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
        """A copy with another network of one kind, which is given by its name or file.

        Settings that were changed from their defaults are kept where the new network has them too; in place of a
        narrow network (:meth:`tiny`) comes a narrow one.

        Raises:
            SettingError: if there is no such network, or a setting that is True now is unknown to it.
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
        """A copy with narrow networks, to see quickly that everything works."""
        return self._replaced({kind: getattr(self, kind).tiny() for kind in KINDS})

    def _replaced(self, networks: dict[str, Any]) -> "Networks":
        return dataclasses.replace(self, **networks)

    def check(self) -> None:
        """Raise SettingError where a network is given as a file that is not there."""
        for kind in KINDS:
            getattr(self, kind).check(kind)


def named_network(kind: str, name: str) -> Network:
    """The default settings of the network with this name, or those for a ``.keras`` file of this path.

    Raises SettingError where there is no such network.
    """
    if isinstance(name, str) and name.endswith(".keras"):
        return NetworkFile(name)
    return network_class(kind, name)()


def networks_dict(networks: Networks) -> dict[str, Any]:
    """The networks as a dictionary for JSON: ``{kind: {"name": name, setting: value, ...}, ..., "precision": p}``."""
    named = {kind: (network_name(kind, getattr(networks, kind)), getattr(networks, kind)) for kind in KINDS}
    return {
        **{kind: {"name": name, **_settings(network)} for kind, (name, network) in named.items()},
        "precision": networks.precision,
    }


def networks_from(settings: Mapping[str, Any]) -> Networks:
    """The networks that :func:`networks_dict` gave as a dictionary, also after JSON has made lists of tuples.

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
    """The settings of a network that differ from their defaults; a network from a file has none."""
    if isinstance(network, NetworkFile):
        return {}
    default = _settings(type(network)())
    return {name: value for name, value in _settings(network).items() if value != default[name]}
