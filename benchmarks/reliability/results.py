"""How the results of this folder's scripts are written: with the machine, the versions and the commit."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from machine import machine  # noqa: E402
from turns import commit  # noqa: E402

from deepatlas_tf.keras_stack import versions  # noqa: E402
from deepatlas_tf.runs.files import write_json  # noqa: E402


def write(path: Path, result: dict) -> None:
    """Write ``result`` as JSON, and say where."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"machine": machine(), "versions": versions(), "commit": commit(), **result})
    print(f"wrote {path}")
