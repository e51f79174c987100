"""What a peer sees and writes: scans, the label maps of training, and a folder for each training."""

import dataclasses
import json
from pathlib import Path

PEERS = {"nnunet": "nnU-Net", "monai": "MONAI DeepAtlas"}
SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Given:
    """``scans.json`` with ``images/``, ``labels/`` and ``validation_labels/``; no label map of a test scan."""

    path: Path

    @property
    def scans_file(self) -> Path:
        """Classes, grid, seed, the scans of each split, those of training that are labelled, and the pairs."""
        return self.path / "scans.json"

    def image_file(self, scan: str) -> Path:
        """NIfTI of an image."""
        return self.path / "images" / f"{scan}.nii.gz"

    def label_file(self, scan: str) -> Path:
        """NIfTI of the label map of a training scan."""
        return self.path / "labels" / f"{scan}.nii.gz"

    def validation_label_file(self, scan: str) -> Path:
        """NIfTI of the label map of a validation scan, by which weights are chosen, as ours are."""
        return self.path / "validation_labels" / f"{scan}.nii.gz"

    def about(self) -> dict:
        """The content of ``scans.json``."""
        return json.loads(self.scans_file.read_text(encoding="utf-8"))

    def trained(self, peer: str, minutes: float) -> "Trained":
        """The folder of a training."""
        return Trained(self.path / f"{peer}_{minutes:g}min", peer, minutes)

    def all_trained(self) -> list["Trained"]:
        """The finished trainings, in the order of ``PEERS`` and of their minutes."""
        found = []
        for peer in PEERS:
            records = [json.loads(path.read_text("utf-8")) for path in self.path.glob(f"{peer}_*min/train.json")]
            found += [self.trained(peer, minutes) for minutes in sorted(record["minutes"] for record in records)]
        return found


@dataclasses.dataclass(frozen=True)
class Trained:
    """One training of a peer: its files, what it predicts, and the records ``train.json`` and ``predict.json``."""

    path: Path
    peer: str
    minutes: float

    @property
    def method(self) -> str:
        """Its name in the tables."""
        return f"{PEERS[self.peer]}, {self.minutes:.3g} min"

    def record_file(self, step: str) -> Path:
        """What a finished step was, ``train`` or ``predict``; it is written last."""
        return self.path / f"{step}.json"

    def record(self, step: str) -> dict:
        """Its content; empty where the step is not finished."""
        path = self.record_file(step)
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    @property
    def curve_file(self) -> Path:
        """CSV of the validation Dice against the seconds of training."""
        return self.path / "validation.csv"

    @property
    def elapsed_file(self) -> Path:
        """What was used before the last checkpoint: ``seconds`` of training, ``iterations``."""
        return self.path / "elapsed.json"

    def elapsed(self) -> dict:
        """Its content; zeros where there is no checkpoint."""
        path = self.elapsed_file
        return json.loads(path.read_text("utf-8")) if path.exists() else {"seconds": 0.0, "iterations": 0}

    def segmentation_file(self, scan: str) -> Path:
        """NIfTI of a predicted label map."""
        return self.path / "segmentations" / f"{scan}.nii.gz"

    def field_file(self, pair: str) -> Path:
        """The field of a pair, see :func:`peers.folder.write_field`."""
        return self.path / "fields" / f"{pair}.npz"
