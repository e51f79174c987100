"""Knees of the Osteoarthritis Initiative with the bone and cartilage labels of OAI-ZIB: OAIZIB-CM or the originals."""

import pathlib
import re

from deepatlas_tf.datasets.oai_knee import originals, sides
from deepatlas_tf.datasets.scan_builder import ScanBuilder, scans_in
from deepatlas_tf.datasets.splits import split_subjects
from deepatlas_tf.datasets.volume_builder import volume_config
from deepatlas_tf.keras_stack import tf, tfds
from deepatlas_tf.scans.nifti import Nifti
from deepatlas_tf.types import DataError, MissingDataError, SettingError

PAPER, HALF, QUARTER = ((200, 200, 160), (0.7,) * 3), ((100, 100, 80), (1.4,) * 3), ((50, 50, 40), (2.8,) * 3)

# Name of the class -> numbers in OAIZIB-CM. The originals have 4 for all tibial cartilage and no 5
BONES = {"femur": (1,), "tibia": (3,), "femoral_cartilage": (2,)}
STRUCTURES = {
    "four_structures": {**BONES, "tibial_cartilage": (4, 5)},
    "five_structures": {**BONES, "medial_tibial_cartilage": (4,), "lateral_tibial_cartilage": (5,)},
}
# The publisher's kneeSideInfo.csv has a right knee in each of its 507 lines
ALL_RIGHT = re.compile(r"oaizib_\d{3}")


class Builder(ScanBuilder):
    """``manual_dir`` is the folder of one of the layouts below, or it contains that as ``OAIZIB-CM`` or ``OAI-ZIB``.

    A left knee becomes a right one: its affine is mirrored, and with it everything that is laid out by that affine. The
    record's ``affine`` and ``source_affine`` are those of the mirrored knee (world x with the other sign), and
    ``mirrored`` tells so. Voxels that ``GridTransform`` brings back are in the order of the scan's file, which
    has its own affine.
    """

    pkg_dir_path = pathlib.Path(__file__).parent
    VARIANTS = tuple(STRUCTURES)
    BUILDER_CONFIGS = [volume_config(*grid, variant=name) for name in STRUCTURES for grid in (PAPER, HALF, QUARTER)]
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
The knee scans of the Osteoarthritis Initiative were not found.
Download OAIZIB-CM from Hugging Face (YongchengYAO/OAIZIB-CM) and unpack its zip files, or take the originals: the
images from nda.nih.gov (registration needed) and the OAI-ZIB masks from pubdata.zib.de. Give the folder with
--manual_dir. Expected layout, OAIZIB-CM:
  imagesTr/oaizib_NNN_0000.nii.gz    labelsTr/oaizib_NNN.nii.gz    training and validation
  imagesTs/oaizib_NNN_0000.nii.gz    labelsTs/oaizib_NNN.nii.gz    test
  labels: 1 femur, 2 femoral cartilage, 3 tibia, 4 medial and 5 lateral tibial cartilage
or the originals (the extra [itk] is needed):
  images/SUBJECT/                          at any depth, one DICOM series
  masks/SUBJECT.segmentation_masks.mhd     with its .raw
  labels: 1 femur, 2 femoral cartilage, 3 tibia, 4 tibial cartilage
`--dataset phantom_knee` (synthetic) runs without these data."""
    SPLIT = (20, 10, 100)  # only where the publisher's test scans are absent
    ORIGINALS_SPLIT = (254, 53, 507)  # the same without its lists: the sizes that they have

    def label_numbers(self):
        return STRUCTURES[self.builder_config.variant]

    def extra_features(self):
        return {"mirrored": tfds.features.Scalar(tf.bool)}

    def find_scans(self, manual_dir):
        for folder in (manual_dir, manual_dir / "OAIZIB-CM", manual_dir / "OAI-ZIB"):
            if (folder / "imagesTr").is_dir():
                self._is_original = False
                return self._find_nifti(folder)
            if originals.find_masks(folder):
                self._is_original = True
                return self._find_originals(folder)
        raise MissingDataError(self.MANUAL_DOWNLOAD_INSTRUCTIONS)

    def _find_nifti(self, folder):
        train = scans_in(folder / "imagesTr", folder / "labelsTr", "_0000")
        test = [scan for scan in scans_in(folder / "imagesTs", folder / "labelsTs", "_0000") if scan.label is not None]
        self._test = {scan.subject for scan in test}
        both = self._test & {scan.subject for scan in train}
        if both:
            raise DataError(f"subject {min(both)} occurs twice, in imagesTr and imagesTs of {folder}; remove one")
        self._set_sides(folder, train + test)
        return train + test

    def _find_originals(self, folder):
        if self.builder_config.variant == "five_structures":
            raise SettingError(
                f"oai_knee/five_structures: the masks in {folder} do not tell medial from lateral tibial cartilage; "
                "take OAIZIB-CM or --dataset oai_knee/four_structures"
            )
        scans = originals.find_scans(folder)
        self._test = originals.read_test_list(folder) & {scan.subject for scan in scans if scan.label is not None}
        self._set_sides(folder, scans)
        return scans

    def _set_sides(self, folder, scans):
        """Read the side of each knee from a table in the folder, else from the DICOM tags; nothing is guessed."""
        tables = (folder / name for name in ("sides.csv", "kneeSideInfo.csv", "info/kneeSideInfo.csv"))
        path = next((path for path in tables if path.is_file()), None)
        if path is not None:
            table = sides.read_sides(path)
            self._sides = {scan.subject: sides.side_in_table(scan.subject, table, path) for scan in scans}
        elif self._is_original:
            self._sides = {scan.subject: sides.side_of_series(scan.image, scan.subject) for scan in scans}
        else:
            unknown = [scan for scan in scans if not ALL_RIGHT.fullmatch(scan.subject)]
            if unknown:
                raise DataError(
                    f"subject {unknown[0].subject}: it is not known whether {unknown[0].image} is a left or a right "
                    f"knee; {sides.WAY_OUT}"
                )
            self._sides = {scan.subject: "right" for scan in scans}

    def split(self, labelled):
        """The publisher's test scans; of the others a tenth (OAIZIB-CM) or 53 of 253 (OAI-ZIB) for validation."""
        if not self._test:
            return split_subjects(labelled, *(self.ORIGINALS_SPLIT if self._is_original else self.SPLIT))
        rest = [subject for subject in labelled if subject not in self._test]
        validation = (53, 253) if self._is_original else (40, 400)
        return {**split_subjects(rest, 0, *validation), "test": sorted(self._test)}

    def load(self, scan):
        image, label = originals.load(scan) if self._is_original else super().load(scan)
        if self._sides[scan.subject] == "right":
            return image, label
        mirrored = sides.MIRROR @ image.affine
        return Nifti(image.volume, mirrored), label if label is None else Nifti(label.volume, mirrored)

    def declared_numbers(self):
        return {0, 1, 2, 3, 4} if self._is_original else super().declared_numbers()

    def read(self, subject):
        return super().read(subject) | {"mirrored": self._sides[subject] == "left"}
