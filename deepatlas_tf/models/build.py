"""Finding networks by name, building them from their settings, and loading them from files.

A network is one file in the folder of its kind, such as ``models/registration/cascade.py``, and its name is the file's.
Its settings are the subclass of :class:`~deepatlas_tf.models.network.Network` that the file defines. Other packages add
networks by entry points, see :mod:`deepatlas_tf.plugins`.
"""

import contextlib
import dataclasses
import importlib
import pkgutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepatlas_tf.keras_stack import as_written, keras, quiet_xla
from deepatlas_tf.messages import detail
from deepatlas_tf.models.keras_files import check_keras_file
from deepatlas_tf.models.network import KINDS, Interface, Network, interface
from deepatlas_tf.plugins import plugin, plugin_names
from deepatlas_tf.types import DataError, SettingError

if TYPE_CHECKING:
    from deepatlas_tf.models.networks import Networks


def network_names(kind: str) -> tuple[str, ...]:
    """Names of the networks of a kind: the files of its folder, then the plug-ins."""
    return (*_own_names(kind), *plugin_names(f"networks.{kind}"))


def network_class(kind: str, name: str) -> type[Network]:
    """The class of a network's settings, from which it is built.

    Raises:
        SettingError: if there is no network of this name.
    """
    if name in _own_names(kind):
        module = importlib.import_module(f"deepatlas_tf.models.{kind}.{name}")
        return next(
            value for value in vars(module).values() if _is_network(value) and value.__module__ == module.__name__
        )
    if name in plugin_names(f"networks.{kind}"):
        return plugin(f"networks.{kind}", name)
    known = ", ".join(repr(known) for known in network_names(kind))
    raise SettingError(f"networks.{kind} is {known} or a .keras file, not {name!r}")


def network_name(kind: str, network: Network) -> str:
    """The name of the network that has these settings.

    It is the name by which :func:`network_class` finds it, or that of its class where no file or plug-in has it.
    """
    cls = type(network)
    if isinstance(network, NetworkFile):
        return FILE
    return next((name for name in network_names(kind) if network_class(kind, name) is cls), cls.__name__)


@dataclasses.dataclass(frozen=True)
class NetworkFile(Network):
    """A network from a ``.keras`` file, with its weights.

    Every stage begins with it that does not start from the network of an earlier stage.
    """

    path: str

    def check(self, kind: str) -> None:
        if not Path(self.path).exists():
            raise SettingError(f"networks.{kind}: there is no file {self.path}")

    def build(self, shape: Sequence[int | None], needed: Interface) -> keras.Model:
        """Load the network of the file. A subclass of ``keras.Model`` is put into a functional one, to be exportable.

        Raises:
            SettingError: if it does not take or give what is needed.
        """
        self.check(needed.kind)
        net = load_net(Path(self.path), "save it again with Keras 2, its own classes registered as serializable")
        images, output = [(*shape, needed.channels)] * needed.images, (*shape, needed.outputs)
        try:
            if not getattr(net, "outputs", None):
                inputs = [keras.Input(size) for size in images]
                net = keras.Model(inputs, net(inputs if len(inputs) > 1 else inputs[0]), name=needed.kind)
            tensors = zip([*net.inputs, *net.outputs], [*images, output], strict=True)
            fits = all(tensor.shape[1:].is_compatible_with(size) for tensor, size in tensors)
        except (ValueError, TypeError):
            fits = False
        if not fits:
            given = " and ".join(map(str, images))
            raise SettingError(f"networks.{needed.kind}: {self.path} makes no {output} of {given}")
        return net


FILE = "file"  # the name of a network that comes from one


@as_written
def build_net(
    role: str, networks: "Networks", shape: Sequence[int | None], n_classes: int, n_channels: int = 1
) -> keras.Model:
    """Build a new network for images of ``shape``, or load that of a file where the settings name one.

    A new network computes in ``networks.precision``, which is saved with it; what it gives is float32.

    Args:
        role: what the network is for, one of :data:`~deepatlas_tf.models.network.ROLES`.
        networks: the networks of the experiment.
        shape: spatial size ``*S``; ``None`` for an axis of any length.
        n_classes: background included.
        n_channels: of the images.
    """
    needed = interface(role, len(shape), n_classes, n_channels)
    quiet_xla()
    with computing_in(networks.precision):
        return getattr(networks, needed.kind).build(shape, needed)


@as_written
def load_net(path: Path, remedy: str | None = None) -> keras.Model:
    """Load a network that a run has saved, as a Keras model without optimizer.

    Args:
        path: a ``.keras`` file.
        remedy: what the error says is to be done; None is what helps for the file of a stage.

    Raises:
        DataError: if the file is damaged, or names anything but known layers, see
            :mod:`deepatlas_tf.models.keras_files`.
    """
    detail(f"reading {path}")
    import_layers()
    quiet_xla()
    try:
        check_keras_file(path)
        net = keras.models.load_model(path, compile=False)
        if not isinstance(net, keras.Model):
            raise ValueError("it holds no network")
        return net
    except Exception as error:  # Keras, zipfile, h5py and json raise a dozen kinds for a damaged file
        reason = (" ".join(str(error).split()) or type(error).__name__)[:160]
        remedy = remedy or (
            f"delete {path.parent} and run the training command again, which writes it from the stage's checkpoints"
        )
        raise DataError(f"cannot load the network {path} ({reason}); {remedy}") from error


def import_layers() -> None:
    """Import the modules of all networks, so that Keras knows the layers which they and what they import register."""
    for kind in KINDS:
        for name in network_names(kind):
            network_class(kind, name)
    importlib.import_module("deepatlas_tf.models.label_maps")


def _own_names(kind: str) -> tuple[str, ...]:
    folder = importlib.import_module(f"deepatlas_tf.models.{kind}")
    return tuple(module.name for module in pkgutil.iter_modules(folder.__path__))


def _is_network(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, Network)


@contextlib.contextmanager
def computing_in(policy: str) -> Iterator[None]:
    """Within it new layers compute in a precision, the name of a policy of Keras."""
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(policy)
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)
