"""Stages for any data set: ``recipe(experiment, tiny=False) -> Experiment``, one file each, found by its name.

A recipe takes the experiment of a data set and returns it with other stages, made from that experiment's own. It is
what ``--method`` uses where the experiment itself has no stage of the method; ``semi_deepatlas`` and ``one_shot`` are
other ways to train the method ``deepatlas``.
"""

import importlib
import pkgutil
from collections.abc import Callable

from deepatlas_tf.datasets.load import builder_and_config
from deepatlas_tf.plugins import plugin, plugin_names
from deepatlas_tf.training.experiment import Data, Experiment, Stage
from deepatlas_tf.types import SettingError


def recipe_names() -> tuple[str, ...]:
    """Names of the recipes: the files of this folder, then the plug-ins."""
    return (*(module.name for module in pkgutil.iter_modules(__path__)), *plugin_names("recipes"))


def get_recipe(name: str) -> Callable:
    """The function ``recipe`` of one of ``recipe_names()``."""
    if name in plugin_names("recipes"):
        return plugin("recipes", name)
    return importlib.import_module(f"{__name__}.{name}").recipe


def stages_of(experiment: Experiment, method: str) -> list[Stage]:
    """The stages of a method in the experiment of a data set.

    Raises:
        SettingError: if it has none.
    """
    found = [stage for stage in experiment.stages if stage.method == method]
    if not found:
        raise SettingError(f"experiment {experiment.name} has no stage of {method} to begin from")
    return found


def n_axes(data: Data) -> int:
    """2 for slices, 3 for volumes.

    Scans of one's own are taken for volumes where neither ``data.shape`` nor ``data.spacing`` is chosen: the experiment
    is put together before they are looked at.
    """
    grid = data.shape or data.spacing
    if grid is None and data.dataset != "nifti":
        grid = builder_and_config(data.dataset, n_subjects=data.n_subjects)[1].shape
    return 3 if grid is None else len(grid)
