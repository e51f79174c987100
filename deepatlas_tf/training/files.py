"""Files of a run: written whole or not at all."""

import contextlib
import csv
import json
import os
from pathlib import Path

TEXT_COLUMNS = {"method", "subject", "split", "moving", "fixed", "class"}


@contextlib.contextmanager
def replacing(path: Path):
    """A temporary path beside ``path`` (same suffix) that takes its place when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value) -> None:
    """Write indented JSON."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n")


def read_json(path: Path):
    """Read JSON."""
    return json.loads(path.read_text())


def through_json(value):
    """The value as it comes back from a JSON file: tuples as lists."""
    return json.loads(json.dumps(value))


def read_json_lines(path: Path) -> list[dict]:
    """The lines of a ``.jsonl`` file; none where there is no file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


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
    """Read rows written by :func:`write_rows`: text for the names, floats for the measures."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{name: text if name in TEXT_COLUMNS else float(text) for name, text in row.items()} for row in rows]
