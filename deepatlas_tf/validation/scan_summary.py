"""A summary of each scan, made one scan at a time so that memory does not grow with the number of subjects."""

import dataclasses
import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import nibabel as nib
import numpy as np
from nibabel.orientations import apply_orientation, io_orientation

from deepatlas_tf.processor import usable_cores
from deepatlas_tf.scans.class_names import unnamed_class
from deepatlas_tf.scans.intensity import PERCENTILES
from deepatlas_tf.scans.nifti import Nifti

MANY_NUMBERS = 20  # in a label map: from there on it is compared with the values of its image


class Problem(NamedTuple):
    """kind: of ``anomalies.KINDS``. text: one line that names subject and file."""

    kind: str
    text: str


@dataclasses.dataclass(eq=False)
class LoadedScan:
    """One subject in memory; ``image`` and ``label`` are None where there is none or it cannot be used.

    class_of: label number -> class name, without the background; numbers mapped to None are declared but of no class.
    Where it is None nothing is declared, and a class is called ``class_17`` by its number. expected: classes that this
    subject's map should hold, None for all.
    """

    subject: str
    image: Nifti | None = None
    label: Nifti | None = None
    has_label: bool = False
    split: str = ""
    domain: str = ""
    files: tuple[str, str] = ("", "")
    class_of: Mapping[int, str | None] | None = None
    expected: tuple[str, ...] | None = None
    problems: tuple[Problem, ...] = ()


@dataclasses.dataclass(frozen=True)
class Structure:
    """A class in a label map: voxels, volume in ml, centre (D,) in the scanner's mm (x to the right).

    Of a slice the volume is that of a layer of 1 mm: :func:`size_unit` gives the area.
    """

    voxels: int
    volume_ml: float
    centre: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class ScanSummary:
    """What is kept of a subject. Shape and spacing (mm) in canonical order; digests are of the voxels in that order.

    more_labels_than_values: (numbers in the label map, values in the image) where the first are many and more than the
    second, as where the two files have changed places; else None.
    """

    subject: str
    split: str
    domain: str
    files: tuple[str, str]
    has_label: bool
    shape: tuple[int, ...] = ()
    spacing: tuple[float, ...] = ()
    orientation: str = ""
    right_handed: bool = True
    intensity: Mapping[str, float] = dataclasses.field(default_factory=dict)
    image_digest: str = ""
    label_digest: str = ""
    structures: Mapping[str, Structure] | None = None
    undeclared: tuple[int, ...] = ()
    expected: tuple[str, ...] | None = None
    problems: tuple[Problem, ...] = ()
    more_labels_than_values: tuple[int, int] | None = None

    @property
    def held(self) -> Mapping[str, Structure]:
        """The structures that the label map holds; {} where there is no label map that can be used."""
        return self.structures or {}


def summary_of(loaded: LoadedScan) -> ScanSummary:
    """The summary of one subject; the arrays are not kept."""
    found = {}
    grid = loaded.image or loaded.label
    if grid is not None:
        found.update(_geometry(grid))
    if loaded.image is not None:
        found.update(intensity=_intensity(loaded.image.volume), image_digest=digest(loaded.image))
    if loaded.label is not None:
        structures, undeclared = _structures(loaded.label, loaded.class_of)
        found.update(structures=structures, undeclared=undeclared, label_digest=digest(loaded.label))
        found.update(more_labels_than_values=_compared(loaded, len(structures) + len(undeclared)))
    names = ("subject", "split", "domain", "files", "has_label", "expected", "problems")
    return ScanSummary(**{name: getattr(loaded, name) for name in names}, **found)


def size_unit(summaries: Iterable[ScanSummary]) -> tuple[str, float]:
    """The unit of structures in reports, mm2 where all scans are slices, and the factor to it from ``volume_ml``."""
    dimensions = {len(one.spacing) for one in summaries if one.spacing}
    return ("mm2", 1000.0) if dimensions == {2} else ("ml", 1.0)


