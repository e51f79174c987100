"""Which of the prepared copies of own scans in a folder is that of a run.

Other scans, or the same ones after a change, are prepared beside it before anybody sees that the run is of others.
"""

import os
from pathlib import Path

from deepatlas_tf.keras_stack import tfds

IN_USE = "in_use.txt"


def remember_copy(builder: tfds.core.DatasetBuilder, prepared_dir: Path) -> None:
    """Write down that a run is trained on what ``builder`` reads, where that lies in ``prepared_dir``."""
    root, copy = (Path(os.path.abspath(path)) for path in (prepared_dir, builder.data_dir))
    if copy.is_relative_to(root):
        (root / IN_USE).write_text(f"{copy.relative_to(root).as_posix()}\n", encoding="utf-8")


def copy_in_use(prepared_dir: Path) -> Path | None:
    """The folder of the copy that a run is trained on; None where none is written down."""
    path = prepared_dir / IN_USE
    return prepared_dir / path.read_text(encoding="utf-8").strip() if path.exists() else None
