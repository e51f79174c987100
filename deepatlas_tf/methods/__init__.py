"""The methods, one file each, found by the name of their file."""

import importlib
import pkgutil


def method_names() -> tuple[str, ...]:
    """Names of the methods: the files of this folder, without ``base``."""
    return tuple(module.name for module in pkgutil.iter_modules(__path__) if module.name != "base")


def method_class(name: str):
    """The class of a method: the subclass of ``Method`` that its file defines.

    Raises:
        ValueError: if there is no such file.
    """
    if name not in method_names():
        raise ValueError(f"there is no method {name!r}; there are {', '.join(method_names())}")
    module = importlib.import_module(f"{__name__}.{name}")
    base = importlib.import_module(f"{__name__}.base").Method
    own = [
        v
        for v in vars(module).values()
        if isinstance(v, type) and issubclass(v, base) and v.__module__ == module.__name__
    ]
    return own[0]
