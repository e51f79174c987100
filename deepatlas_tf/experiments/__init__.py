"""The experiments, one file a data set: ``get_experiment(tiny=False)``, found by the name of the data set."""

import difflib
import importlib
import pkgutil

from deepatlas_tf.types import SettingError


def experiment_names() -> tuple[str, ...]:
    """Names of the data sets that have an experiment: the files of this folder."""
    return tuple(module.name for module in pkgutil.iter_modules(__path__))


def get_experiment(dataset: str, tiny: bool = False):
    """The experiment of a data set.

    Raises:
        SettingError: if there is none; the near names are given.
    """
    names = experiment_names()
    if dataset not in names:
        near = difflib.get_close_matches(dataset, names) or names
        raise SettingError(f"there is no data set {dataset!r}; there are: {', '.join(near)}")
    return importlib.import_module(f"{__name__}.{dataset}").get_experiment(tiny=tiny)
