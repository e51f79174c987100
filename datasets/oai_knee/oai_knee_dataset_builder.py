"""Knees of the Osteoarthritis Initiative with the bone and cartilage labels of OAI-ZIB, in the layout of OAIZIB-CM."""

import pathlib

from deepatlas_tf.datasets.volumes import ScanBuilder, find_folder, scans_in, split_subjects, volume_config
from deepatlas_tf.types import DataError


class Builder(ScanBuilder):
    """``manual_dir`` is the folder with ``imagesTr`` or the folder that contains it as ``OAIZIB-CM``."""

    pkg_dir_path = pathlib.Path(__file__).parent
    BUILDER_CONFIGS = [volume_config((200, 200, 160), (0.7, 0.7, 0.7)), volume_config((100, 100, 80), (1.4, 1.4, 1.4))]
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
The knee scans of the Osteoarthritis Initiative were not found.
Download OAIZIB-CM from Hugging Face (YongchengYAO/OAIZIB-CM), or the images from nda.nih.gov (registration needed) and
the OAI-ZIB masks, and give their folder with --manual_dir. Expected layout:
  imagesTr/oaizib_NNN_0000.nii.gz    labelsTr/oaizib_NNN.nii.gz    training and validation
  imagesTs/oaizib_NNN_0000.nii.gz    labelsTs/oaizib_NNN.nii.gz    test
  labels: 1 femur, 2 femoral cartilage, 3 tibia, 4 medial and 5 lateral tibial cartilage
`--dataset phantom_knee` (synthetic) runs without these data."""
    LABELS = {"femur": (1,), "tibia": (3,), "femoral_cartilage": (2,), "tibial_cartilage": (4, 5)}
    CLASS_NAMES = ("background", *LABELS)
    SPLIT = (20, 10, 100)  # only where the test scans' folder is absent

    def find_scans(self, manual_dir):
        folder = find_folder(manual_dir, "OAIZIB-CM", "imagesTr", self.MANUAL_DOWNLOAD_INSTRUCTIONS)
        train = scans_in(folder / "imagesTr", folder / "labelsTr", "_0000")
        test = [scan for scan in scans_in(folder / "imagesTs", folder / "labelsTs", "_0000") if scan.label is not None]
        self._test = {scan.subject for scan in test}
        both = self._test & {scan.subject for scan in train}
        if both:
            raise DataError(f"subject {min(both)} occurs twice, in imagesTr and imagesTs of {folder}; remove one")
        return train + test

    def split(self, labelled):
        """The publisher's test scans, and a tenth of its training scans for validation."""
        if not self._test:
            return super().split(labelled)
        rest = [subject for subject in labelled if subject not in self._test]
        return {**split_subjects(rest, 0, 40, 400), "test": sorted(self._test)}
