"""Axial slices of the brains, split by subject, as a list for ``--dataset nifti``.

    python benchmarks/brain_slices.py --data DATA --output slices

DATA is the folder of the scans that ``--dataset brains`` reads. They are aligned to their reference and brought to 2 mm
as for a training at 2 mm, so that one level is the same part of every brain; ``SLICES`` levels next to each other are
written, the middle one being that in which the training subjects have the most of ``CENTRE``. A slice is a subject of
its own (``1000_z41``), in the split of its brain. Classes are those that nine of ten slices of training have; all else
is background. The first N of the list are labelled by ``--labels N``: it is shuffled, and slices that show all classes
come first, as whoever paints one label map would choose one.
"""

import argparse
import csv
from pathlib import Path

import nibabel as nib
import numpy as np

from deepatlas_tf.datasets.load import DataSet
from deepatlas_tf.run import load_data, make_experiment

SLICES, CENTRE, MOST = 8, "thalamus", 0.9
GRID = ("data.shape=(80,104,80)", "data.spacing=(2.0,2.0,2.0)")
LIST = "scans.csv"  # written last


def slice_list(data: Path, folder: Path) -> Path:
    """The list of the slices in ``folder``, made first where it is not there."""
    path = folder / LIST
    if not path.exists():
        brains = load_data(make_experiment("brains", settings=GRID).data, None, folder / "prepared", data)
        write_slices(brains, folder)
    return path


def write_slices(brains: DataSet, folder: Path) -> None:
    """Images, label maps, names of the classes and the list, of volumes that have one grid and a label map each."""
    scans = [(split, record) for split in brains.subjects for record in brains.records(split).as_numpy_iterator()]
    of_training = np.stack([record["label"] for split, record in scans if split == "train"])
    levels = middle_levels(of_training == brains.class_names.index(CENTRE), SLICES)
    classes = common_classes(of_training[..., levels], len(brains.class_names))
    folder.mkdir(parents=True, exist_ok=True)
    affine = np.diag([*brains.spacing[:2], 1.0, 1.0])
    rows, whole = [], set()
    for split, record in scans:
        labels = np.where(np.isin(record["label"], classes), record["label"], 0).astype(np.int16)
        for level in levels:
            name = f"{record['subject'].decode()}_z{level}"
            image, label = record["image"][..., level, 0].astype(np.float32), labels[..., level]
            for kind, values in (("image", image), ("label", label)):
                nib.save(nib.Nifti1Image(values, affine), folder / f"{name}_{kind}.nii.gz")
            rows.append((name, f"{name}_image.nii.gz", f"{name}_label.nii.gz", split))
            if np.isin(classes, label).all():
                whole.add(name)
    rows = sorted(np.random.RandomState(0).permutation(rows).tolist(), key=lambda row: row[0] not in whole)
    names = [("number", "name"), *((c, brains.class_names[c]) for c in classes)]
    _write(folder / "scans_labels.csv", names)
    _write(folder / LIST, [("subject", "image", "label", "split"), *rows])


def _write(path: Path, rows: list[tuple]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def middle_levels(masks: np.ndarray, n: int) -> list[int]:
    """``n`` neighbouring indices along the last axis of masks ``(N, *S)`` about the one with the most voxels."""
    centre = int(np.argmax(masks.sum(axis=tuple(range(masks.ndim - 1)))))
    first = min(max(centre - n // 2, 0), masks.shape[-1] - n)
    return list(range(first, first + n))


def common_classes(labels: np.ndarray, n_classes: int) -> list[int]:
    """The classes but the background that most slices of label maps ``(N, H, W, levels)`` have."""
    return [c for c in range(1, n_classes) if (labels == c).any(axis=(1, 2)).mean() >= MOST]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DATA", help="the folder of the scans")
    parser.add_argument("--output", type=Path, required=True, help="folder of the slices")
    args = parser.parse_args()
    print(slice_list(args.data.absolute(), args.output.absolute()))


if __name__ == "__main__":
    main()
