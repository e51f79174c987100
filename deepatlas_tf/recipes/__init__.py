"""Methods for any data set: ``recipe(experiment, tiny=False) -> Experiment``, one file a method, found by its name.

A recipe takes the experiment of a data set and returns it with other stages, made from that experiment's baselines. It
is what ``--method`` uses where the experiment itself has no stage of the method.
"""

import importlib
import pkgutil
from collections.abc import Callable


def recipe_names() -> tuple[str, ...]:
    """Names of the methods that have a recipe: the files of this folder."""
    return tuple(module.name for module in pkgutil.iter_modules(__path__))


def get_recipe(method: str) -> Callable:
    """The function ``recipe`` of a method, one of ``recipe_names()``."""
    return importlib.import_module(f"{__name__}.{method}").recipe
