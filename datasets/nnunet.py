"""Listing a folder in the layout of nnU-Net and the Medical Segmentation Decathlon."""

from collections.abc import Sequence
from pathlib import Path

from deepatlas_tf.datasets.listing import ListedScan, Listing
from deepatlas_tf.scans.channel_files import are_channels, by_subject, folder_channels, nifti_files
from deepatlas_tf.scans.channels import ONE
from deepatlas_tf.scans.class_names import read_dataset_json
from deepatlas_tf.types import DataError


def read_folder(folder: Path) -> Listing:
    """The listing of such a folder. Raises DataError where it holds no scan, or ``dataset.json`` cannot be read."""
    images = nifti_files(folder / "imagesTr") + nifti_files(folder / "imagesTs")
    if not images:
        raise DataError(f"{folder / 'imagesTr'}: holds no .nii or .nii.gz file; use a CSV for scans that lie elsewhere")
    labelled = [stem for part in ("labelsTr", "labelsTs") for stem, _ in nifti_files(folder / part)]
    channels = folder_channels(folder, images) if are_channels([stem for stem, _ in images], labelled) else {}
    scans = _folder_scans(folder, "Tr", "", list(channels))
    # a challenge keeps the labels of its test scans to itself: they are not for training either
    scans += [scan for scan in _folder_scans(folder, "Ts", "test", list(channels)) if scan.label is not None]
    about = folder / "dataset.json"
    names = tuple(channels.values()) if len(channels) > 1 else ONE
    labels = read_dataset_json(about) if about.is_file() else {}
    return Listing(folder, tuple(scans), labels, names, labels_file=about if labels else None)


def _folder_scans(folder: Path, part: str, split: str, channels: Sequence[int]) -> list[ListedScan]:
    """The scans of ``imagesTr`` or ``imagesTs``; ``channels``: the numbers at the end of their names, () for none."""
    scans, maps = [], {}
    for stem, path in nifti_files(folder / f"labels{part}"):
        maps.setdefault(stem, []).append(path)
    files = nifti_files(folder / f"images{part}")
    subjects = by_subject(files) if channels else {}
    for stem, path in () if channels else files:
        subjects.setdefault(stem, []).append({0: path})
    for subject, found in subjects.items():
        for images in found:
            image, *others = (images.get(number) for number in channels or (0,))
            place = f"images{part}/{next(iter(images.values())).name}"
            for label in maps.get(subject, [None]):
                scans.append(ListedScan(subject, image, label, split, "", (), place, tuple(others)))
    orphans = [(stem, path) for stem in sorted(set(maps) - set(subjects)) for path in maps[stem]]
    missing = (None,) * (len(channels) - 1)
    return scans + [
        ListedScan(stem, None, path, split, "", (), f"labels{part}/{path.name}", missing) for stem, path in orphans
    ]
