"""Changing the settings of an experiment by their paths, as ``--set a.b=v`` does, and writing them out."""

import ast
import dataclasses
import difflib
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from deepatlas_tf.models.network import KINDS
from deepatlas_tf.models.networks import Networks, networks_dict
from deepatlas_tf.models.old_settings import RENAMED
from deepatlas_tf.training.experiment import Experiment, Stage
from deepatlas_tf.types import SettingError

LONGEST = 120  # characters of an example in a message


def set_value(experiment: Experiment, assignment: str) -> Experiment:
    """A copy with one setting changed.

    Args:
        experiment: the settings.
        assignment: ``path=value``, such as ``stages.deepatlas.weights.registration.anatomy=0.5`` or
            ``data.spacing=(2,2,2)``; the value is a Python literal, or a plain string. Stages are addressed by name,
            all of them by ``*``.

    Raises:
        SettingError: if there is no such setting (the near ones are named), or the value has another type.
    """
    path, equals, text = assignment.partition("=")
    if not equals:
        raise SettingError(f"--set takes path=value, not {assignment!r}")
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    keys = path.strip().replace("-", "_").split(".")
    if keys[0] == "networks" and keys[1:] and keys[1] in RENAMED:
        return _set_as_before(experiment, keys[1], value, assignment)
    return _replace(experiment, keys, value, assignment)


def settings_dict(experiment: Experiment) -> dict[str, Any]:
    """The settings as dictionaries and lists, as ``experiment.json`` has them."""
    return {**dataclasses.asdict(experiment), "networks": networks_dict(experiment.networks)}


def _set_as_before(experiment: Experiment, name: str, value: Any, assignment: str) -> Experiment:
    """A copy with a setting changed that is given by its name of earlier versions, in each network that has it."""
    paths = [path.split(".") for path in RENAMED[name]]
    found = [path for path in paths if path[1] in _children(getattr(experiment.networks, path[0]))]
    if not found:
        now = " and ".join(f"networks.{path}" for path in RENAMED[name])
        chosen = networks_dict(experiment.networks)
        without = " and ".join(f"{path[0]} {chosen[path[0]]['name']}" for path in paths)
        raise SettingError(f"--set {assignment}: it is {now} now, which the network of {without} does not have")
    for path in found:
        experiment = _replace(experiment, ["networks", *path], value, assignment)
    return experiment


def _replace(node: Any, keys: Sequence[str], value: Any, assignment: str) -> Any:
    """A copy of the node (dataclass, mapping or stages) in which the setting that ``keys`` lead to has the value."""
    if not keys:
        return _converted(node, value, assignment)
    children = _children(node)
    if keys[0] == "*" and isinstance(node, tuple) and children:
        return tuple(_replace(each, keys[1:], value, assignment) for each in node)
    if keys[0] not in children:
        near = difflib.get_close_matches(keys[0], children, n=3, cutoff=0.4) or list(children)
        raise SettingError(f"--set {assignment}: there is no {keys[0]!r} here; near: {', '.join(near) or 'nothing'}")
    if isinstance(node, Networks) and keys[0] in KINDS and not keys[1:]:
        return node.with_network(keys[0], str(value))
    child = _replace(children[keys[0]], keys[1:], value, assignment)
    if isinstance(node, tuple):
        return tuple(child if stage.name == keys[0] else stage for stage in node)
    if isinstance(node, Mapping):
        return {**node, keys[0]: child}
    if isinstance(node, Stage) and keys[0] == "similarity" and child != node.similarity:
        return dataclasses.replace(node, similarity=child, similarity_settings={})  # they were those of the other one
    return dataclasses.replace(node, **{keys[0]: child})


def _children(node: Any) -> dict[str, Any]:
    if dataclasses.is_dataclass(node):
        return {field.name: getattr(node, field.name) for field in dataclasses.fields(node)}
    if isinstance(node, Mapping):
        return dict(node)
    stages = node if isinstance(node, tuple) else ()
    return {stage.name: stage for stage in stages if isinstance(stage, Stage)}


def _converted(old: Any, value: Any, assignment: str) -> Any:
    """The value in the type of the setting that it replaces: for a float 1 becomes 1.0, for a tuple a list a tuple."""
    if old is None or value is None:
        return tuple(value) if isinstance(value, list) else value
    if _children(old) and not isinstance(old, Mapping):
        raise SettingError(f"--set {assignment}: {_choose_one(old, assignment.partition('=')[0])}")
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(old, tuple) and isinstance(value, list):
        return tuple(value)
    if type(old) is not type(value):
        example = textwrap.shorten(repr(old), LONGEST)
        raise SettingError(f"--set {assignment}: a {type(old).__name__} is needed, such as {example}")
    return value


def _choose_one(node: Any, path: str) -> str:
    """What to give instead of a value for a group of settings."""
    names = ", ".join(_children(node))
    if isinstance(node, tuple):
        return f"give {path}.NAME.SETTING=VALUE, with a NAME of {names}, or * for all"
    return f"give {path}.SETTING=VALUE, with a SETTING of {names}"
