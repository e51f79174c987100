"""MindBoggle-101: T1 brains of healthy adults, 31 cortical regions of each hemisphere labelled by hand (DKT31)."""

import pathlib
import re

import numpy as np

from deepatlas_tf.datasets.scan_builder import Scan, ScanBuilder
from deepatlas_tf.datasets.volume_builder import volume_config
from deepatlas_tf.scans import checks
from deepatlas_tf.types import DataError, MissingDataError

# FreeSurfer's number of each region; the files have it with 1000 added in the left and 2000 in the right hemisphere
REGIONS = {
    "caudal_anterior_cingulate": 2,
    "caudal_middle_frontal": 3,
    "cuneus": 5,
    "entorhinal": 6,
    "fusiform": 7,
    "inferior_parietal": 8,
    "inferior_temporal": 9,
    "isthmus_cingulate": 10,
    "lateral_occipital": 11,
    "lateral_orbitofrontal": 12,
    "lingual": 13,
    "medial_orbitofrontal": 14,
    "middle_temporal": 15,
    "parahippocampal": 16,
    "paracentral": 17,
    "pars_opercularis": 18,
    "pars_orbitalis": 19,
    "pars_triangularis": 20,
    "pericalcarine": 21,
    "postcentral": 22,
    "posterior_cingulate": 23,
    "precentral": 24,
    "precuneus": 25,
    "rostral_anterior_cingulate": 26,
    "rostral_middle_frontal": 27,
    "superior_frontal": 28,
    "superior_parietal": 29,
    "superior_temporal": 30,
    "supramarginal": 31,
    "transverse_temporal": 34,
    "insula": 35,
}
FILES = {  # variant: names of image and label map in a subject's folder
    "mni152": ("t1weighted_brain.MNI152.nii.gz", "labels.DKT31.manual.MNI152.nii.gz"),
    "native": ("t1weighted_brain.nii.gz", "labels.DKT31.manual.nii.gz"),
}
TRAINING_GROUPS, TEST_GROUP = ("MMRR-21", "HLN-12", "NKI-TRT-20", "OASIS-TRT-20"), "NKI-RS-22"
SUBJECT = re.compile(rf"({'|'.join(TRAINING_GROUPS)}|{TEST_GROUP})-\d+")

# By the archive's list of sources these are NKI-RS-22-3 and NKI-RS-22-14 once more: nobody may be on both sides
ALSO_IN_TEST_GROUP = ("NKI-TRT-20-5", "NKI-TRT-20-14")
N_VALIDATION, N_TEST_GROUP = 10, 22


class Builder(ScanBuilder):
    """``manual_dir`` contains the groups' folders, or a folder that does. A subject's domain is its group."""

    pkg_dir_path = pathlib.Path(__file__).parent
    VARIANTS = tuple(FILES)
    BUILDER_CONFIGS = [
        volume_config((168, 200, 169), (1, 1, 1), variant="mni152"),  # the paper's
        volume_config((64, 80, 64), (2.75, 2.75, 2.75), variant="mni152"),
        # The brain is not in the middle of the scan: these hold the whole field of view
        volume_config((192, 256, 256), (1, 1, 1), variant="native"),
        volume_config((80, 104, 104), (2.5, 2.5, 2.5), variant="native"),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
The brains of MindBoggle-101 were not found.
Download Mindboggle101_volumes of its release 3 from mindboggle.info/data.html (osf.io/9ahyp), unpack its archives, and
give the folder that contains them with --manual_dir. Expected layout:
  OASIS-TRT-20_volumes/OASIS-TRT-20-N/    NKI-TRT-20_volumes/NKI-TRT-20-N/    MMRR-21_volumes/MMRR-21-N/
  Extra-18_volumes/HLN-12-N/  (or HLN-12_volumes/HLN-12-N/)                   NKI-RS-22_volumes/NKI-RS-22-N/
each with
  t1weighted_brain.MNI152.nii.gz    labels.DKT31.manual.MNI152.nii.gz         --dataset mindboggle101/mni152
  t1weighted_brain.nii.gz           labels.DKT31.manual.nii.gz                --dataset mindboggle101/native
NKI-RS-22, for validation and test, and one of the other groups are needed.
`--dataset phantom_brain` (synthetic) runs without these data."""
    LABELS = {name: (1000 + number, 2000 + number) for name, number in REGIONS.items()}

    def find_scans(self, manual_dir):
        image_name, label_name = FILES[self.builder_config.variant]
        places = {}
        for place in sorted([*manual_dir.glob("*_volumes*/*"), *manual_dir.glob("*/*_volumes*/*")]):
            image, label = place / image_name, place / label_name
            if place.name in ALSO_IN_TEST_GROUP or not SUBJECT.fullmatch(place.name):
                continue
            if image.is_file():
                checks.check_new(place.name, place, places)
                places[place.name] = place
            elif label.is_file():
                raise DataError(
                    f"subject {place.name}: label map {label} has no {image_name}; unpack its archive again"
                )
        scans = [Scan(subject, place / image_name, place / label_name) for subject, place in places.items()]
        return [scan if scan.label.is_file() else scan._replace(label=None) for scan in scans]

    def split(self, labelled):
        """Training groups as they are; of NKI-RS-22 10 to validate and 12 to test, drawn with RandomState(0).

        Raises MissingDataError where a split would be left without subjects.
        """
        test_group = sorted(subject for subject in labelled if group_of(subject) == TEST_GROUP)
        train = sorted(set(labelled) - set(test_group))
        if not train:
            raise self._too_few("nothing to train with: of " + ", ".join(TRAINING_GROUPS) + " no subject was found")
        if len(test_group) < 4:
            raise self._too_few(
                f"of {TEST_GROUP} only {len(test_group)} subject(s) were found; at least 4 are needed, two to validate "
                "and two to test"
            )
        n_validation = max(2, len(test_group) * N_VALIDATION // N_TEST_GROUP)
        order = np.random.RandomState(0).permutation(test_group).tolist()
        return {"train": train, "validation": order[:n_validation], "test": order[n_validation:]}

    def _too_few(self, reason: str) -> MissingDataError:
        image_name, label_name = FILES[self.builder_config.variant]
        return MissingDataError(
            f"{self.name}/{self.builder_config.variant}: {reason} (with {image_name} and {label_name}).\n"
            f"{self.MANUAL_DOWNLOAD_INSTRUCTIONS}"
        )

    def domains(self, subjects):
        return {subject: group_of(subject) for subject in subjects}


def group_of(subject: str) -> str:
    """``NKI-RS-22`` of ``NKI-RS-22-3``: where the subject was scanned."""
    return subject.rpartition("-")[0]
