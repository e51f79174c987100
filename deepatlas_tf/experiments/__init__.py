"""The experiments, one file a data set: ``get_experiment(tiny=False)``, found by the name of the data set."""

import dataclasses
import difflib
import importlib
import pkgutil

from deepatlas_tf.datasets.load import dataset_names
from deepatlas_tf.training.experiment import Experiment
from deepatlas_tf.types import SettingError


def experiment_names() -> tuple[str, ...]:
    """Names of the data sets that have an experiment: the files of this folder."""
    return tuple(module.name for module in pkgutil.iter_modules(__path__))


def get_experiment(dataset: str, tiny: bool = False) -> Experiment:
    """The experiment of a data set; ``name/variant`` takes the data set's experiment with the variant's data.

    A module that has ``variant_data(variant, tiny)`` says what these are. A data set without a file here, such as that
    of a plug-in, takes the stages of ``nifti``.

    Raises:
        SettingError: if there is none; the near names are given.
    """
    names = experiment_names()
    name, variant = dataset.split("/")[0], "/" in dataset
    if name not in names and name in dataset_names():
        experiment = get_experiment("nifti", tiny=tiny)
        data = dataclasses.replace(experiment.data, dataset=dataset, max_voxels=None)
        return dataclasses.replace(experiment, name=name, data=data)
    if name not in names:
        near = difflib.get_close_matches(name, names)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(names)}"
        raise SettingError(f"there is no data set {name!r}; {hint}")
    module = importlib.import_module(f"{__name__}.{name}")
    experiment = module.get_experiment(tiny=tiny)
    if not variant:
        return experiment
    if hasattr(module, "variant_data"):
        return dataclasses.replace(experiment, data=module.variant_data(dataset.partition("/")[2], tiny))
    own_grid = {} if tiny else {"shape": None, "spacing": None}
    return dataclasses.replace(experiment, data=dataclasses.replace(experiment.data, dataset=dataset, **own_grid))
