"""The folder through which the two environments speak: pairs and images in, displacement fields and seconds out."""

import dataclasses
import json
import os
import re
from pathlib import Path

import nibabel as nib
import numpy as np

SPLITS = ("validation", "test")
THREADS = 2


@dataclasses.dataclass(frozen=True)
class PeersFolder:
    """``pairs.json`` with ``images/`` and ``labels/``; ``fields/METHOD/SETTING/PAIR.npz``; what was chosen."""

    path: Path

    @property
    def pairs_file(self) -> Path:
        """The data set, its scans, and the pairs of each split."""
        return self.path / "pairs.json"

    @property
    def ours_file(self) -> Path:
        """Method -> run, stage and settings of our own registrations."""
        return self.path / "ours.json"

    @property
    def tools_file(self) -> Path:
        """Method of a peer -> its versions, or why it could not be measured."""
        return self.path / "tools.json"

    @property
    def choice_file(self) -> Path:
        """Method of a peer -> the setting that is best on the validation pairs."""
        return self.path / "choice.json"

    @property
    def validation_file(self) -> Path:
        """Method of a peer -> setting -> its scores on the validation pairs."""
        return self.path / "validation.json"

    def image_file(self, scan: str) -> Path:
        """NIfTI of the image of a scan, the only thing that a peer reads."""
        return self.path / "images" / f"{scan}.nii.gz"

    def label_file(self, scan: str) -> Path:
        """NIfTI of its label map, which only the scoring reads."""
        return self.path / "labels" / f"{scan}.nii.gz"

    def field_file(self, method: str, setting: str, pair: str) -> Path:
        """The field of a pair, see :func:`write_field`."""
        return self.path / "fields" / _file_name(method) / _file_name(setting) / f"{pair}.npz"

    def failure_file(self, method: str, setting: str, pair: str) -> Path:
        """Why a pair has no field."""
        return self.field_file(method, setting, pair).with_suffix(".error.txt")

    def about(self) -> dict:
        """The content of ``pairs.json``."""
        return json.loads(self.pairs_file.read_text(encoding="utf-8"))

    def stored(self, path: Path) -> dict:
        """The content of one of the other JSON files; empty where it is not written yet."""
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def pairs_of(about: dict, split: str) -> list[dict]:
    """The pairs of a split: ``{"pair", "split", "moving", "fixed"}`` with the names of two scans."""
    return [pair for pair in about["pairs"] if pair["split"] == split]


def read_volume(path: Path) -> np.ndarray:
    """``(*S)`` as it was written."""
    return np.asarray(nib.load(path).dataobj)


def write_volume(path: Path, volume: np.ndarray, spacing) -> None:
    """Write ``(*S)`` with voxels of ``spacing`` mm and axes to the right, anterior, superior."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(volume, np.diag([*spacing, 1.0])), path)


def write_field(path: Path, u: np.ndarray, **numbers: float) -> None:
    """Write ``u (*S, 3)`` in voxels of the network's grid, ``warped(x) = moving(x + u(x))``, with some numbers.

    numbers: ``seconds`` on the clock, ``cpu_seconds`` of all threads, ``difference`` of the two warped images.
    """
    if not np.isfinite(u).all():
        raise ValueError("the displacement field is not finite")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")  # np.savez keeps a name that ends in .npz
    np.savez(temporary, u=np.asarray(u, np.float32), **numbers)
    os.replace(temporary, path)


def write_json(path: Path, value) -> None:
    """Write indented JSON, whole or not at all."""
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def use_two_cores() -> None:
    """Run this process and its children on two cores with two threads; before NumPy's users are imported."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
        os.environ[name] = str(THREADS)


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.]+", "-", text)
