"""Plug-ins: what other installed packages add to this one, by entry points.

The groups are ``deepatlas_tf.methods``, ``deepatlas_tf.recipes``, ``deepatlas_tf.datasets`` and
``deepatlas_tf.networks.KIND`` with a kind of network. A package names in its ``pyproject.toml`` what it adds:

    [project.entry-points."deepatlas_tf.methods"]
    my_method = "my_package.my_method:MyMethod"

Only installed packages are looked at: a name in the file of a run cannot make Python import anything else.
"""

import importlib.metadata
from typing import Any

from deepatlas_tf.types import SettingError


def plugin_names(group: str) -> tuple[str, ...]:
    """Names of the entry points of ``deepatlas_tf.GROUP``, sorted."""
    return tuple(sorted(point.name for point in _entry_points(group)))


def plugin(group: str, name: str) -> Any:
    """What the entry point of this name stands for, imported now.

    Raises:
        KeyError: if no package has one of this name.
        SettingError: if it cannot be imported.
    """
    found = {point.name: point for point in _entry_points(group)}[name]
    try:
        return found.load()
    except (ImportError, AttributeError) as error:
        raise SettingError(
            f"the plug-in {name} ({found.value}) cannot be imported ({error}): mend its package"
        ) from error


def _entry_points(group):
    return importlib.metadata.entry_points(group=f"deepatlas_tf.{group}")
