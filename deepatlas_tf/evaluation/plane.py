"""The plane of a scan that a picture shows."""

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Plane:
    """A plane of a 3D grid, or the whole of a 2D one.

    axis: the axis of the grid that is orthogonal to the plane; None in 2D. index: the number of the slice along it.
    spacing: voxel size of the grid in mm, for each axis.
    """

    axis: int | None
    index: int
    spacing: tuple[float, ...]

    @classmethod
    def showing_most(cls, label: np.ndarray, spacing: Sequence[float]) -> "Plane":
        """The plane of a label map ``(*S,)`` with the most classes, among those the one with the most foreground.

        Where there is no foreground it is the middle one along the second axis.
        """
        spacing = tuple(map(float, spacing))
        if label.ndim == 2:
            return cls(None, 0, spacing)
        if not label.any():
            return cls(1, label.shape[1] // 2, spacing)
        best = []
        for axis in range(3):
            slices = np.moveaxis(label, axis, 0).reshape(label.shape[axis], -1)
            scores = [(len(np.unique(x)), np.mean(x > 0)) for x in slices]
            index = max(range(len(scores)), key=scores.__getitem__)
            best.append((*scores[index], axis, index))
        _, _, axis, index = max(best)
        return cls(axis, index, spacing)

    @property
    def axes(self) -> tuple[int, int]:
        """The two axes of the grid that are shown, horizontal and vertical."""
        horizontal, vertical = (axis for axis in range(len(self.spacing)) if axis != self.axis)
        return horizontal, vertical

    def cut(self, array: np.ndarray) -> np.ndarray:
        """Cut the plane out of an array ``(*S, ...)``: ``(width, height, ...)`` in voxels."""
        return array if self.axis is None else np.take(array, self.index, axis=self.axis)

    def size_mm(self, shape: Sequence[int]) -> tuple[float, float]:
        """Width and height of the plane in mm, of a grid with ``shape`` voxels."""
        width, height = (shape[axis] * self.spacing[axis] for axis in self.axes)
        return width, height

    def positions_mm(self, u: np.ndarray) -> np.ndarray:
        """Where a displacement field ``u (*S, D)`` in voxels takes the centres of the plane's voxels.

        Gives ``(width, height, 2)`` in mm within the plane, without the displacement out of it.
        """
        inside = self.cut(u)[..., list(self.axes)]
        grid = np.stack(np.meshgrid(*map(np.arange, inside.shape[:2]), indexing="ij"), axis=-1)
        return (grid + 0.5 + inside) * [self.spacing[axis] for axis in self.axes]
