"""The source of a prepared data set, and whether it is what somebody asks for now.

A prepared data set keeps its source: the folder of its files, and the size and time of each. Another folder, or a file
that has changed since, must not pass for what was prepared.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from deepatlas_tf import messages
from deepatlas_tf.types import DataError, MissingDataError

Source = Mapping  # "path": the folder; "files": name below it -> [bytes, time in ns]; {} where nothing is read


def source_of(files: Iterable[Path], path: Path | None = None) -> Source:
    """The source that consists of ``files``; a folder among them counts as one file, such as a DICOM series.

    ``path``: what is called the source, where it is not the folder that all files lie in.
    """
    real = sorted({os.path.realpath(file) for file in files})
    folder = os.path.commonpath([os.path.dirname(file) for file in real]) if real else ""
    states = {os.path.relpath(file, folder): _state(file) for file in real}
    return {"path": folder if path is None else os.path.realpath(path), "files": states}


def check_source(builder: Any, manual_dir: Path) -> None:
    """Raise DataError where a prepared data set was not made of the scans in ``manual_dir`` as they are now.

    Scans that are no longer there do no harm: the prepared copy stands for them. MissingDataError where ``manual_dir``
    is another folder and holds no scans of this data set.
    """
    stored = builder.info.metadata.get("source")
    if stored is None:
        messages.warn(
            f"{builder.data_dir} was prepared by an earlier version, which did not note its scans; it is taken as it "
            f"is, and {manual_dir} is not read"
        )
        return
    was_here = Path(stored.get("path", "")).is_relative_to(os.path.realpath(manual_dir))
    try:
        found = builder.source(manual_dir)
    except MissingDataError as error:
        if was_here:
            return
        raise MissingDataError(f"{error}\nLooked in: {manual_dir}") from None
    before, now = stored.get("files", {}), found.get("files", {})
    if before == now or (was_here and not now):
        return
    changed = next((name for name in sorted({*before, *now}) if before.get(name) != now.get(name)), "")
    reason = f"where {changed} has changed since" if was_here else f"not from {manual_dir}"
    raise DataError(
        f"{builder.name}: {builder.data_dir} was prepared from {stored['path']}, {reason}; "
        "choose another --data-dir, or delete that prepared folder to have it made anew"
    )


def _state(path: str) -> list[int]:
    """[bytes, time of the last change in ns]; of a folder all bytes and the latest time."""
    inside = [os.path.join(place, name) for place, _, names in os.walk(path) for name in names]
    try:
        about = [os.stat(file) for file in (inside if os.path.isdir(path) else [path])]
    except OSError:  # a link that leads nowhere: who reads the scan says so, with its subject
        return [-1, -1]
    return [sum(one.st_size for one in about), max((one.st_mtime_ns for one in about), default=0)]
