"""What is read back from the folder of a run is checked here once, so that nobody else has to."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deepatlas_tf.methods import method_names
from deepatlas_tf.models.network import KINDS
from deepatlas_tf.models.old_settings import translated_networks
from deepatlas_tf.runs.files import remedy
from deepatlas_tf.types import DataError

SPLITS = ("train", "validation", "test")
COLUMNS = {
    "segmentation": ("method", "subject", "class", "dice"),
    "segmentation_own_grid": ("method", "subject", "class", "dice"),
    "registration": ("method", "moving", "fixed", "class", "dice", "folds_percent"),
    "quality": ("subject", "split", "class", "confidence", "entropy", "dice"),
}
Check = Callable[[Any], bool]


def is_text(value: Any) -> bool:
    """Whether a value is a text that is not empty."""
    return isinstance(value, str) and bool(value)


def is_number(value: Any) -> bool:
    """Whether a value is a number of ordinary size, or one that is not finite; true and false are none."""
    return isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63)


def is_count(value: Any) -> bool:
    """Whether a value is a whole number that is not negative."""
    return isinstance(value, int) and is_number(value) and value >= 0


def is_mapping_of(check: Check) -> Check:
    """A check for mappings from texts to values that pass ``check``."""
    return lambda value: isinstance(value, dict) and all(check(item) for item in value.values())


def is_list_of(check: Check) -> Check:
    """A check for lists of values that pass ``check``."""
    return lambda value: isinstance(value, list) and all(check(item) for item in value)


def is_folder_name(value: Any) -> bool:
    """Whether a value is the name of a folder within another one, and leads nowhere else."""
    return is_text(value) and value not in (".", "..") and not set(value) & set("/\\\0")


def is_axis_size(value: Any) -> bool:
    """Whether a value can be a number of voxels."""
    return is_count(value) and value > 0


def is_voxel_size(value: Any) -> bool:
    """Whether a value can be a voxel size in mm."""
    return is_number(value) and 0 < value < math.inf


def _is_mean(value: Any) -> bool:
    return value is None or is_number(value)


def _is_names(value: Any) -> bool:
    return is_list_of(is_text)(value) and len(value) == len(set(value)) > 0


def _is_numbers(value: Any) -> bool:
    return is_list_of(is_count)(value) and value[:1] == [0] and len(value) == len(set(value))


def _is_domains(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(x is None or is_text(x) for x in value)


# What each setting has to be where it is there; the first ones have to be there. Earlier versions had fewer settings.
STAGE: dict[str, Check] = {
    "name": is_folder_name,
    "method": lambda value: is_text(value) and value in method_names(),
    "turns": is_mapping_of(is_count),
    "weights": is_mapping_of(is_mapping_of(is_number)),
    "steps": is_axis_size,
    "epochs": is_axis_size,
    "domains": _is_domains,
    "learning_rates": is_mapping_of(is_number),
    "start_from": is_mapping_of(is_folder_name),
    "pseudo_from": is_mapping_of(is_folder_name),
    "anatomy_from": lambda value: value is None or is_folder_name(value),
    "similarity": is_text,
    "similarity_settings": is_mapping_of(lambda value: True),
    "settings": is_mapping_of(lambda value: True),
    "patches": lambda value: value is None or is_mapping_of(lambda item: True)(value),
}
STAGE_NEEDS = ("name", "method", "turns", "weights", "steps", "epochs")
DATA: dict[str, Check] = {
    "dataset": is_text,
    "labels": lambda value: value is None or is_count(value),
    "shape": lambda value: value is None or is_list_of(is_axis_size)(value),
    "spacing": lambda value: value is None or is_list_of(is_voxel_size)(value),
    "n_subjects": lambda value: value is None or is_count(value),
    "domains": is_list_of(is_text),
    "full_resolution": lambda value: isinstance(value, bool),
    "memory_gib": is_number,
    "max_voxels": lambda value: value is None or is_axis_size(value),
}
MODEL: dict[str, Check] = {
    "class_names": _is_names,
    "class_numbers": lambda value: value is None or _is_numbers(value),
    "channel_names": _is_names,
    "shape": lambda value: is_list_of(is_axis_size)(value) and len(value) in (2, 3),
    "spacing": is_list_of(is_voxel_size),
    "dataset": is_text,
    "synthetic": lambda value: isinstance(value, bool),
    "left_mirrored": lambda value: isinstance(value, bool),
    "ignore_number": is_count,
    "merged_numbers": is_list_of(is_list_of(is_count)),
    "without_specks": is_list_of(is_count),
}
GRID = ("shape", "spacing", "without_specks")
MODEL_NEEDS = ("class_names", "shape", "spacing")
RECORD: dict[str, Check] = {
    "class_names": is_list_of(is_text),
    "shape": is_list_of(is_axis_size),
    "spacing": is_list_of(is_voxel_size),
    "subjects": lambda value: is_mapping_of(is_mapping_of(is_text))(value) and set(value) == set(SPLITS),
    "labelled": lambda value: is_mapping_of(is_list_of(is_text))(value) and set(value) == set(SPLITS),
    "used_labels": is_list_of(is_text),
    "channel_names": _is_names,
    "ignore_number": is_count,
}
RECORD_NEEDS = ("class_names", "shape", "spacing", "subjects", "used_labels")


def damaged(path: Path, what: str) -> DataError:
    """The error for a file that can be read but is not what it should be."""
    return DataError(f"cannot read {path} ({what}); {remedy(path)}")


def checked_settings(record: Any, path: Path) -> dict[str, Any]:
    """The settings in the content of ``experiment.json``; DataError where they cannot be those of an experiment."""
    settings = record.get("experiment") if isinstance(record, dict) else None
    if not isinstance(settings, dict) or not {"data", "stages"} <= set(settings):
        raise damaged(path, "it has no settings of an experiment")
    _check(settings["data"], DATA, ("dataset",), path, "data")
    if not isinstance(settings["stages"], list) or not settings["stages"]:
        raise damaged(path, "it has no stages")
    for position, stage in enumerate(settings["stages"]):
        _check(stage, STAGE, STAGE_NEEDS, path, f"stage {position + 1}")
    names = [stage["name"] for stage in settings["stages"]]
    if len(set(names)) < len(names):
        raise damaged(path, "two stages have one name")
    networks = _checked_networks(settings.get("networks"), path)
    evaluation = {"pairs_per_subject": is_axis_size, "validation_subjects": is_count}
    _check(settings.get("evaluation", {}), evaluation, (), path, "evaluation")
    _check(record.get("versions", {}), {}, (), path, "versions")
    return settings if networks is None else {**settings, "networks": networks}


def _checked_networks(networks: Any, path: Path) -> dict[str, Any] | None:
    """The settings of the networks as they are written now, also where an earlier version wrote them."""
    if networks is None:
        return None
    _check(networks, {}, (), path, "networks")
    try:
        found = translated_networks(networks)
    except (AttributeError, TypeError):
        raise damaged(path, "networks cannot be those of an experiment") from None
    for kind in KINDS:
        _check(found.get(kind), {"name": is_text}, ("name",), path, f"networks.{kind}")
    return found


def checked_model(about: Any, path: Path) -> dict[str, Any]:
    """The content of ``model.json`` or of an export's metadata; DataError where networks cannot be applied by it."""
    if not isinstance(about, dict) or not set(MODEL_NEEDS) <= set(about):
        raise damaged(path, f"it has no {', '.join(MODEL_NEEDS)}")
    _check(about, MODEL, MODEL_NEEDS, path, "")
    checked_grid(about, path)
    for name in ("class_numbers", "merged_numbers"):
        if about.get(name) is not None and len(about[name]) != len(about["class_names"]):
            raise damaged(path, f"there is not one of {name} for each of class_names")
    return about


