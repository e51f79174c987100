"""Synthetic inputs for both sides of a comparison. No TensorFlow, no PyTorch: it runs in both environments."""

from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial import cKDTree


def pair(shape, n_classes: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Two synthetic images ``(1, *S, 1)`` in [0, 1] of similar structure, and the label map ``(1, *S)`` of the first.

    Structures are the cells around random points, each with its own grey value; background is outside of an ellipsoid.
    """
    rng = np.random.default_rng(seed)
    label = label_map(shape, n_classes, rng)
    grey = np.concatenate([[0.0], rng.uniform(0.3, 1, n_classes - 1)])
    texture = gaussian_filter(rng.normal(size=shape), 2, mode="nearest")
    images = [gaussian_filter(grey[one], 1) for one in (label, np.roll(label, 1, axis=0))]
    images = [image + 0.5 * texture + 0.02 * rng.normal(size=shape) for image in images]
    images = [((i - i.min()) / np.ptp(i)).astype(np.float32)[None, ..., None] for i in images]
    return {"moving": images[0], "fixed": images[1], "label": label.astype(np.int32)[None]}


def label_map(shape, n_classes: int, rng) -> np.ndarray:
    """Synthetic label map ``(*S)`` uint8 that has every class: cells around random points, several of each class."""
    axes = [np.linspace(-1, 1, n) for n in shape]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(shape))
    seeds = rng.uniform(-0.7, 0.7, (2 * (n_classes - 1), len(shape)))
    _, nearest = cKDTree(seeds).query(points + rng.normal(0, 0.01, points.shape))
    inside = np.linalg.norm(points, axis=-1) < 0.9
    return np.where(inside, 1 + nearest % (n_classes - 1), 0).reshape(shape).astype(np.uint8)


def warp(shape, channels: int, seed: int = 0) -> dict[str, np.ndarray]:
    """image ``(1, *S, C)``, a smooth field u ``(1, *S, 3)`` of about two voxels, and the gradient at the output."""
    rng = np.random.default_rng(seed)
    u = gaussian_filter(rng.normal(size=(1, *shape, 3)), (0, 4, 4, 4, 0))
    image, gradient = (rng.normal(size=(1, *shape, channels), scale=1.0) for _ in range(2))
    arrays = {"image": image, "u": 2 * u / u.std(), "gradient": gradient}
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def alike(shape, seed: int = 0) -> dict[str, np.ndarray]:
    """Two images ``(1, *S, 1)`` that correlate positively everywhere, where all definitions of the local NCC agree."""
    rng = np.random.default_rng(seed)
    image = rng.uniform(size=(1, *shape, 1))
    other = 0.7 * image + 0.3 * rng.uniform(size=image.shape)
    return {"warped": image.astype(np.float32), "fixed": other.astype(np.float32)}


def evaluated(shape, n_classes: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Two label maps ``(*S)``, one warped by the smooth field u ``(*S, 3)`` of about two voxels."""
    rng = np.random.default_rng(seed)
    reference, u = label_map(shape, n_classes, rng), warp(shape, 1, seed)["u"][0]
    at = np.moveaxis(u, -1, 0) + np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"))
    return {"reference": reference, "prediction": map_coordinates(reference, at, order=0, mode="nearest"), "u": u}


def write_scans(folder: Path, arrays) -> None:
    """``moving.nii.gz`` and ``fixed.nii.gz``, int16 as scanners give them, 1 mm."""
    import nibabel as nib  # only here: the benchmark for GPUs does without

    for name in ("moving", "fixed"):
        volume = np.rint(1000 * arrays[name][0, ..., 0]).astype(np.int16)
        nib.save(nib.Nifti1Image(volume, np.eye(4)), folder / f"{name}.nii.gz")


def label_values(label: np.ndarray) -> dict[str, float]:
    """Figures of a label map that change with its shares and with their places."""
    return {"mean label": float(label.mean()), "mean label of the first half": float(label[: len(label) // 2].mean())}
