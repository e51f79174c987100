"""Skull-stripped T1 brains with Neuromorphometrics labels, merged into twelve structures."""

import csv
import pathlib

from deepatlas_tf.datasets.scan_builder import ScanBuilder, find_folder, scans_in
from deepatlas_tf.datasets.volume_builder import volume_config
from deepatlas_tf.types import DataError


class Builder(ScanBuilder):
    """``manual_dir`` is the folder of the scans or the folder that contains it as ``brains``."""

    pkg_dir_path = pathlib.Path(__file__).parent
    BUILDER_CONFIGS = [volume_config((48, 64, 48), (3.3, 3.3, 3.3)), volume_config((80, 104, 80), (2, 2, 2))]
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
The brain scans were not found.
Give the folder that contains brains/ with --manual_dir: skull-stripped T1 scans (OASIS-1) with Neuromorphometrics
labels, as in the MICCAI 2012 Multi-Atlas Labeling Challenge. Expected layout:
  brains/NNNN_t1.nii.gz
  brains/NNNN_labels.nii.gz
  brains/labels.csv            first column: the label numbers that may occur
`--dataset phantom_knee` (synthetic) runs without these data."""
    # left and right merged; Neuromorphometrics numbers the cortical regions from 100 on
    LABELS = {
        "thalamus": (59, 60),
        "caudate": (36, 37),
        "putamen": (57, 58),
        "pallidum": (55, 56),
        "hippocampus": (47, 48),
        "amygdala": (31, 32),
        "lateral_ventricle": (51, 52),
        "brain_stem": (35,),
        "cerebellar_cortex": (38, 39),
        "cerebellar_white_matter": (40, 41),
        "cerebral_white_matter": (44, 45),
        "cerebral_cortex": range(100, 256),
    }
    SPLIT = (5, 2, 14)

    def find_scans(self, manual_dir):
        folder = find_folder(manual_dir, "brains", "labels.csv", self.MANUAL_DOWNLOAD_INSTRUCTIONS)
        self._declared = label_numbers(folder / "labels.csv")
        return scans_in(folder, folder, "_t1", "_labels")

    def declared_numbers(self):
        return {0, *self._declared}


def label_numbers(path: pathlib.Path) -> frozenset[int]:
    """The first column of ``labels.csv`` below its heading. Raises DataError where it is not a column of numbers."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            return frozenset(int(row[0]) for row in list(csv.reader(lines))[1:] if row)
    except (ValueError, csv.Error) as error:
        raise DataError(
            f"{path}: the first column must hold label numbers below one line of headings ({error})"
        ) from None
