"""Where things lie in the folder of a run."""

from pathlib import Path


def net_path(workdir: Path, stage: str, net: str) -> Path:
    """Where a stage leaves a net."""
    return workdir / stage / "nets" / f"{net}.keras"
