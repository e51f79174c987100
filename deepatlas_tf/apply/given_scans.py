"""The scans that a command is given, each of one file or, for a model of several channels, of one for each.

The files of a scan of several channels are called ``NAME_0000.nii.gz``, ``NAME_0001.nii.gz``, ..., as for nnU-Net, and
any of them names the scan; or they are given with commas between them, in the order of the channels; or in a CSV.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from deepatlas_tf.apply.files import ENDINGS, check_scan, stem
from deepatlas_tf.datasets.listing import Listing, missing_channel, read_listing
from deepatlas_tf.scans.channel_files import NUMBERED, nifti_files
from deepatlas_tf.types import DataError

WARPED = "warped.nii.gz"


class MissingChannel(DataError):
    """A scan of several channels lacks the file of one."""


class GivenScan(NamedTuple):
    """name: of the file of its result. paths: the file of each channel."""

    name: str
    paths: tuple[Path, ...]


def find_scans(paths: Sequence[Path], channels: Sequence[str]) -> list[GivenScan]:
    """The scans that ``paths`` name, in order: files, folders of them (not deeper), or CSVs as for training.

    Args:
        paths: on the command line.
        channels: what the model takes, by name.

    Raises:
        DataError: a path that is none of these, a folder without scans, a scan without one of the channels, or two
            scans of one file name.
    """
    scans, incomplete = complete_scans(paths, channels)
    for problem in incomplete.values():
        raise MissingChannel(problem)
    return scans


def complete_scans(paths: Sequence[Path], channels: Sequence[str]) -> tuple[list[GivenScan], dict[Path, str]]:
    """The scans that :func:`find_scans` gives, without those that lack the file of a channel.

    Returns:
        The scans, and the incomplete ones: one of the files of each, and what is missing.

    Raises:
        DataError: as :func:`find_scans`, and where no scan is complete.
    """
    known: dict[str, GivenScan] = {}
    incomplete: dict[Path, str] = {}
    for path in paths:
        for scan in _scans_of(path, channels, incomplete):
            before = known.get(scan.name)
            if before is None:
                known[scan.name] = scan
            elif before.paths != scan.paths or len(channels) == 1:
                raise DataError(
                    f"{before.paths[0]} and {scan.paths[0]} have one name: they would have one result; rename one"
                )
    if incomplete and not known:
        raise MissingChannel(next(iter(incomplete.values())))
    return list(known.values()), incomplete


def channel_files(path: Path, channels: Sequence[str]) -> tuple[Path, ...]:
    """The files of the scan that ``path`` names, one for each channel.

    Raises DataError where there are others than the model takes, or a file is missing or no NIfTI file.
    """
    parts = [path] if path.exists() else [Path(part).expanduser() for part in os.fspath(path).split(",")]
    if len(parts) == 1 and len(channels) > 1:
        return _numbered(path, channels)
    check_number(os.fspath(path), len(parts), channels)
    return tuple(check_scan(part) for part in parts)


def check_number(name: str, n: int, channels: Sequence[str]) -> None:
    """Raise DataError where a scan called ``name`` is not given as many images as the model takes channels."""
    if n == len(channels):
        return
    given = f"{n} image{'s' * (n > 1)}"
    if len(channels) == 1:
        raise DataError(f"{name}: {given} are given, and the model takes one")
    raise DataError(f"{name}: {given} given, and the model takes {_taken(channels)}: give one for each, in this order")


def warped_names(channels: Sequence[str]) -> list[str]:
    """The files of the warped scan: of one channel ``warped.nii.gz``, of several ``warped_CHANNEL.nii.gz`` for each.

    Where two channels would have one file, they have their numbers in the place of their names.
    """
    if len(channels) == 1:
        return [WARPED]
    words = [re.sub(r"[^A-Za-z0-9.-]+", "_", name) for name in channels]
    if len({word.lower() for word in words}) < len(words):
        words = [f"{number:04}" for number in range(len(words))]
    return [WARPED.replace("warped", f"warped_{word}") for word in words]


def _scans_of(path: Path, channels: Sequence[str], incomplete: dict[Path, str]) -> list[GivenScan]:
    """The complete scans of a path; the others are added to ``incomplete``, each once."""
    if path.suffix == ".csv" and path.exists():
        return _listed(read_listing(path), channels)
    files = [file for _, file in nifti_files(path)] if path.is_dir() else [path]
    if not files:
        raise DataError(f"{path} holds no scan: it has no file that ends in .nii or .nii.gz")
    scans = []
    for file in files:
        try:
            found = channel_files(file, channels)
        except MissingChannel as error:
            if str(error) not in incomplete.values():  # its other files say the same
                incomplete[file] = str(error)
            continue
        scans.append(GivenScan(_name(found), found))
    return scans


def _listed(listing: Listing, channels: Sequence[str]) -> list[GivenScan]:
    """The scans of a CSV, whose columns of images have the names of the channels, in any order."""
    own, wanted = ([name.lower() for name in names] for names in (listing.channel_names, channels))
    if sorted(own) != sorted(wanted) and max(len(own), len(wanted)) > 1:
        columns = ",".join(f"image_{name}" for name in wanted) if len(wanted) > 1 else "image"
        raise DataError(f"{listing.path}: the model takes {_taken(channels)}: call the columns of images {columns}")
    scans = []
    for scan in listing.scans:
        missing = missing_channel(listing, scan)
        if missing:
            raise DataError(f"{listing.where(scan)}: {missing}")
        if Path(scan.subject).name != scan.subject:
            raise DataError(f"{listing.where(scan)}: no file can have this name; rename the subject")
        images = dict(zip(own, scan.images, strict=True))
        paths = [images[name] for name in wanted] if len(wanted) > 1 else scan.images
        scans.append(GivenScan(f"{scan.subject}.nii.gz", tuple(check_scan(path) for path in paths if path)))
    return scans


def _numbered(path: Path, channels: Sequence[str]) -> tuple[Path, ...]:
    """The files ``NAME_0000``, ``NAME_0001``, ... of which ``path`` is one."""
    found = NUMBERED.fullmatch(stem(check_scan(path)))
    if found is None or int(found[2]) >= len(channels):
        raise DataError(
            f"{path}: the model takes {_taken(channels)}: name the files of a scan NAME_0000.nii.gz, "
            "NAME_0001.nii.gz, ... in this order, or give them with a comma between them"
        )
    paths = []
    for number, name in enumerate(channels):
        files = [path.with_name(f"{found[1]}_{number:04}{ending}") for ending in reversed(ENDINGS)]
        there = next((file for file in files if file.exists()), None)
        if there is None:
            raise MissingChannel(f"{path.with_name(found[1])}: channel {name} is missing: there is no {files[0].name}")
        paths.append(there)
    return tuple(paths)


def _name(paths: Sequence[Path]) -> str:
    """``NAME.nii.gz`` of ``NAME_0000.nii.gz`` and further files; otherwise the name of the first file."""
    first = paths[0].name
    found = NUMBERED.fullmatch(stem(paths[0])) if len(paths) > 1 else None
    return first if found is None else f"{found[1]}{first.removeprefix(stem(paths[0]))}"


def _taken(channels: Sequence[str]) -> str:
    if len(channels) == 1:
        return "one channel"
    return f"{len(channels)} channels ({', '.join(channels)})"
