"""Small pictures of scans with the outlines of their labels, as PNG."""

import io
from collections.abc import Sequence

import matplotlib
import matplotlib.image
import numpy as np

from deepatlas_tf.scans.intensity import rescale
from deepatlas_tf.validation.scan_summary import LoadedScan, canonical

HEIGHT = 120  # pixels


def thumbnail(loaded: LoadedScan) -> bytes | None:
    """Sagittal, coronal and axial slice (a 2D scan is one) through the middle of what is labelled, else of the scan.

    Superior or anterior is up, the patient's right is on the right. None where nothing could be read, or the label map
    is on another grid (then only the image is drawn).
    """
    grid = loaded.image or loaded.label
    if grid is None:
        return None
    label = canonical(loaded.label) if loaded.label else None
    image = rescale(canonical(loaded.image)) if loaded.image else np.zeros(canonical(grid).shape, np.float32)
    if label is not None and label.shape != image.shape:
        label = None
    order = np.argsort(np.abs(np.asarray(grid.affine)[:-1, :-1]).argmax(0))
    sizes = np.linalg.norm(np.asarray(grid.affine)[:-1, :-1], axis=0)[order]
    inside = np.nonzero(label) if label is not None and label.any() else None
    at = [int(np.median(axis)) for axis in inside] if inside else [n // 2 for n in image.shape]
    cuts = range(image.ndim) if image.ndim == 3 else [None]
    tiles = [_tile(image, label, sizes, at, cut) for cut in cuts]
    file = io.BytesIO()
    matplotlib.image.imsave(file, np.concatenate(tiles, axis=1), format="png")
    return file.getvalue()


def _tile(
    image: np.ndarray, label: np.ndarray | None, sizes: np.ndarray, at: Sequence[int], cut: int | None
) -> np.ndarray:
    """One picture (HEIGHT, width, 3) float in [0, 1]; ``cut``: the axis that is left out, None for a scan of two."""

    def take(volume: np.ndarray) -> np.ndarray:
        return volume if cut is None else np.take(volume, at[cut], axis=cut)

    size = sizes if cut is None else np.delete(sizes, cut)
    pixels = _stretch(take(image), size)
    tile = np.repeat(pixels[..., None], 3, axis=-1)
    if label is not None:
        numbers = _stretch(take(label), size)
        colours = matplotlib.colormaps["tab10"](np.mod(numbers, 10))[..., :3]
        around = np.pad(numbers, 1, mode="edge")
        neighbours = (around[:-2, 1:-1], around[2:, 1:-1], around[1:-1, :-2], around[1:-1, 2:])
        edge = np.logical_or.reduce([numbers != neighbour for neighbour in neighbours])
        tile = np.where((edge & (numbers > 0))[..., None], colours, tile)
    return np.pad(tile, ((0, 0), (0, 2), (0, 0)))


def _stretch(plane: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Nearest neighbours to HEIGHT rows with square pixels; second axis up."""
    width = max(1, round(HEIGHT * plane.shape[0] * size[0] / (plane.shape[1] * size[1])))
    columns = np.minimum(
        np.arange(min(width, 3 * HEIGHT)) * plane.shape[0] // min(width, 3 * HEIGHT), plane.shape[0] - 1
    )
    rows = np.arange(HEIGHT)[::-1] * plane.shape[1] // HEIGHT
    return plane[np.ix_(columns, rows)].T
