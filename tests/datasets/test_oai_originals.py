"""The originals of oai_knee: finding series and masks, and what of them cannot be used."""

import shutil

import nibabel as nib
import numpy as np
import pytest

from deepatlas_tf.datasets.load import load_dataset
from deepatlas_tf.datasets.oai_knee import make_dummy_data as dummy
from deepatlas_tf.datasets.oai_knee import originals
from deepatlas_tf.datasets.oai_knee.oai_knee_dataset_builder import Builder
from deepatlas_tf.keras_stack import tfds
from deepatlas_tf.types import DataError, SettingError

sitk = pytest.importorskip("SimpleITK")

GRID = {"shape": dummy.SIZE, "spacing": dummy.SPACING}
KNEES = {"9000001": "right", "9000002": "left", "9000003": "left", "9000004": "right", "9000005": "right"}


def load(tmp_path, folder, name="oai_knee"):
    return load_dataset(name, data_dir=tmp_path / "tfds", manual_dir=folder, **GRID)


@pytest.fixture
def original(tmp_path):
    return dummy.make_originals(tmp_path / "OAI-ZIB", KNEES)


def test_layout_as_the_oai_and_zib_deliver_it(tmp_path, original):
    """Many series in the baseline's folders, a list that names one each, the lists of the cross-validation."""
    folder = tmp_path / "delivered"
    lines = []
    for subject in KNEES:
        (series,) = (original / "images" / subject).glob("*/*")
        place = f"0.C.2/{subject}/20050112/{series.name}"
        shutil.copytree(series, folder / "00m" / place)
        shutil.copytree(series, folder / "00m" / "0.C.2" / subject / "20050112" / "10999999")
        lines.append(f"{subject}: {place}\n")
    (folder / "segmentation").mkdir()
    shutil.copytree(original / "masks", folder / "segmentation" / "segmentation_masks")
    doc = folder / "segmentation" / "doc"
    doc.mkdir()
    (doc / "oai_mri_paths.txt").write_text("".join(lines))
    (doc / "2foldCrossValidation-List2.txt").write_text("9000004\n9999999\n")
    data = load(tmp_path, folder)
    assert data.subjects["test"] == ("9000004",) and len(data.subjects["validation"]) == 1
    assert len(data.subjects["train"]) == 3


def test_release_folders_and_unlabelled_knees(tmp_path, original):
    inner = original / "images" / "0.C.2"
    inner.mkdir()
    for subject in ("9000001", "9000002"):
        (original / "images" / subject).rename(inner / subject)
    shutil.copytree(inner / "9000001", original / "images" / "9000009")
    data = load(tmp_path, original)
    assert "9000009" in data.subjects["train"] and "9000009" not in data.labelled["train"]
    train = {record["subject"]: record for record in data.builder.as_dataset(split="train").as_numpy_iterator()}
    assert not train[b"9000009"]["labelled"].any()


def without_series(folder):
    shutil.rmtree(folder / "images" / "9000003")
    return "subject 9000003: mask .*9000003.segmentation_masks.mhd has no DICOM series"


def no_series(folder):
    shutil.rmtree(folder / "images")
    return "subject 9000001: .*no DICOM series.*nor have 4 other masks"


def several_series(folder):
    shutil.copytree(next((folder / "images" / "9000003").glob("*/*")), folder / "images" / "9000003" / "other")
    return "subject 9000003: .*2 folders with files.*oai_mri_paths.txt"


def missing_slice(folder):
    next((folder / "images" / "9000003").glob("*/*/004")).unlink()
    return "subject 9000003: .*slices 00[35] and 00[35] are 8 mm apart"


def mask_of_another_scan(folder):
    path = folder / "masks" / "9000003.segmentation_masks.mhd"
    image = sitk.GetImageFromArray(np.ones(dummy.SIZE, np.uint8))  # axes in the wrong order
    sitk.WriteImage(image, path)
    return "subject 9000003: mask .*9000003.segmentation_masks.mhd.*not of one scan"


def mask_with_other_voxels(folder):
    path = folder / "masks" / "9000003.segmentation_masks.mhd"
    image = sitk.ReadImage(path)
    image.SetSpacing((4.0, 3.0, 3.0))
    sitk.WriteImage(image, path)
    return "subject 9000003: mask .*voxels of .*2.5.* mm; they are not of one scan"


def undeclared(folder):
    path = folder / "masks" / "9000003.segmentation_masks.mhd"
    image = sitk.ReadImage(path) * 0 + 5
    sitk.WriteImage(image, path)
    return "subject 9000003: .*does not declare: 5"


def bad_list(folder):
    (folder / "oai_mri_paths.txt").write_text("9000001 0.C.2/9000001\n")
    return "oai_mri_paths.txt: the line .* is not"


@pytest.mark.parametrize(
    "spoil",
    [
        without_series,
        no_series,
        several_series,
        missing_slice,
        mask_of_another_scan,
        mask_with_other_voxels,
        undeclared,
        bad_list,
    ],
)
def test_unusable_originals_give_one_line_and_leave_nothing(tmp_path, original, spoil):
    pattern = spoil(original)
    with pytest.raises(DataError, match=pattern) as error:
        load(tmp_path, original)
    assert "\n" not in str(error.value)
    left = [
        path for path in (tmp_path / "tfds").rglob("*") if path.name == "dataset_info.json" or "tfrecord" in path.name
    ]
    assert not left


def test_mask_with_a_pose_must_have_that_of_the_scan(tmp_path, original):
    scan = originals.find_scans(original)[0]
    image, expected = originals.load(scan)
    mask = sitk.GetImageFromArray(expected.volume.astype(np.uint8).T)
    lps = np.diag([-1, -1, 1, 1]) @ image.affine
    sizes = nib.affines.voxel_sizes(lps)
    mask.SetSpacing(sizes.tolist())
    mask.SetDirection((lps[:3, :3] / sizes).ravel().tolist())
    mask.SetOrigin(lps[:3, 3].tolist())
    sitk.WriteImage(mask, scan.label)
    np.testing.assert_array_equal(originals.load(scan)[1].volume, expected.volume)
    mask.SetOrigin((lps[:3, 3] + 1).tolist())
    sitk.WriteImage(mask, scan.label)
    with pytest.raises(DataError, match="different affines"):
        originals.load(scan)


def test_originals_have_no_five_structures(tmp_path, original):
    with pytest.raises(SettingError, match="do not tell medial from lateral"):
        load(tmp_path, original, "oai_knee/five_structures")


@pytest.mark.slow
class OaiOriginals(tfds.testing.DatasetBuilderTestCase):
    """TFDS's own checks; its default grids are too large for a test."""

    DATASET_CLASS = Builder
    SPLITS = {"train": 2, "validation": 1, "test": 2}
    BUILDER_CONFIG_NAMES_TO_TEST = [Builder.config_for(**GRID)]

    @pytest.fixture(autouse=True, scope="class")
    def _dummy_data(self, request, tmp_path_factory):
        request.cls.EXAMPLE_DIR = dummy.make_originals(tmp_path_factory.mktemp("oai") / "originals", KNEES)
