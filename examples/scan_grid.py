"""A NIfTI scan on the grid that an exported model takes, and the model's labels back on the scan's own grid.

Used by serving_client.py and rest_client.py; copy it together with them, foreground.py and windows.py, which are those
of deepatlas_tf. Needs NumPy, SciPy and nibabel, neither deepatlas_tf nor TensorFlow.
"""

import json
import os
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
from foreground import around_content, without_border
from nibabel.processing import resample_from_to
from scipy.ndimage import gaussian_filter
from windows import apply_in_windows


def read_metadata(path: Path) -> dict:
    """``assets/metadata.json`` of the exported model: spacing (mm) and shape of its grid, names of the classes.

    Ends the program with one line where it cannot be read, or scans have to be aligned first.
    """
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SystemExit(f"cannot read {path} ({error}): give assets/metadata.json of the exported model") from None
    if metadata.get("alignment", "none") != "none":
        raise SystemExit(f"{path}: this model takes scans aligned to its reference: use deepatlas segment")
    return metadata


def check_output(path: Path) -> None:
    """Ends the program with one line where no NIfTI file can be written there; for before the server is asked."""
    if not path.name.endswith((".nii", ".nii.gz")):
        raise SystemExit(f"{path}: the name of the result must end in .nii or .nii.gz")
    if not path.parent.is_dir():
        raise SystemExit(f"{path}: there is no folder {path.parent}: make it first")
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise SystemExit(f"{path} cannot be written: choose another place")


def read_scan(path: Path) -> nib.Nifti1Image:
    """The scan; ends the program with one line where it cannot be read, or a voxel is no finite number.

    The model refuses such a voxel, too.
    """
    try:
        scan = nib.load(path)
        finite = np.isfinite(np.asarray(scan.dataobj, np.float32)).all()
    except (OSError, ValueError, EOFError, zlib.error, nib.filebasedimages.ImageFileError) as error:
        raise SystemExit(f"cannot read {path} ({error}): check the path, or export it again") from None
    if not finite:
        raise SystemExit(f"{path} has voxels that are NaN or infinite: replace them first")
    return scan


def read_channels(text: str, metadata: dict) -> list[nib.Nifti1Image]:
    """The scan's channels: its files, with commas between them, in the order of the model's ``channel_names``.

    Ends the program with one line where there are others than the model takes, or they lie on different grids.
    """
    names, files = metadata.get("channel_names", ["image"]), text.split(",")
    if len(files) != len(names):
        raise SystemExit(f"{text}: the model takes {len(names)} channel(s), {', '.join(names)}: give a file for each")
    first, *others = [read_scan(Path(file)) for file in files]
    for file, other in zip(files[1:], others, strict=True):
        if other.shape[:3] != first.shape[:3] or not np.allclose(other.affine, first.affine, atol=1e-2):
            raise SystemExit(f"{file} does not lie on the grid of {files[0]}: resample it first")
    return [first, *others]


def to_model_grid(scan: nib.Nifti1Image, metadata: dict, others=()) -> nib.Nifti1Image:
    """The scan in [0, 1], with axes towards right, anterior, superior and the model's voxel size, about its centre.

    Empty space around the anatomy would change what the model says everywhere: the scan is cut to its anatomy first.
    ``others`` are its further channels; with these the result is (X, Y, Z, channel).
    """
    whole = nib.as_closest_canonical(scan)
    region = shown_part(whole, metadata)
    factors = np.array(metadata["spacing"]) / nib.affines.voxel_sizes(whole.affine)
    channels = [cropped(one, region) for one in (whole, *map(nib.as_closest_canonical, others))]
    canonical = channels[0]
    size = np.array(canonical.shape)
    # all of it, and at least the size of the images in training
    shape = np.maximum(np.ceil(size / factors - 1e-3), metadata["shape"]).astype(int)
    step = np.diag([*factors, 1.0])
    step[:3, 3] = (size - 1) / 2 - factors * (shape - 1) / 2
    # what a larger voxel of a scanner would have averaged is averaged before (Cardoso et al., MICCAI 2015)
    sigma = np.sqrt(np.maximum(factors**2 - 1, 0)) / np.sqrt(8 * np.log(2))
    found = []
    for channel in channels:
        volume = gaussian_filter(rescale(np.asarray(channel.dataobj, np.float32)), sigma, mode="nearest")
        smooth = nib.Nifti1Image(volume, canonical.affine)
        found.append(resample_from_to(smooth, (tuple(shape), canonical.affine @ step), order=1, mode="nearest"))
    if len(found) == 1:
        return found[0]
    return nib.Nifti1Image(np.stack([one.dataobj for one in found], axis=-1), found[0].affine)


