"""Which data a run was trained on: written with its first stage, and compared before anything more is done with it.

``data.json`` holds the classes, the grid, the subjects of each split with a checksum of what the networks see of each,
and whose label maps are used. It does not depend on where the scans or the prepared data lie.
"""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from deepatlas_tf.datasets.load import DataSet
from deepatlas_tf.scans.channels import ONE
from deepatlas_tf.types import DataError

SPLITS = ("train", "validation", "test")
GRID = {"class_names": "classes", "channel_names": "channels", "shape": "grid", "spacing": "voxel size"}
SHOWN = 3  # subjects that a message names


def grid_of_networks(dataset: DataSet) -> dict[str, Any]:
    """What is needed to apply the networks to other scans: their classes, and the grid that they are trained on."""
    return {
        "dataset": dataset.name,
        "synthetic": dataset.synthetic,
        "class_names": list(dataset.class_names),
        "class_numbers": None if dataset.class_numbers is None else list(dataset.class_numbers),
        "channel_names": list(dataset.channel_names),
        "shape": list(dataset.shape),
        "spacing": list(dataset.spacing),
        "left_mirrored": "mirrored" in dataset.builder.info.features.keys(),
        "alignment": dataset.alignment,
        **_ignored(dataset),
        **({} if dataset.merged_numbers is None else {"merged_numbers": list(map(list, dataset.merged_numbers))}),
    }


def data_record(dataset: DataSet, used_labels: Sequence[str]) -> dict[str, Any]:
    """The content of ``data.json``, plain JSON types.

    Args:
        dataset: whose samples are all read once.
        used_labels: training subjects whose label map is used.
    """
    splits, present = {}, np.zeros(len(dataset.class_names), bool)
    for split in SPLITS:
        splits[split] = {}
        for sample in dataset.samples(split).as_numpy_iterator():
            subject = sample["subject"].decode()
            splits[split][subject] = f"{_checksum(sample):08x}"
            if split == "train" and subject in used_labels:
                present[np.unique(sample["label"][sample["label"] < len(present)])] = True
    names = dataset.class_names
    return {
        "class_names": list(names),
        **_ignored(dataset),
        "channel_names": list(dataset.channel_names),
        "shape": list(dataset.shape),
        "spacing": list(dataset.spacing),
        "subjects": splits,
        "labelled": {split: list(dataset.labelled[split]) for split in SPLITS},
        "used_labels": list(used_labels),
        "classes_without_label": [name for name, found in zip(names[1:], present[1:], strict=True) if not found],
    }


def _ignored(dataset: DataSet) -> dict[str, int]:
    """The number of the ignored voxels; nothing where there is none, as in the records of earlier versions."""
    return {} if dataset.ignore_number is None else {"ignore_number": dataset.ignore_number}


def _checksum(sample: Mapping[str, np.ndarray]) -> int:
    """CRC-32 of what the networks see of a subject."""
    value = 0
    for name in ("image", "label", "label_weight"):
        value = zlib.crc32(np.ascontiguousarray(sample[name]).data, value)
    return value


def check_same_data(recorded: Mapping[str, Any], found: Mapping[str, Any], where: str) -> None:
    """Nothing, or a DataError that says in one line what is different.

    Args:
        recorded: of the run.
        found: of the data that are given now.
        where: the folder of the run, for the message.
    """
    different = _different_grid(recorded, found) or _different_ignore(recorded, found)
    different = different or _different_subjects(recorded, found)
    if different:
        raise DataError(f"{where} is a run on other data ({different}): choose another --workdir, or delete {where}")


def check_same_grid(about: Mapping[str, Any], dataset: DataSet, where: str) -> None:
    """Nothing, or a DataError that says in one line which of classes and grid of a run are not those of the data.

    Args:
        about: ``model.json`` of the run.
        dataset: that is given now.
        where: the folder of the run, for the message.
    """
    different = _different_grid(about, {name: list(getattr(dataset, name)) for name in GRID})
    if different:
        raise DataError(f"{where} is a run on other data ({different}): choose another --workdir, or delete {where}")


def check_not_trained_on(recorded: Mapping[str, Any], subjects: Sequence[str], split: str, where: str) -> None:
    """Raise DataError where subjects that are to be measured were used in training, as after a change of the splits."""
    seen = [subject for subject in subjects if split != "train" and subject in recorded["subjects"]["train"]]
    if seen:
        raise DataError(f"{where} was trained on {_some(seen)}, now in the {split} split: give the splits of training")


def _different_grid(recorded: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    recorded = {"channel_names": list(ONE), **recorded}  # of runs of before there could be several
    for name, spoken in GRID.items():
        if recorded[name] != found[name]:
            return f"its {spoken}: {_list(recorded[name])}; now: {_list(found[name])}"
    return ""


def _different_ignore(recorded: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    before, now = (record.get("ignore_number", "none") for record in (recorded, found))
    return f"its label to be ignored: {before}; now: {now}" if before != now else ""


def _different_subjects(recorded: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    for split in SPLITS:
        before, now = recorded["subjects"][split], found["subjects"][split]
        if missing := [subject for subject in before if subject not in now]:
            return f"{_some(missing)} no longer in the {split} split"
        if new := [subject for subject in now if subject not in before]:
            return f"{_some(new)} new in the {split} split"
        if changed := [subject for subject in before if before[subject] != now[subject]]:
            return f"scan or label map changed of {_some(changed)} in the {split} split"
    if recorded["used_labels"] != found["used_labels"]:
        return f"label maps used: {_some(recorded['used_labels'])}; now: {_some(found['used_labels'])}"
    if any(list(recorded["subjects"][split]) != list(found["subjects"][split]) for split in SPLITS):
        return "its subjects in another order"
    return ""


def _list(values: Iterable) -> str:
    return ", ".join(map(str, values))


def _some(subjects: Sequence[str]) -> str:
    rest = len(subjects) - SHOWN
    return ", ".join(subjects[:SHOWN]) + (f" and {rest} more" if rest > 0 else "") if subjects else "none"
