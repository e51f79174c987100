"""Hippocampus of the Medical Segmentation Decathlon (Task04): T1 MR crops with anterior and posterior part labelled."""

import pathlib

from deepatlas_tf.datasets.volumes import ScanBuilder, find_folder, scans_in, volume_config


class Builder(ScanBuilder):
    """``manual_dir`` is ``Task04_Hippocampus`` or the folder that contains it."""

    pkg_dir_path = pathlib.Path(__file__).parent
    BUILDER_CONFIGS = [volume_config((48, 64, 48), (1, 1, 1)), volume_config((24, 32, 24), (2, 2, 2))]
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
The hippocampus scans were not found.
Download Task04_Hippocampus.tar of the Medical Segmentation Decathlon (medicaldecathlon.com), unpack it, and give the
folder that contains Task04_Hippocampus with --manual_dir. Expected layout:
  Task04_Hippocampus/imagesTr/hippocampus_NNN.nii.gz
  Task04_Hippocampus/labelsTr/hippocampus_NNN.nii.gz
`--dataset phantom_knee` (synthetic) runs without these data."""
    CLASS_NAMES = ("background", "anterior", "posterior")
    LABELS = {"anterior": (1,), "posterior": (2,)}
    SPLIT = (40, 20, 100)

    def find_scans(self, manual_dir):
        folder = find_folder(manual_dir, "Task04_Hippocampus", "imagesTr", self.MANUAL_DOWNLOAD_INSTRUCTIONS)
        return scans_in(folder / "imagesTr", folder / "labelsTr")