def shown_part(whole: nib.Nifti1Image, metadata: dict) -> tuple[slice, ...]:
    """The part that the model is shown of a scan with its axes towards right, anterior, superior."""
    factors = np.array(metadata["spacing"]) / nib.affines.voxel_sizes(whole.affine)
    return anatomy(whole, np.floor(factors * metadata["shape"] + 1e-3).astype(int))


def anatomy(scan: nib.Nifti1Image, sizes) -> tuple[slice, ...]:
    """The part of a scan without an added border, and in much air about as large as the training grid, ``sizes``."""
    volume = np.asarray(scan.dataobj, np.float32).reshape(scan.shape[:3])
    outer = without_border(volume)
    inner = around_content(volume[outer], sizes)
    return tuple(slice(a.start + b.start, a.start + b.stop) for a, b in zip(outer, inner, strict=True))


def cropped(scan: nib.Nifti1Image, region: tuple[slice, ...]) -> nib.Nifti1Image:
    """The part of a scan, at the same place in space."""
    step = np.eye(4)
    step[:3, 3] = [part.start for part in region]
    return nib.Nifti1Image(np.asarray(scan.dataobj, np.float32).reshape(scan.shape[:3])[region], scan.affine @ step)


def segment_grid(segment, grid: nib.Nifti1Image, metadata: dict) -> np.ndarray:
    """Labels (1, X, Y, Z) of the model on ``grid``, in windows of the training size where it is larger.

    ``segment`` takes images (1, X, Y, Z, K) and gives labels (1, X, Y, Z). Where windows overlap, they vote, with the
    weights by which ``deepatlas segment`` averages probabilities.
    """
    classes = np.eye(len(metadata["class_names"]), dtype=np.float32)
    votes = apply_in_windows(lambda window: classes[segment(window[None])[0]], to_batch(grid)[0], metadata["shape"])
    return votes.argmax(axis=-1)[None]


def rescale(volume: np.ndarray) -> np.ndarray:
    """To [0, 1] between the 0.5 and 99.5 percentiles of what is not 0, as in training: before voxels are resampled.

    The model's signature ``segment`` does the same with images that need no resampling.
    """
    inside = volume[volume != 0]
    low, high = np.percentile(inside, (0.5, 99.5)) if inside.size else (0, 0)
    return np.clip((volume - low) / (high - low), 0, 1) if high > low else np.zeros_like(volume)


def to_batch(image: nib.Nifti1Image) -> np.ndarray:
    """(1, X, Y, Z, K) float32 of K channels, as the model takes it."""
    volume = np.asarray(image.dataobj, np.float32)
    return volume.reshape(1, *volume.shape[:3], -1)


def save_labels(labels: np.ndarray, grid: nib.Nifti1Image, scan: nib.Nifti1Image, path: Path, metadata: dict) -> None:
    """Write labels (1, X, Y, Z), which lie on ``grid``, on the scan's own grid; nearest neighbours.

    What the model was not shown of the scan is background, also where the grid, which is padded, reaches beyond it.
    The numbers are those of the label files that the model was trained on, as ``deepatlas segment`` writes them.
    """
    on_grid = nib.Nifti1Image(labels[0].astype(np.int16), grid.affine)
    on_scan = resample_from_to(on_grid, (scan.shape[:3], scan.affine), order=0)
    numbers = metadata.get("class_numbers") or range(len(metadata["class_names"]))
    kind = next(kind for kind in (np.uint8, np.uint16, np.int32) if max(numbers) <= np.iinfo(kind).max)
    whole = nib.as_closest_canonical(scan)
    shown = np.zeros(whole.shape[:3], np.uint8)
    shown[shown_part(whole, metadata)] = 1
    # the voxels of ``whole`` in another order; "nearest", so that rounding puts none outside
    shown_in = nib.Nifti1Image(shown, whole.affine)
    inside = resample_from_to(shown_in, (scan.shape[:3], scan.affine), order=0, mode="nearest")
    volume = np.array(list(numbers), kind)[np.asarray(on_scan.dataobj, int) * np.asarray(inside.dataobj, int)]
    result = nib.Nifti1Image(volume, scan.affine, scan.header)
    result.set_data_dtype(kind)
    result.set_sform(scan.affine, 1)
    result.set_qform(scan.affine, 1)  # programs that read the one and those that read the other see the same place
    result.header["cal_min"] = result.header["cal_max"] = 0
    nib.save(result, path)