def checked_grid(grid: Any, path: Path) -> dict[str, Any]:
    """The content of a stage's ``grid.json``; DataError where it is no shape in voxels with a spacing in mm."""
    _check(grid, {name: MODEL[name] for name in GRID}, ("shape", "spacing"), path, "")
    if len(grid["shape"]) != len(grid["spacing"]):
        raise damaged(path, "shape and spacing have different numbers of axes")
    return grid


def checked_record(record: Any, path: Path) -> dict[str, Any]:
    """The content of ``data.json``; DataError where it is not one."""
    _check(record, RECORD, RECORD_NEEDS, path, "")
    return record


def checked_start(start: Any, path: Path) -> dict[str, float]:
    """The content of ``start.json``; DataError where it does not hold numbers by name."""
    if not is_mapping_of(is_number)(start):
        raise damaged(path, "it does not hold numbers by name")
    return start


def checked_metrics(rows: list[Any], path: Path) -> list[dict[str, Any]]:
    """The rows of ``metrics.jsonl``; DataError where one is not of an epoch."""
    for row in rows:
        if not isinstance(row, dict) or not all(map(is_number, row.values())) or not {"epoch", "step"} <= set(row):
            raise damaged(path, "a line is not of an epoch: it needs epoch and step, and all values are numbers")
    return rows


def checked_table(rows: list[dict[str, Any]], kind: str, path: Path) -> list[dict[str, Any]]:
    """The rows of a table of the evaluation or of pseudo masks; ``kind`` is a key of ``COLUMNS``."""
    missing = [name for name in COLUMNS[kind] if rows and name not in rows[0]]
    if missing:
        raise damaged(path, f"it has no column {missing[0]}")
    return rows


def checked_summary(summary: Any, path: Path) -> dict[str, Any]:
    """The content of ``summary.json``; DataError where it does not hold means by method, task and measure."""
    is_mean = is_mapping_of(lambda value: _is_mean(value) or is_mapping_of(_is_mean)(value))
    if not is_mapping_of(is_mapping_of(is_mapping_of(lambda value: is_mean(value) and "mean" in value)))(summary):
        raise damaged(path, "it does not hold the means of each method, task and measure")
    return summary


def check_network(net: Any, kind: str, path: Path, n_classes: int | None = None) -> None:
    """DataError where the network of a file is not one of its kind, as where files were exchanged.

    Args:
        net: a Keras model.
        kind: ``"segmentation"`` or ``"registration"``.
        path: of the file.
        n_classes: that ``model.json`` names, background included; None where there is none.
    """
    n_images = 1 if kind == "segmentation" else 2
    n_axes = len(net.inputs[0].shape) - 2
    channels = net.outputs[0].shape[-1]
    if len(net.inputs) != n_images or (kind == "registration" and channels != n_axes):
        raise DataError(f"{path} holds no {kind} network: its file was exchanged; {remedy(path)}")
    if kind == "segmentation" and n_classes is not None and channels != n_classes:
        raise DataError(f"{path} knows {channels} classes, but model.json names {n_classes}: one is of another run")


def _check(values: Any, checks: Mapping[str, Check], needed: Sequence[str], path: Path, where: str) -> None:
    inside = f" of {where}" if where else ""
    if not isinstance(values, dict):
        raise damaged(path, f"{where or 'its content'} is not a mapping")
    missing = [name for name in needed if name not in values]
    if missing:
        raise damaged(path, f"there is no {missing[0]}{inside}")
    wrong = [name for name, check in checks.items() if name in values and not check(values[name])]
    if wrong:
        raise damaged(path, f"{wrong[0]}{inside} cannot be {str(values[wrong[0]])[:60]!r}")
