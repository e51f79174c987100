"""An experiment from a file: the ``experiment.json`` that a run wrote, or the same settings as YAML."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from deepatlas_tf.models.networks import Networks, networks_from
from deepatlas_tf.runs.checks import checked_settings
from deepatlas_tf.runs.files import remedy
from deepatlas_tf.streams.augment import Augmentation
from deepatlas_tf.streams.patches import Patches
from deepatlas_tf.training.experiment import Data, Evaluation, Experiment, Stage
from deepatlas_tf.types import DataError, SettingError

Settings = TypeVar("Settings", Data, Stage, Evaluation, Augmentation, Patches)


def read_experiment(path: Path) -> Experiment:
    """The experiment of a file, such as ``WORKDIR/experiment.json``; settings that it leaves out have their defaults.

    Args:
        path: a file ``.json``, or ``.yaml`` and ``.yml`` where PyYAML is installed. It holds ``data`` and ``stages``,
            and may hold ``name``, ``networks``, ``evaluation`` and ``seed``; or all of these under ``experiment``.

    Raises:
        DataError: if the file cannot be read, or a value is not what its setting takes.
        SettingError: if it has a setting that does not exist, or PyYAML is needed and not installed.
    """
    found = _read(path)
    record = found if isinstance(found, dict) and "experiment" in found else {"experiment": found}
    try:
        settings = checked_settings(record, path)
    except DataError as error:  # what helps for a run's own file does not help here
        raise DataError(f"--config: {str(error).removesuffix(f'; {remedy(path)}')}") from None
    _check_names(settings, Experiment, path, "")
    data = _made(Data, settings["data"], path, "data")
    return Experiment(
        name=str(settings.get("name", data.dataset.partition("/")[0])),
        data=data,
        stages=tuple(_stage(stage, path) for stage in settings["stages"]),
        networks=networks_from(settings["networks"]) if "networks" in settings else Networks(),
        evaluation=_made(Evaluation, settings.get("evaluation", {}), path, "evaluation"),
        seed=settings.get("seed", 0),
    )


def _read(path: Path) -> Any:
    """The content of the file as plain types."""
    if path.suffix.lower() not in (".json", ".yaml", ".yml"):
        raise SettingError(f"--config {path}: the name of the file ends in .json or .yaml")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise DataError(f"--config: cannot read {path} ({reason}); give the experiment.json of a run") from error
    try:
        return json.loads(text) if path.suffix.lower() == ".json" else _yaml(text)
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise DataError(f"--config: cannot read {path} ({reason}); give the experiment.json of a run") from error


def _yaml(text: str) -> Any:
    try:
        import yaml
    except ImportError:
        raise SettingError("--config: YAML needs PyYAML: pip install pyyaml, or write the settings as JSON") from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _stage(settings: Mapping[str, Any], path: Path) -> Stage:
    where = f"stage {settings['name']}"
    augmentation = settings.get("augmentation")
    if augmentation is not None:
        augmentation = _made(Augmentation, augmentation, path, f"{where}: augmentation")
    patches = settings.get("patches")
    if patches is not None:
        patches = _made(Patches, patches, path, f"{where}: patches")
    return _made(Stage, {**settings, "augmentation": augmentation, "patches": patches}, path, where)


def _made(cls: type[Settings], settings: Any, path: Path, where: str) -> Settings:
    """The dataclass with these settings, lists as tuples."""
    _check_names(settings, cls, path, f"{where}: ")
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()
    }
    try:
        return cls(**values)
    except SettingError:
        raise
    except (TypeError, ValueError, AttributeError) as error:
        raise DataError(f"--config {path}: {where}: {error}") from error


def _check_names(settings: Any, cls: type, path: Path, where: str) -> None:
    if not isinstance(settings, dict):
        raise DataError(f"--config {path}: {where}settings by name are needed")
    known = [field.name for field in dataclasses.fields(cls)]
    unknown = [str(name) for name in settings if name not in known]
    if unknown:
        raise SettingError(f"--config {path}: {where}there is no setting {unknown[0]}; there are {', '.join(known)}")
