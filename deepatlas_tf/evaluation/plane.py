"""The plane of a scan that a picture shows."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from deepatlas_tf.view import is_neurological

NAMES = ("sagittal", "coronal", "axial")  # of the plane orthogonal to each axis
ENDS = (("L", "R"), ("P", "A"), ("I", "S"))  # where each axis begins and ends


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
        _, _, axis, index = max(_best_slice(label, axis) for axis in range(3))
        return cls(axis, index, spacing)

    @classmethod
    def each(cls, label: np.ndarray, spacing: Sequence[float]) -> list["Plane"]:
        """The axial, the coronal and the sagittal plane of a label map ``(*S,)`` that show most; of a 2D one itself."""
        if label.ndim == 2:
            return [cls.showing_most(label, spacing)]
        indices = [_best_slice(label, axis)[3] if label.any() else label.shape[axis] // 2 for axis in range(3)]
        return [cls(axis, indices[axis], tuple(map(float, spacing))) for axis in (2, 1, 0)]

    @property
    def axes(self) -> tuple[int, int]:
        """The two axes of the grid that are shown, horizontal and vertical."""
        horizontal, vertical = (axis for axis in range(len(self.spacing)) if axis != self.axis)
        return horizontal, vertical

    @property
    def is_reversed(self) -> bool:
        """Whether the horizontal axis runs to the left: in radiological view, where it is that of left and right."""
        return self.axis in (1, 2) and not is_neurological()

    @property
    def ends(self) -> tuple[str, str]:
        """Letters for the left and the right side of the picture; empty in 2D, where the axes may be any."""
        if self.axis is None:
            return "", ""
        low, high = ENDS[self.axes[0]]
        return (high, low) if self.is_reversed else (low, high)

    def position(self, shape: Sequence[int]) -> str:
        """Which plane it is of a grid with ``shape`` voxels, in words; empty in 2D."""
        return "" if self.axis is None else f"{NAMES[self.axis]}, slice {self.index + 1} of {shape[self.axis]}"

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


def _best_slice(label: np.ndarray, axis: int) -> tuple[int, float, int, int]:
    """Of the slices along an axis the one with most classes, among those with most foreground.

    Gives the number of classes, the share of the foreground, the axis and the index.
    """
    slices = np.moveaxis(label, axis, 0).reshape(label.shape[axis], -1)
    scores = [(len(np.unique(x)), float(np.mean(x > 0))) for x in slices]
    index = max(range(len(scores)), key=scores.__getitem__)
    return (*scores[index], axis, index)
