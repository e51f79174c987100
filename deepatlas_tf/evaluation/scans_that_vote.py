"""Which training scans of a run vote in its segmentations."""

import numpy as np

from deepatlas_tf.datasets.load import DataSet
from deepatlas_tf.runs.atlases import Atlas
from deepatlas_tf.runs.folder import RunFolder
from deepatlas_tf.streams.subjects import read_samples
from deepatlas_tf.types import DataError, SettingError


def chosen_atlases(folder: RunFolder, dataset: DataSet, n: int) -> list[Atlas]:
    """The first ``n`` training subjects whose label map the run used.

    Raises:
        SettingError: ``n`` is below 0 or more than there are, or the scans are of several domains.
        DataError: the run does not say whose label maps it used, or one is no training subject any more.
    """
    if not _are_wanted("--atlases", n, dataset):
        return []
    used = _used_labels(folder)
    if n > len(used):
        raise SettingError(f"--atlases {n}: {folder.path} was trained with {len(used)} label maps only")
    found = read_samples(dataset.samples("train"), used[:n])
    missing = [subject for subject in used[:n] if subject not in found]
    if missing:
        raise DataError(f"--atlases: {missing[0]} is no training subject any more: give the splits of training")
    return [Atlas.of_sample(found[subject]) for subject in used[:n]]


def chosen_templates(folder: RunFolder, dataset: DataSet, n: int) -> list[np.ndarray]:
    """The images ``(*S, K)`` of the first ``n`` training subjects whose label map the run did not use.

    Raises:
        SettingError: ``n`` is below 0 or more than there are, or the scans are of several domains.
        DataError: the run does not say whose label maps it used.
    """
    if not _are_wanted("--templates", n, dataset):
        return []
    used = _used_labels(folder)
    others = [subject for subject in dataset.subjects["train"] if subject not in used]
    if n > len(others):
        raise SettingError(
            f"--templates {n}: {folder.path} was trained with {len(others)} scans without a label map only"
        )
    found = read_samples(dataset.samples("train"), others[:n])
    return [found[subject]["image"] for subject in others[:n]]


def _are_wanted(option: str, n: int, dataset: DataSet) -> bool:
    if n < 0:
        raise SettingError(f"{option} takes a number of scans, not {n}")
    if n and len(set(dataset.domains.values())) > 1:
        raise SettingError(f"{option} takes scans of one domain, and {dataset.name} has several")
    return n > 0


def _used_labels(folder: RunFolder) -> list[str]:
    recorded = folder.data()
    if recorded is None:
        raise DataError(f"{folder.path} has no data.json: run its training command again, which adds it")
    return recorded["used_labels"]
