"""A network over an image that is larger than those it was trained on: in overlapping windows of the training size.

Each window is normalised alone by the network, as a scan was in training.
"""

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

OVERLAP = 0.5  # share of a window that the next one covers again
WIDTH = 0.125  # standard deviation of a window's weights, in windows (as nnU-Net, Isensee et al., Nature Methods 2021)


def apply_in_windows(function: Callable, image: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """``function(image (*S, 1)) -> (*S, C)`` in windows of ``size (D,)``; one call where the image is not larger.

    Where windows overlap, they are averaged with the weights of a Gaussian about the middle of each.
    """
    shape = image.shape[:-1]
    starts = [window_starts(n, m) for n, m in zip(shape, size, strict=True)]
    if all(len(places) == 1 for places in starts):
        return function(image)
    total, weights = np.zeros((), np.float32), np.zeros((*shape, 1), np.float32)
    for corner in itertools.product(*starts):
        where = tuple(slice(start, start + m) for start, m in zip(corner, size, strict=True))
        values = function(image[where])
        if not total.ndim:  # the network says how many channels there are
            total = np.zeros((*shape, values.shape[-1]), np.float32)
        weight = _gaussian(values.shape[:-1])[..., None]
        total[where] += weight * values
        weights[where] += weight
    total /= weights
    return total


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
