"""Rescaling of a scan's intensities to [0, 1]."""

import numpy as np

PERCENTILES = (0.5, 99.5)


def rescale(image: np.ndarray) -> np.ndarray:
    """Image (*S) float32 in [0, 1]: linear between the 0.5 and 99.5 percentiles of the voxels that are not 0, clipped.

    Zero is left out because skull-stripped and cropped scans are padded with it. Percentiles instead of the extremes:
    single voxels can be a thousand times brighter than all others. Where the two coincide, the extremes are used.
    """
    image = np.asarray(image, np.float32)
    inside = image[image != 0]
    low, high = np.percentile(inside, PERCENTILES) if inside.size else (0.0, 0.0)
    if not high > low:
        low, high = float(image.min()), float(image.max())
    if not high > low:
        return np.zeros_like(image)
    return np.clip((image - low) / (high - low), 0, 1).astype(np.float32)
