"""Small pictures of scans with the outlines of their labels, as PNG."""

import io
from collections.abc import Sequence

import matplotlib
import matplotlib.image
import numpy as np

from deepatlas_tf.scans.class_names import unnamed_class
from deepatlas_tf.scans.intensity import rescale
from deepatlas_tf.validation.scan_summary import LoadedScan, canonical
from deepatlas_tf.view import is_neurological

HEIGHT = 120  # pixels
COLOURS = matplotlib.colormaps["tab10"]
LETTERS = {"L": ("1000", "1000", "1000", "1000", "1111"), "R": ("1110", "1001", "1110", "1010", "1001")}


def class_colour(index: int) -> np.ndarray:
    """The colour (3,) of a foreground class in [0, 1], given by its place among the names."""
    return np.array(COLOURS(index % COLOURS.N)[:3])


def thumbnail(loaded: LoadedScan, names: Sequence[str]) -> bytes | None:
    """Sagittal, coronal and axial slice (a 2D scan is one) through the middle of what is labelled, else of the scan.

    Superior or anterior is up; letters say where the patient's left and right are, by default as in radiological view.
    None where nothing could be read; where the label map is on another grid, only the image is drawn.

    Args:
        loaded: image and label map of a subject.
        names: of the foreground classes, whose outlines have their :func:`class_colour`.
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
    if label is not None:
        label = _indices(label, loaded, names)
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
        colours = COLOURS((numbers - 1) % COLOURS.N)[..., :3]
        around = np.pad(numbers, 1, mode="edge")
        neighbours = (around[:-2, 1:-1], around[2:, 1:-1], around[1:-1, :-2], around[1:-1, 2:])
        edge = np.logical_or.reduce([numbers != neighbour for neighbour in neighbours])
        tile = np.where((edge & (numbers > 0))[..., None], colours, tile)
    if cut in (1, 2):
        tile = _with_sides(tile if is_neurological() else tile[:, ::-1])
    return np.pad(tile, ((0, 0), (0, 2), (0, 0)))


def _indices(label: np.ndarray, loaded: LoadedScan, names: Sequence[str]) -> np.ndarray:
    """The label map with 1 + the place of its class among the names; 0 for what is of no class."""
    numbers, where = np.unique(label, return_inverse=True)
    found = [unnamed_class(n) if loaded.class_of is None else loaded.class_of.get(int(n)) for n in numbers]
    places = {name: place for place, name in enumerate(names, 1)}
    return np.array([places.get(name or "", 0) for name in found])[where].reshape(label.shape)


def _with_sides(tile: np.ndarray) -> np.ndarray:
    """The picture (HEIGHT, width, 3) with the letters of the patient's sides in its upper corners."""
    tile = tile.copy()
    for letter, on_left in (("L", is_neurological()), ("R", not is_neurological())):
        mask = np.array([[float(pixel) for pixel in row] for row in LETTERS[letter]])
        mask = np.pad(np.kron(mask, np.ones((2, 2))), 2)[..., None]
        rows, columns = mask.shape[:2]
        if tile.shape[1] >= 2 * columns:
            tile[:rows, slice(columns) if on_left else slice(-columns, None)] = mask
    return tile


def _stretch(plane: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Nearest neighbours to HEIGHT rows with square pixels; second axis up."""
    width = max(1, round(HEIGHT * plane.shape[0] * size[0] / (plane.shape[1] * size[1])))
    columns = np.minimum(
        np.arange(min(width, 3 * HEIGHT)) * plane.shape[0] // min(width, 3 * HEIGHT), plane.shape[0] - 1
    )
    rows = np.arange(HEIGHT)[::-1] * plane.shape[1] // HEIGHT
    return plane[np.ix_(columns, rows)].T
