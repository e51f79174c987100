"""A NIfTI scan on the grid that an exported model takes, and the model's labels back on the scan's own grid.

Used by serving_client.py and rest_client.py; copy it together with them. Needs NumPy, SciPy and nibabel, neither
deepatlas_tf nor TensorFlow.
"""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.processing import resample_from_to
from scipy.ndimage import gaussian_filter


def read_metadata(path: Path) -> dict:
    """``assets/metadata.json`` of the exported model: spacing (mm) and shape of its grid, names of the classes."""
    return json.loads(path.read_text(encoding="utf-8"))


def to_model_grid(scan: nib.Nifti1Image, metadata: dict) -> nib.Nifti1Image:
    """The scan in [0, 1], with axes towards right, anterior, superior and the model's voxel size, about its centre."""
    canonical = nib.as_closest_canonical(scan)
    size = np.array(canonical.shape[:3])
    factors = np.array(metadata["spacing"]) / nib.affines.voxel_sizes(canonical.affine)
    # all of the scan, and at least the size of the images in training
    shape = np.maximum(np.ceil(size / factors - 1e-3), metadata["shape"]).astype(int)
    step = np.diag([*factors, 1.0])
    step[:3, 3] = (size - 1) / 2 - factors * (shape - 1) / 2
    # what a larger voxel of a scanner would have averaged is averaged before (Cardoso et al., MICCAI 2015)
    sigma = np.sqrt(np.maximum(factors**2 - 1, 0)) / np.sqrt(8 * np.log(2))
    volume = gaussian_filter(rescale(np.asarray(canonical.dataobj, np.float32)), sigma, mode="nearest")
    smooth = nib.Nifti1Image(volume, canonical.affine)
    return resample_from_to(smooth, (tuple(shape), canonical.affine @ step), order=1, mode="nearest")


def rescale(volume: np.ndarray) -> np.ndarray:
    """To [0, 1] between the 0.5 and 99.5 percentiles of what is not 0, as in training: before voxels are resampled.

    The model's signature ``segment`` does the same with images that need no resampling.
    """
    low, high = np.percentile(volume[volume != 0], (0.5, 99.5))
    return np.clip((volume - low) / (high - low), 0, 1)


def to_batch(image: nib.Nifti1Image) -> np.ndarray:
    """(1, X, Y, Z, 1) float32, as the model takes it."""
    return np.asarray(image.dataobj, np.float32)[None, ..., None]


def save_labels(labels: np.ndarray, grid: nib.Nifti1Image, scan: nib.Nifti1Image, path: Path) -> None:
    """Write labels (1, X, Y, Z), which lie on ``grid``, on the scan's own grid; nearest neighbours."""
    on_grid = nib.Nifti1Image(labels[0].astype(np.uint8), grid.affine)
    on_scan = resample_from_to(on_grid, (scan.shape[:3], scan.affine), order=0)
    result = nib.Nifti1Image(np.asarray(on_scan.dataobj, np.uint8), scan.affine, scan.header)
    result.set_data_dtype(np.uint8)
    result.header["cal_min"] = result.header["cal_max"] = 0
    nib.save(result, path)
