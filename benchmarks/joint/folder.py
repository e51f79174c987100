"""The folder of a comparison: what peers are given, and beside it what only the scoring reads."""

import dataclasses
from pathlib import Path

from peers.folder import PeersFolder

from joint.given import Given


@dataclasses.dataclass(frozen=True)
class JointFolder(PeersFolder):
    """``given/``, all that a peer sees; ``pairs.json`` and ``labels/`` of validation and test scans; ``ours/``."""

    @property
    def given(self) -> Given:
        """The part of the peers, which also holds the images."""
        return Given(self.path / "given")

    def image_file(self, scan: str) -> Path:
        """NIfTI of the image of a scan."""
        return self.given.image_file(scan)

    def our_rows_file(self, task: str) -> Path:
        """The rows of the run's evaluation."""
        return self.path / "ours" / f"{task}.csv"
