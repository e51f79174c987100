"""The way between the scanner's grid and a network's grid that lies in the space of a reference, in both directions.

Where scans are aligned before a network sees them, the axes of its grid are not those of the scan: each voxel is
interpolated once, straight from the scan, and a label map of the network is brought back straight to the scan.
"""

import dataclasses
import functools

import numpy as np
import scipy.ndimage

from deepatlas_tf.scans.grid import GridTransform

FWHM = np.sqrt(8 * np.log(2))  # of a Gaussian, in standard deviations
REACH = 4  # standard deviations of a Gaussian that are computed


@dataclasses.dataclass(frozen=True, eq=False)
class AlignedGridTransform(GridTransform):
    """A ``GridTransform`` whose network's grid lies anywhere, not along the axes of the scan.

    placement: (D+1, D+1), voxels of the network's grid to mm of the scanner: the alignment of the scan to the reference
    (mm of the reference to mm of the scan) times the affine of the reference's own network grid.
    """

    placement: np.ndarray

    @functools.cached_property
    def affine(self) -> np.ndarray:
        """(D+1, D+1) of the network's grid: voxels to the scanner's mm."""
        return np.asarray(self.placement, np.float64)

    def image_to_network(self, volume: np.ndarray) -> np.ndarray:
        """(source_shape) -> (shape) float32; linear, smoothed before downsampling. The scan's border is continued."""
        return resample(volume, self._to_source, self.shape, "nearest")

    def image_to_source(self, volume: np.ndarray) -> np.ndarray:
        """(shape) -> (source_shape) float32, linear; 0 where the network's grid did not reach."""
        return resample(volume, np.linalg.inv(self._to_source), self.source_shape, "grid-constant")

    def label_to_network(self, label: np.ndarray, n_classes: int) -> np.ndarray:
        """(source_shape) class indices -> (shape) uint8; the class with the largest share of a voxel wins."""
        return resample_label(label, self._to_source, self.shape, n_classes)

    def label_to_source(self, label: np.ndarray, n_classes: int) -> np.ndarray:
        """(shape) class indices -> (source_shape) uint8; background where the network's grid did not reach."""
        return resample_label(label, np.linalg.inv(self._to_source), self.source_shape, n_classes)

    @functools.cached_property
    def _to_source(self) -> np.ndarray:
        """(D+1, D+1), voxels of the network's grid to voxels of the scan."""
        return np.linalg.inv(self.source_affine) @ self.affine


def resample(volume: np.ndarray, matrix: np.ndarray, shape: tuple[int, ...], outside: str) -> np.ndarray:
    """Values of ``volume`` at ``matrix @ voxel`` for the voxels of a grid ``shape``; ``outside`` is SciPy's mode."""
    smooth = scipy.ndimage.gaussian_filter(np.asarray(volume, np.float32), _sigmas(matrix), mode="nearest")
    return scipy.ndimage.affine_transform(
        smooth, matrix[:-1, :-1], matrix[:-1, -1], output_shape=tuple(shape), order=1, mode=outside
    )


def _sigmas(matrix: np.ndarray) -> np.ndarray:
    """(D,) voxels, along each axis of what is resampled: widens the point spread function to that of a new voxel.

    As in :mod:`deepatlas_tf.scans.grid` (Cardoso et al., MICCAI 2015); 0 where the new voxels are not larger.
    """
    widths = np.linalg.norm(matrix[:-1, :-1], axis=1)
    return np.sqrt(np.maximum(widths**2 - 1, 0)) / FWHM


def resample_label(label: np.ndarray, matrix: np.ndarray, shape: tuple[int, ...], n_classes: int) -> np.ndarray:
    """Each class as a volume of its own, within the box that it fills; of equal shares the lowest index wins."""
    best, winner = np.zeros(shape, np.float32), np.zeros(shape, np.uint8)
    margin = np.ceil(REACH * _sigmas(matrix)).astype(int) + 1
    for index in range(n_classes):
        inside = np.pad(label == index, [(m, m) for m in margin])  # what a smoothed class reaches is background
        boxes = scipy.ndimage.find_objects(inside.astype(np.uint8))
        if not boxes:
            continue
        box = tuple(slice(part.start - m, part.stop + m) for part, m in zip(boxes[0], margin, strict=True))
        moved = matrix.copy()  # the voxel 0 of the box is not that of the label map
        moved[:-1, -1] -= [part.start - m for part, m in zip(box, margin, strict=True)]
        share = resample(inside[box], moved, shape, "grid-constant")
        winner[share > best] = index
        best = np.maximum(best, share)
    return winner
