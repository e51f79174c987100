"""The way between the scanner's grid and the network's, in both directions.

Scanner's grid -> closest canonical (RAS) order of axes -> voxel size -> crop or pad about the centre. As the last two
are separable, each axis has one weight matrix that holds smoothing, resampling and cropping together.
"""

import dataclasses
import functools

import nibabel as nib
import numpy as np
import scipy.ndimage
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

SAME_SPACING = 1e-3  # relative; closer than this, voxels are taken over without interpolation


@dataclasses.dataclass(frozen=True, eq=False)
class GridTransform:
    """source_affine (D+1, D+1), source_shape (D,): the scanner's grid. shape (D,), spacing (D,) mm: the network's.

    D is 3, or 2 for slices. It is made from what a record stores, so that a prediction can be brought back without the
    scan.
    """

    source_affine: np.ndarray
    source_shape: tuple[int, ...]
    shape: tuple[int, ...]
    spacing: tuple[float, ...]

    @functools.cached_property
    def orientation(self) -> np.ndarray:
        """The orientation (D, 2), as nibabel has it, that takes the scanner's axes to right, anterior, superior."""
        return io_orientation(self.source_affine)

    @functools.cached_property
    def canonical_shape(self) -> tuple[int, ...]:
        """Voxels of the scan along right, anterior, superior, (D,)."""
        return tuple(int(self.source_shape[i]) for i in np.argsort(self.orientation[:, 0]))

    @functools.cached_property
    def canonical_affine(self) -> np.ndarray:
        """The affine (D+1, D+1) from voxels in canonical order to the scanner's mm."""
        return np.asarray(self.source_affine, np.float64) @ inv_ornt_aff(self.orientation, self.source_shape)

    @functools.cached_property
    def factors(self) -> tuple[float, ...]:
        """Network voxel size over the scan's, for each canonical axis; exactly 1 where nothing is resampled."""
        ratios = np.asarray(self.spacing) / nib.affines.voxel_sizes(self.canonical_affine)
        return tuple(1.0 if abs(r - 1) < SAME_SPACING else float(r) for r in ratios)

    @functools.cached_property
    def offsets(self) -> tuple[float, ...]:
        """Canonical voxel coordinate of network voxel 0; both grids have one centre (at factor 1, to half a voxel)."""
        sizes = zip(self.canonical_shape, self.shape, self.factors, strict=True)
        return tuple(float(int((n - m) / 2)) if f == 1 else (n - 1) / 2 - f * (m - 1) / 2 for n, m, f in sizes)

    @functools.cached_property
    def affine(self) -> np.ndarray:
        """The affine (D+1, D+1) from voxels of the network's grid to the scanner's mm."""
        step = np.diag([*self.factors, 1.0])
        step[:-1, -1] = self.offsets
        return self.canonical_affine @ step

    def image_to_network(self, volume: np.ndarray) -> np.ndarray:
        """Bring an image (source_shape) to the network's grid (shape), float32: linear, smoothed before downsampling.

        Outside of the scan, its border values are continued: around scans cropped to different sizes, black padding
        would be boxes of different sizes, which a registration would align.
        """
        return _resample(self._to_canonical(volume), self._weights_in(extend=True))

    def image_to_source(self, volume: np.ndarray) -> np.ndarray:
        """Bring a volume (shape) back to the scan's grid (source_shape): linear, 0 beyond the network's grid."""
        return self._from_canonical(_resample(volume, self._weights_out()))

    def label_to_network(self, label: np.ndarray, n_classes: int) -> np.ndarray:
        """Bring class indices (source_shape) to the network's grid (shape): the largest share of a voxel wins."""
        return _resample_label(self._to_canonical(label), self._weights_in(extend=False), n_classes)

    def label_to_source(self, label: np.ndarray, n_classes: int) -> np.ndarray:
        """Bring class indices (shape) back to the scan's grid (source_shape), uint8; 0 beyond the network's grid."""
        return self._from_canonical(_resample_label(label, self._weights_out(), n_classes))

    def from_grid(self, volume: np.ndarray, other: "GridTransform") -> np.ndarray:
        """Bring a volume on another, coarser grid of the same scan (other.shape) to this one (shape).

        It is interpolated linearly, and 0 beyond the other grid.
        """
        ratios = [own / coarse for own, coarse in zip(self.factors, other.factors, strict=True)]
        starts = zip(self.offsets, other.offsets, other.factors, strict=True)
        offsets = [(own - coarse) / factor for own, coarse, factor in starts]
        axes = zip(other.shape, self.shape, ratios, offsets, strict=True)
        return _resample(volume, [_axis_weights(n, m, ratio, offset) for n, m, ratio, offset in axes])

    def _to_canonical(self, volume: np.ndarray) -> np.ndarray:
        return apply_orientation(volume, self.orientation)

    def _from_canonical(self, volume: np.ndarray) -> np.ndarray:
        axes = np.arange(len(self.shape))
        canonical = np.stack([axes, np.ones_like(axes)], axis=1)
        return apply_orientation(volume, nib.orientations.ornt_transform(canonical, self.orientation))

    def _weights_in(self, extend: bool) -> list[np.ndarray]:
        axes = zip(self.canonical_shape, self.shape, self.factors, self.offsets, strict=True)
        return [_axis_weights(n, m, f, o, extend) for n, m, f, o in axes]

    def _weights_out(self) -> list[np.ndarray]:
        axes = zip(self.shape, self.canonical_shape, self.factors, self.offsets, strict=True)
        return [_axis_weights(n, m, 1 / f, -o / f) for n, m, f, o in axes]


def _axis_weights(n_from: int, n_to: int, factor: float, offset: float, extend: bool = False) -> np.ndarray:
    """The matrix (n_to, n_from) float32 that makes output voxel i the input at ``factor * i + offset``.

    Rows outside the input repeat its border where ``extend``, else they are 0.
    Downsampling is preceded by the Gaussian of Cardoso et al. (MICCAI 2015), which takes the width of a voxel's point
    spread function from 1 to ``factor``.
    """
    position = factor * np.arange(n_to) + offset
    inside = (position > -0.5) & (position < n_from - 0.5)
    position = np.clip(position, 0, n_from - 1)
    lower = np.minimum(np.floor(position).astype(int), max(n_from - 2, 0))
    share, rows = position - lower, np.arange(n_to)
    weights = np.zeros((n_to, n_from))
    weights[rows, lower] = 1 - share
    weights[rows, np.minimum(lower + 1, n_from - 1)] += share
    if factor > 1:
        sigma = np.sqrt(factor**2 - 1) / np.sqrt(8 * np.log(2))
        weights = weights @ scipy.ndimage.gaussian_filter1d(np.eye(n_from), sigma, axis=0, mode="nearest")
    return (weights if extend else weights * inside[:, None]).astype(np.float32)


def _resample(volume: np.ndarray, weights: list[np.ndarray]) -> np.ndarray:
    """``weights[k]`` (to, from) is applied along axis k."""
    volume = np.asarray(volume, np.float32)
    for matrix in weights:  # each product takes the first axis and appends the new one: D of them restore the order
        volume = np.tensordot(volume, matrix, axes=(0, 1))
    return volume


def _resample_label(label: np.ndarray, weights: list[np.ndarray], n_classes: int) -> np.ndarray:
    """Each class as a volume of its own; of equal shares the lowest index wins."""
    shape = tuple(len(matrix) for matrix in weights)
    best, winner = np.zeros(shape, np.float32), np.zeros(shape, np.uint8)
    for index in range(n_classes):
        share = _resample(label == index, weights)
        winner[share > best] = index
        best = np.maximum(best, share)
    return winner
