"""The methods, one file each, found by the name of their file, and those that other packages add.

Another package adds a method by an entry point of the group ``deepatlas_tf.methods``, see :mod:`deepatlas_tf.plugins`.
"""

import importlib
import pkgutil
from typing import TYPE_CHECKING

from deepatlas_tf.plugins import plugin, plugin_names

if TYPE_CHECKING:
    from deepatlas_tf.methods.base import Method


def method_names() -> tuple[str, ...]:
    """Names of the methods: the files of this folder without ``base``, then the plug-ins."""
    return (*_own_names(), *plugin_names("methods"))


def method_class(name: str) -> type["Method"]:
    """The class of a method: the subclass of ``Method`` that its file defines.

    Raises:
        ValueError: if there is no such method.
    """
    if name not in _own_names():
        if name in plugin_names("methods"):
            return plugin("methods", name)
        raise ValueError(f"there is no method {name!r}; there are {', '.join(method_names())}")
    module = importlib.import_module(f"{__name__}.{name}")
    base = importlib.import_module(f"{__name__}.base").Method
    own = [
        v
        for v in vars(module).values()
        if isinstance(v, type) and issubclass(v, base) and v.__module__ == module.__name__
    ]
    return own[0]


def _own_names() -> tuple[str, ...]:
    return tuple(module.name for module in pkgutil.iter_modules(__path__) if module.name != "base")
