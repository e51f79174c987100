"""Files of a run: written whole or not at all; one that is damaged is named, with what to do about it."""

import contextlib
import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deepatlas_tf.messages import detail
from deepatlas_tf.types import DataError

TEXT_COLUMNS = {"method", "subject", "split", "moving", "fixed", "class"}


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` (same suffix) that takes its place when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
        detail(f"wrote {path}")
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON. Raises DataError where there is none."""
    with _readable(path):
        return json.loads(path.read_text(encoding="utf-8"))


def through_json(value: Any) -> Any:
    """The value as it comes back from a JSON file: tuples as lists."""
    return json.loads(json.dumps(value))


def read_json_lines(path: Path) -> list[dict]:
    """The lines of a ``.jsonl`` file; none where there is no file. Raises DataError where one is not JSON."""
    if not path.exists():
        return []
    with _readable(path):
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def write_json_lines(path: Path, rows: list[dict]) -> None:
    """Write one JSON object a line."""
    with replacing(path) as temporary:
        temporary.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_rows(path: Path, rows: list[dict]) -> None:
    """Write rows with equal keys as CSV, floats with six significant digits; an empty file for no rows."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
        if rows:
            writer.writeheader()
        for row in rows:
            writer.writerow({name: f"{x:.6g}" if isinstance(x, float) else x for name, x in row.items()})


def read_rows(path: Path) -> list[dict]:
    """Read rows written by :func:`write_rows`: text for the names, floats for the measures.

    Raises DataError where a row has another number of cells, or text for a measure.
    """
    with _readable(path):
        with path.open(newline="", encoding="utf-8") as file:
            heading, *lines = csv.reader(file, strict=True) if path.stat().st_size else [[]]
        rows = [dict(zip(heading, line, strict=True)) for line in lines]
        return [{name: text if name in TEXT_COLUMNS else float(text) for name, text in row.items()} for row in rows]


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """DataError, with what to do, for a file that cannot be read or is not what it should be."""
    detail(f"reading {path}")
    try:
        yield
    except (OSError, ValueError, csv.Error, RecursionError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise DataError(f"cannot read {path} ({reason}); {remedy(path)}") from error


def remedy(path: Path) -> str:
    """What to do about a damaged file of a run."""
    if path.parent.name == "evaluation":
        return f"write it again with deepatlas evaluate {path.parents[1]}"
    if path.parent.name == "assets":
        return "export the model again with deepatlas export"
    return "delete it and run the training command again, which writes it anew"
