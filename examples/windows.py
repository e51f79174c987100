"""A network over an image that is larger than those it was trained on: in overlapping windows of the training size.

Each window is normalised alone by the network, as a scan was in training.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

OVERLAP = 0.5  # share of a window that the next one covers again
WIDTH = 0.125  # standard deviation of a window's weights, in windows (as nnU-Net, Isensee et al., Nature Methods 2021)


def apply_in_windows(function: Callable, image: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """``function(image (*S, K)) -> (*S, C)`` in windows of ``size (D,)``; one call where the image is not larger.

    Where windows overlap, they are averaged with the weights of a Gaussian about the middle of each.
    """
    result = np.zeros((), np.float32)
    for rows, values in slabs(function, image, size):
        if len(values) == len(image):
            return values
        if not result.ndim:  # the network says how many channels there are
            result = np.zeros((*image.shape[:-1], values.shape[-1]), np.float32)
        result[rows] = values
    return result


def slabs(function: Callable, image: np.ndarray, size: Sequence[int]) -> Iterator[tuple[slice, np.ndarray]]:
    """The result of :func:`apply_in_windows` piece by piece, so that no more than a window's rows are in memory.

    Yields the rows of the first axis that no further window covers, and their values (rows, *S[1:], C), in order.
    """
    shape = image.shape[:-1]
    starts = [window_starts(n, m) for n, m in zip(shape, size, strict=True)]
    if all(len(places) == 1 for places in starts):
        yield slice(0, shape[0]), function(image)
        return
    total, weights = np.zeros((), np.float32), np.zeros((min(size[0], shape[0]), *shape[1:], 1), np.float32)
    for first, end in itertools.pairwise([*starts[0], shape[0]]):
        for corner in itertools.product(*starts[1:]):
            behind = tuple(slice(start, start + m) for start, m in zip(corner, size[1:], strict=True))
            values = function(image[(slice(first, first + size[0]), *behind)])
            if not total.ndim:
                total = np.zeros((*weights.shape[:-1], values.shape[-1]), np.float32)
            weight = _gaussian(values.shape[:-1])[..., None]
            total[(slice(None), *behind)] += weight * values
            weights[(slice(None), *behind)] += weight
        n = end - first
        yield slice(first, end), total[:n] / weights[:n]
        for sums in (total, weights):
            sums[: len(sums) - n] = sums[n:].copy()
            sums[len(sums) - n :] = 0


def window_starts(n: int, size: int) -> list[int]:
    """Where windows start on an axis of ``n`` voxels: spread evenly, half a window apart or less."""
    steps = max(0, math.ceil((n - size) / (size * (1 - OVERLAP))))
    return [round(i * (n - size) / max(1, steps)) for i in range(steps + 1)]


def _gaussian(shape: Sequence[int]) -> np.ndarray:
    """Weights (*S) of a window, 1 in its middle."""
    result = np.ones((), np.float32)
    for n in shape:
        position = (np.arange(n, dtype=np.float32) - (n - 1) / 2) / (WIDTH * n)
        result = result[..., None] * np.exp(-(position**2) / 2)
    return result
