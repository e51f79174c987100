"""A cross-validation as one model: the networks of its folds together, and the file that names them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deepatlas_tf.runs.files import read_json
from deepatlas_tf.types import DataError

if TYPE_CHECKING:
    from deepatlas_tf.runs.model import Grid, TrainedModel

FOLDS = "folds.json"


def fold_folders(path: Path) -> list[Path]:
    """The folders of the folds of a finished cross-validation; none where ``path`` is something else.

    Raises DataError where its ``folds.json`` is damaged.
    """
    file = path / FOLDS
    if not file.is_file():
        return []
    content = read_json(file)
    names = content.get("folds") if isinstance(content, dict) else None
    valid = isinstance(names, list) and all(isinstance(n, str) and n == Path(n).name and n != ".." for n in names)
    if not valid or not names:
        raise DataError(f"{file} does not name the folds of a cross-validation: run its training command again")
    return [path / name for name in names]


class Ensemble:
    """The runs of all folds, with the functions of a :class:`~deepatlas_tf.runs.model.TrainedModel`.

    A segmentation is the mean of the runs' probabilities, a registration that of their displacement fields.

    Args:
        path: folder of the cross-validation.
        models: the runs, of one grid and the same classes.
    """

    def __init__(self, path: Path, models: Sequence["TrainedModel"]):
        self.path, self.models = path, models
        self.about, self.grid = models[0].about, models[0].grid

    def full_resolution(self) -> str | None:
        """The stage that segments scans at their own resolution, where it is finished in every run; else None."""
        found = {model.full_resolution() for model in self.models}
        return found.pop() if len(found) == 1 else None

    def grid_of(self, stage: str | None) -> "Grid":
        """The space that the networks of a stage know, which is the same in every run; specks are those of all.

        Raises DataError where it is not, as after a run was trained again with other patches.
        """
        grids = [model.grid_of(stage) for model in self.models]
        if any((grid.shape, grid.spacing) != (grids[0].shape, grids[0].spacing) for grid in grids):
            raise DataError(f"{self.path}: stage {stage} of the folds has different grids; choose another --stage")
        alike = set(grids[0].without_specks).intersection(*(grid.without_specks for grid in grids))
        return grids[0]._replace(without_specks=tuple(sorted(alike)))

    def segmenter(self, stage: str | None = None) -> Callable:
        """A function ``image (*S, K) -> class probabilities (*S, C)``, NumPy in and out, for any size."""
        return _mean([model.segmenter(stage) for model in self.models])

    def registrar(
        self,
        stage: str | None = None,
        instance_steps: int = 0,
        anatomy: bool = False,
        segment: Callable | None = None,
    ) -> Callable:
        """A function ``moving (*S, K), fixed (*S, K) -> u (*S, D)`` in voxels, NumPy in and out, for any size.

        instance_steps, anatomy, segment: as for one run; each field is refined before the mean is taken.
        """
        return _mean([model.registrar(stage, instance_steps, anatomy, segment) for model in self.models])

    def registration_beside(self, stage: str | None = None) -> str:
        """The stage whose registration networks are used beside the segmentation of ``stage``, as for one run."""
        return self.models[0].registration_beside(stage)

    def segmentation_beside(self, stage: str | None = None) -> str:
        """The stage whose segmentation networks are used beside the registration of ``stage``, as for one run."""
        return self.models[0].segmentation_beside(stage)


def _mean(functions: Sequence[Callable]) -> Callable:
    def mean(*images: np.ndarray) -> np.ndarray:
        return sum(function(*images) for function in functions) / np.float32(len(functions))

    return mean
