"""Where the anatomy of a scan lies: what surrounds it in the file must not change what a network says about it.

A network's instance normalisation takes the mean and variance of all voxels that it is given, so empty space around the
anatomy changes its features everywhere. Networks were trained on scans that were cropped or padded to one grid; the
functions here find the part of a scan that is treated so.
"""

from collections.abc import Sequence

import numpy as np

THINNEST = 4  # planes of a border on its thickest side: in fewer a scan of the training data may end as well
AIR = 0.1  # of the range of intensities: what differs less from the dark border is noise
REPEATED = 0.01  # of the range: planes that differ less from each other are copies
CUT = 0.5  # share of a face: the content fills more of it where the scan was cut through the anatomy
SPECKS = 0.01  # share of a face of the grid: fewer voxels that are not air are noise
RARE = 1e-3  # share of a plane of noise that may be brighter
PERCENTILES = (0.5, 99.9)  # where nearly all is empty, the content is still above the upper one

Region = tuple[slice, ...]


def without_border(volume: np.ndarray) -> Region:
    """The part of a scan ``volume (*S)`` without the border that was added to it; the whole where there is none.

    A border is of three kinds. Planes of one value, or of noise about the darkest value, that end at a face which the
    content fills: a scan that was cut through the anatomy was padded. And planes that repeat the last one of the scan.
    The air around a head or a limb is none: there the first planes of content are small.
    """
    region = _inner(volume)
    ends = [(part.start, n - part.stop) for part, n in zip(region, volume.shape, strict=True)]
    return region if np.max(ends) >= THINNEST else tuple(slice(0, n) for n in volume.shape)


def around_content(volume: np.ndarray, sizes: Sequence[int]) -> Region:
    """The part of a scan ``volume (*S)`` in which its content lies, about as large as the training grid where it fits.

    Along an axis on which the scan is not larger than ``sizes`` (voxels of the scan that the training grid spans), it
    is kept. Where the content fits, ``sizes`` voxels about its middle are kept, and where it does not, all of it.
    """
    low, high = _range(volume)
    box = _box(np.abs(volume - low) > AIR * (high - low), sizes)
    return tuple(_span(part, size, n) for part, size, n in zip(box, sizes, volume.shape, strict=True))


def _inner(volume: np.ndarray) -> Region:
    low, high = _range(volume)
    region = tuple(slice(0, n) for n in volume.shape)
    while True:  # a border may lie in another one
        found = _without_repeats(volume, region, REPEATED * (high - low))
        found = _without_padding(volume, found, tolerance=0.0, darkest=np.inf)
        found = _without_padding(volume, found, tolerance=AIR * (high - low), darkest=low + AIR * (high - low))
        if found == region:
            return region
        region = found


def _span(part: slice, size: int, n: int) -> slice:
    if n <= size:
        return slice(0, n)
    if part.stop - part.start > size:
        return part
    start = min(max(0, (part.start + part.stop - size) // 2), n - size)
    return slice(start, start + size)


def _range(volume: np.ndarray) -> tuple[float, float]:
    low, high = (float(x) for x in np.percentile(volume, PERCENTILES))
    return (low, high) if high > low else (float(volume.min()), float(volume.max()))


def _box(content: np.ndarray, sizes: Sequence[int]) -> Region:
    """The box of ``content (*S)`` bool: along each axis from the first to the last plane with enough voxels of it."""
    sides = []
    for axis, n in enumerate(content.shape):
        counts = content.sum(axis=tuple(a for a in range(content.ndim) if a != axis))
        planes = np.flatnonzero(counts > SPECKS * np.prod(sizes) / sizes[axis])
        sides.append(slice(int(planes[0]), int(planes[-1]) + 1) if planes.size else slice(0, n))
    return tuple(sides)


def _without_repeats(volume: np.ndarray, region: Region, tolerance: float) -> Region:
    for axis in range(volume.ndim):
        for end in (0, -1):
            planes = np.moveaxis(volume[region], axis, 0)[:: 1 if end == 0 else -1]
            count = 0
            while count < len(planes) - 1 and np.abs(planes[count + 1] - planes[count]).max() <= tolerance:
                count += 1
            if np.ptp(planes[0]) > tolerance:  # planes of one value are padding
                region = _shortened(region, axis, end, count)
    return region


def _without_padding(volume: np.ndarray, region: Region, tolerance: float, darkest: float) -> Region:
    """``region`` without the planes of one value (to the tolerance) that the content behind them fills the face of."""
    box, removed = region, []
    for axis in range(volume.ndim):
        for end in (0, -1):
            planes = np.moveaxis(volume[box], axis, 0)[:: 1 if end == 0 else -1]
            value = float(np.median(planes[0]))
            count = 0 if value > darkest else _empty_planes(planes, value, tolerance)
            if 0 < count < len(planes):
                box = _shortened(box, axis, end, count)
                removed.append((axis, end, count, value))
    for axis, end, count, value in removed:
        face = np.take(volume[box], end, axis)
        if (np.abs(face - value) > tolerance).mean() > CUT:
            region = _shortened(region, axis, end, count)
    return region


def _empty_planes(planes: np.ndarray, value: float, tolerance: float) -> int:
    """How many of the first planes differ from ``value`` by no more than the tolerance."""
    count, rare = 0, RARE if tolerance else 0.0
    while count < len(planes) and (np.abs(planes[count] - value) > tolerance).mean() <= rare:
        count += 1
    return count


def _shortened(region: Region, axis: int, end: int, count: int) -> Region:
    part = region[axis]
    new = slice(part.start + count, part.stop) if end == 0 else slice(part.start, part.stop - count)
    return (*region[:axis], new, *region[axis + 1 :])
