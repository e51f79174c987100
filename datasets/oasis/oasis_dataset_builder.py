"""Neurite-OASIS: 414 skull-stripped T1 brains of OASIS-1 in one affinely aligned space, volumes and coronal slices."""

import pathlib
from collections.abc import Collection, Sequence

from deepatlas_tf.datasets.scan_builder import Scan, ScanBuilder
from deepatlas_tf.datasets.splits import split_subjects
from deepatlas_tf.datasets.volume_builder import volume_config
from deepatlas_tf.types import DataError, MissingDataError

# FreeSurfer's structures in the order of its numbers; seg35 and seg24 number them 1, 2, ..., the right ones last
STRUCTURES = (
    "cerebral_white_matter",
    "cerebral_cortex",
    "lateral_ventricle",
    "inferior_lateral_ventricle",
    "cerebellar_white_matter",
    "cerebellar_cortex",
    "thalamus",
    "caudate",
    "putamen",
    "pallidum",
    "third_ventricle",
    "fourth_ventricle",
    "brain_stem",
    "hippocampus",
    "amygdala",
    "accumbens",
    "ventral_diencephalon",
    "vessel",
    "choroid_plexus",
)
UNPAIRED = ("third_ventricle", "fourth_ventricle", "brain_stem")
NOT_IN_SLICE = (
    "cerebellar_white_matter",
    "cerebellar_cortex",
    "fourth_ventricle",
    "amygdala",
    "accumbens",
    "vessel",
)
TISSUES = ("cortex", "subcortical_grey_matter", "white_matter", "csf")


def _both_sides(structures: Sequence[str], without: Collection[str] = ()) -> tuple[str, ...]:
    names = [name for name in structures if name not in without]
    left = (name if name in UNPAIRED else f"left_{name}" for name in names)
    return (*left, *(f"right_{name}" for name in names if name not in UNPAIRED))


VOLUME, SLICE = "aligned_norm.nii.gz", "slice_norm.nii.gz"
FILES = {  # variant: image, label map, the label map's classes from number 1 on
    "seg35": (VOLUME, "aligned_seg35.nii.gz", _both_sides(STRUCTURES)),
    "seg4": (VOLUME, "aligned_seg4.nii.gz", TISSUES),
    "seg24_2d": (SLICE, "slice_seg24.nii.gz", _both_sides(STRUCTURES, NOT_IN_SLICE)),
    "seg4_2d": (SLICE, "slice_seg4.nii.gz", TISSUES),
}
# The subjects on which the Learn2Reg challenge of 2021 validates
LEARN2REG = {f"OASIS_OAS1_{number:04d}_MR1" for number in range(438, 458)}
FOLDERS = (".", "oasis", "neurite-oasis.v1.0", "neurite-oasis.2d.v1.0")


class Builder(ScanBuilder):
    """``manual_dir`` is the folder of the subjects' folders, or contains it under the name of the archive or ``oasis``.

    The files' axes lead to left, inferior, anterior (slices: left, inferior); the grids' to right, anterior, superior
    (right, superior): a volume of 160 x 192 x 224 becomes one of 160 x 224 x 192.
    """

    pkg_dir_path = pathlib.Path(__file__).parent
    VARIANTS = tuple(FILES)
    BUILDER_CONFIGS = [
        *(volume_config((160, 224, 192), (1, 1, 1), variant=name) for name in ("seg35", "seg4")),
        *(volume_config((80, 112, 96), (2, 2, 2), variant=name) for name in ("seg35", "seg4")),
        *(volume_config((160, 192), (1, 1), variant=name) for name in ("seg24_2d", "seg4_2d")),
        *(volume_config((80, 96), (2, 2), variant=name) for name in ("seg24_2d", "seg4_2d")),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
The brains of neurite-OASIS were not found.
Download neurite-oasis.v1.0.tar (6.6 GB), or for the slices alone neurite-oasis.2d.v1.0.tar (24 MB), by the links in
github.com/adalca/medical-datasets/blob/master/neurite-oasis.md, unpack it, and give its folder with --manual_dir.
Expected layout:
  OASIS_OAS1_NNNN_MR1/aligned_norm.nii.gz    with aligned_seg35.nii.gz    --dataset oasis/seg35
                                             with aligned_seg4.nii.gz     --dataset oasis/seg4
  OASIS_OAS1_NNNN_MR1/slice_norm.nii.gz      with slice_seg24.nii.gz      --dataset oasis/seg24_2d
                                             with slice_seg4.nii.gz       --dataset oasis/seg4_2d
`--dataset phantom_brain` (synthetic) runs without these data."""
    SPLIT = (20, 20, 100)  # only where not all of the challenge's subjects are there

    def label_numbers(self):
        names = FILES[self.builder_config.variant][2]
        return {name: (number,) for number, name in enumerate(names, start=1)}

    def find_scans(self, manual_dir):
        image_name, label_name, _ = FILES[self.builder_config.variant]
        for folder in (manual_dir / name for name in FOLDERS):
            places = sorted(path for path in folder.glob("OASIS_OAS1_*_MR1") if path.is_dir())
            orphans = [path for path in places if (path / label_name).is_file() and not (path / image_name).is_file()]
            if orphans:
                label = orphans[0] / label_name
                raise DataError(f"subject {orphans[0].name}: label map {label} has no {image_name}; unpack it again")
            places = [path for path in places if (path / image_name).is_file()]
            if places:
                scans = [Scan(path.name, path / image_name, path / label_name) for path in places]
                return [scan if scan.label.is_file() else scan._replace(label=None) for scan in scans]
        raise MissingDataError(self.MANUAL_DOWNLOAD_INSTRUCTIONS)

    def split(self, labelled):
        """Test: the 20 subjects on which Learn2Reg validates; of the others 20 to validate, drawn with RandomState(0).

        Where one of the 20 is missing, all are drawn.
        """
        if not LEARN2REG <= set(labelled):
            return super().split(labelled)
        rest = [subject for subject in labelled if subject not in LEARN2REG]
        return {**split_subjects(rest, 0, 20, 100), "test": sorted(LEARN2REG)}