def collect(items: Iterable, load: Callable[..., LoadedScan], workers: int | None = None) -> Iterator[ScanSummary]:
    """Summaries of all ``items`` in their order. At most ``workers`` are in memory; None is a thread for each core.

    Threads: decompressing and NumPy's work on whole volumes release the interpreter's lock.
    """
    workers = workers or usable_cores()
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future] = deque()
        for item in items:
            waiting.append(pool.submit(lambda one: summary_of(load(one)), item))
            if len(waiting) >= workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def canonical(grid: Nifti) -> np.ndarray:
    """The volume with its axes in canonical order and direction."""
    return apply_orientation(grid.volume, io_orientation(grid.affine))


def digest(grid: Nifti) -> str:
    """SHA-256 of the voxels in canonical order: a copy under another name, type or order of axes has the same."""
    volume = canonical(grid)
    large = volume.dtype.kind in "iu" and np.abs(volume).max(initial=0) > 2**24  # beyond, float32 has no odd numbers
    volume = np.ascontiguousarray(volume, np.int64 if large else np.float32)
    return hashlib.sha256(str(volume.shape).encode() + volume.tobytes()).hexdigest()


def _geometry(grid: Nifti) -> dict:
    orientation = io_orientation(grid.affine)
    order = np.argsort(orientation[:, 0])
    sizes = nib.affines.voxel_sizes(grid.affine)
    return {
        "shape": tuple(int(grid.volume.shape[axis]) for axis in order),
        "spacing": tuple(float(sizes[axis]) for axis in order),
        "orientation": "".join(nib.orientations.ornt2axcodes(orientation)),
        "right_handed": bool(np.linalg.det(np.asarray(grid.affine)[:-1, :-1]) > 0),
    }


def _intensity(volume: np.ndarray) -> dict[str, float]:
    inside = volume[volume != 0]
    low, high = np.percentile(inside, PERCENTILES) if inside.size else (0.0, 0.0)
    found = {"min": volume.min(), "low": low, "mean": volume.mean(dtype=np.float64), "high": high, "max": volume.max()}
    return {name: float(value) for name, value in found.items()}


def _compared(loaded: LoadedScan, n_numbers: int) -> tuple[int, int] | None:
    """``ScanSummary.more_labels_than_values`` of a label map with so many numbers."""
    if loaded.image is None or n_numbers < MANY_NUMBERS:
        return None
    n_values = len(np.unique(loaded.image.volume))
    return (n_numbers, n_values) if n_values < n_numbers else None


def _structures(grid: Nifti, class_of: Mapping[int, str | None] | None) -> tuple[dict[str, Structure], tuple[int, ...]]:
    """Structure of each class, in the order of the declaration or of the numbers; numbers that are not declared."""
    where = np.nonzero(grid.volume)
    numbers, index = np.unique(grid.volume[where], return_inverse=True)
    counts = np.bincount(index, minlength=len(numbers))
    sums = np.stack([np.bincount(index, weights=axis, minlength=len(numbers)) for axis in where], axis=-1)
    names = {int(n): unnamed_class(n) if class_of is None else class_of.get(int(n)) for n in numbers}
    undeclared = () if class_of is None else tuple(n for n in names if n not in class_of)
    ml = float(np.prod(nib.affines.voxel_sizes(grid.affine))) / 1000
    order = dict.fromkeys(names.values() if class_of is None else class_of.values())
    structures = {}
    for name in order:
        if name is None:  # declared, but of no class
            continue
        rows = [i for i, n in enumerate(numbers) if names[int(n)] == name]
        voxels = int(counts[rows].sum())
        if voxels:
            centre = nib.affines.apply_affine(grid.affine, sums[rows].sum(0) / voxels)
            structures[name] = Structure(voxels, voxels * ml, tuple(float(x) for x in centre))
    return structures, undeclared
