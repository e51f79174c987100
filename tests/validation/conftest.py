"""Synthetic scans listed in a CSV, for the tests of validation."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

SHAPE = (20, 16, 12)
AFFINE = np.diag([1.0, 1.5, 2.0, 1.0])
CLASSES = {1: "left_ball", 2: "right_ball", 3: "midline"}


def anatomy(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Image and label map of three balls: left (1) at low x, right (2) at high x, one between (3)."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1)
    label = np.zeros(SHAPE, np.uint8)
    for number, x in ((1, 4), (2, 15), (3, 9.5)):
        centre = np.array([x, 8, 6]) + rng.uniform(-0.4, 0.4, 3)
        label[np.linalg.norm(grid - centre, axis=-1) < rng.uniform(2.8, 3.1)] = number
    return rng.gamma(20, 5, SHAPE).astype(np.float32) + 40 * label, label


@dataclasses.dataclass
class Cohort:
    """Subjects s00, s01, ... as files and lines of a CSV; ``add`` overrides what is to be wrong."""

    folder: Path
    write: Callable
    lines: list[str] = dataclasses.field(default_factory=list)

    def add(self, subject: str, split: str = "train", domain: str = "", **changed) -> None:
        """changed: image, label (None: no label map), affine, label_affine."""
        image, label = anatomy(int(subject[1:]))
        image, label = changed.get("image", image), changed.get("label", label)
        affine = changed.get("affine", AFFINE)
        files = [f"{subject}_{len(self.lines)}.nii.gz", ""]
        self.write(self.folder / files[0], image, affine)
        if label is not None:
            files[1] = f"{subject}_{len(self.lines)}_label.nii.gz"
            self.write(self.folder / files[1], label, changed.get("label_affine", affine))
        self.lines.append(",".join([subject, *files, split, domain]))

    def save(self, named: bool = True) -> Path:
        """The CSV; ``named``: with the names of the classes beside it."""
        path = self.folder / "scans.csv"
        path.write_text("\n".join(["subject,image,label,split,domain", *self.lines]) + "\n")
        if named:
            names = [f"{number},{name}" for number, name in CLASSES.items()]
            (self.folder / "labels.csv").write_text("\n".join(["number,name", *names]) + "\n")
        return path


@pytest.fixture
def new_cohort(tmp_path, write_nifti):
    """new_cohort(n=0, name="cohort") -> Cohort with subjects s00, s01, ... that nothing is wrong with."""

    def make(n: int = 0, name: str = "cohort") -> Cohort:
        (tmp_path / name).mkdir()
        cohort = Cohort(tmp_path / name, write_nifti)
        for i in range(n):
            cohort.add(f"s{i:02d}", split=("train", "train", "train", "validation", "test")[i % 5])
        return cohort

    return make


@pytest.fixture
def draw_anatomy():
    """The function ``anatomy``."""
    return anatomy
