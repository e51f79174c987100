"""The files of channels as nnU-Net names them: NAME_0000 is the first channel of NAME, NAME_0001 the second."""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from deepatlas_tf.scans.class_names import class_name
from deepatlas_tf.types import DataError

NUMBERED = re.compile(r"(.+)_(\d{4})")  # of a name without its ending


def nifti_files(folder: Path) -> list[tuple[str, Path]]:
    """The (name without .nii[.gz], path) of the NIfTI files of a folder that may be absent, sorted."""
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    # macOS leaves files ._NAME beside the real ones
    found = [path for path in paths if re.search(r"\.nii(\.gz)?$", path.name) and not path.name.startswith(".")]
    return [(path.name.removesuffix(".gz").removesuffix(".nii"), path) for path in found]


def are_channels(stems: Sequence[str], others: Iterable[str] = ()) -> bool:
    """Whether the names end in numbers of channels, the first one among them, and none is one of the ``others``."""
    numbered = [NUMBERED.fullmatch(stem) for stem in stems]
    return all(numbered) and any(found[2] == "0000" for found in numbered if found) and not {*stems} & {*others}


def by_subject(files: Iterable[tuple[str, Path]]) -> dict[str, list[dict[int, Path]]]:
    """The files of each subject by the number of the channel; a second file of a channel begins another scan."""
    subjects: dict[str, list[dict[int, Path]]] = {}
    for stem, path in files:
        found = NUMBERED.fullmatch(stem)
        subject, channel = (found[1], int(found[2])) if found else (stem, 0)
        scans = subjects.setdefault(subject, [])
        free = next((scan for scan in scans if channel not in scan), None)
        if free is None:
            free = {}
            scans.append(free)
        free[channel] = path
    return subjects


def with_channel_of(path: Path, other: Path) -> Path:
    """The file beside ``path`` of the same subject and of the channel of ``other``."""
    start, end = path.name.partition(".")[::2]
    return path.with_name(f"{start[:-4]}{other.name.partition('.')[0][-4:]}.{end}")


def folder_channels(folder: Path, files: Sequence[tuple[str, Path]]) -> dict[int, str]:
    """Number -> name of the channels of a folder, by ``dataset.json`` or, where it is silent, by the files' numbers.

    Raises DataError for a file of a channel that ``dataset.json`` does not name.
    """
    numbers = sorted({channel for scans in by_subject(files).values() for scan in scans for channel in scan})
    named = _declared(folder / "dataset.json")
    if not named:
        return {number: f"{number:04}" for number in numbers}
    for stem, path in files:
        if int(stem[-4:]) not in named:
            known = ", ".join(f"{number:04} {name}" for number, name in named.items())
            raise DataError(f"{path}: is of a channel that {folder / 'dataset.json'} does not name; there are {known}")
    return named


def _declared(path: Path) -> dict[int, str]:
    """The entry ``channel_names`` (before: ``modality``), {"0": "T1"}; {} where there is none of this form."""
    if not path.is_file():
        return {}
    try:
        about = json.loads(path.read_text(encoding="utf-8-sig"))
        pairs = sorted((int(number), class_name(name)) for number, name in _entry(about).items())
    except (ValueError, AttributeError, RecursionError):
        return {}
    names = [name for _, name in pairs]
    return {n: name if names.count(name) == 1 else f"{name}_{n:04}" for n, name in pairs}  # "zscore" for each


def _entry(about: dict) -> dict:
    return about.get("channel_names") or about.get("modality") or {}
