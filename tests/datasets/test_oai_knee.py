import shutil

import nibabel as nib
import numpy as np
import pytest

from deepatlas_tf.datasets.load import load_dataset
from deepatlas_tf.datasets.oai_knee import make_dummy_data as dummy
from deepatlas_tf.datasets.oai_knee import originals, sides
from deepatlas_tf.datasets.oai_knee.oai_knee_dataset_builder import Builder
from deepatlas_tf.keras_stack import tfds
from deepatlas_tf.scans.grid import GridTransform
from deepatlas_tf.types import DataError, MissingDataError, SettingError

sitk = pytest.importorskip("SimpleITK")

# The dummy knees' own voxels in the order right, anterior, superior: nothing is resampled
GRID = {"shape": dummy.SIZE, "spacing": dummy.SPACING}
FOUR = ("background", "femur", "tibia", "femoral_cartilage", "tibial_cartilage")
FIVE = (*FOUR[:4], "medial_tibial_cartilage", "lateral_tibial_cartilage")
TO_FOUR, TO_FIVE = np.array([0, 1, 3, 2, 4, 4]), np.array([0, 1, 3, 2, 4, 5])
KNEES = {"9000001": "right", "9000002": "left", "9000003": "left", "9000004": "right", "9000005": "right"}


def load(tmp_path, folder, name="oai_knee", **options):
    return load_dataset(name, data_dir=tmp_path / "tfds", manual_dir=folder, **(options or GRID))


def records(data):
    splits = [data.builder.as_dataset(split=split).as_numpy_iterator() for split in data.subjects]
    return {record["subject"].decode(): record for split in splits for record in split}


def world(record):
    """The millimetres of each voxel of the network's grid, (*S, 3)."""
    shape = record["label"].shape
    return nib.affines.apply_affine(record["affine"], np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1))


@pytest.fixture
def cm(tmp_path):
    return dummy.make_oaizib_cm(tmp_path / "OAIZIB-CM")


@pytest.fixture
def original(tmp_path):
    return dummy.make_originals(tmp_path / "OAI-ZIB", KNEES)


def test_dummy_knee_differs_from_its_mirror_image():
    image, label, _ = dummy.knee_scan("right", 0, 0)
    assert set(np.unique(label)) == {0, 1, 2, 3, 4, 5}
    assert (label != label[::-1]).mean() > 0.1 and not np.array_equal(image, image[::-1])


def test_configurations():
    assert Builder.config_for().name == "four_structures_200x200x160_0.7mm"
    assert Builder.config_for(variant="five_structures").shape == (200, 200, 160)
    assert len({config.name for config in Builder.BUILDER_CONFIGS}) == 6
    with pytest.raises(SettingError, match="four_structures, five_structures"):
        Builder.config_for(variant="six_structures")


@pytest.mark.parametrize(
    ("name", "classes", "merged"),
    [("oai_knee", FOUR, TO_FOUR), ("oai_knee/five_structures", FIVE, TO_FIVE)],
)
def test_oaizib_cm(tmp_path, cm, name, classes, merged):
    data = load(tmp_path, cm.parent, name)
    assert data.class_names == classes
    assert {split: len(ids) for split, ids in data.subjects.items()} == {"train": 7, "validation": 1, "test": 2}
    assert data.subjects["test"] == ("oaizib_009", "oaizib_010")  # the publisher's
    for record in records(data).values():
        np.testing.assert_array_equal(record["label"], merged[dummy.knee_label(world(record))])
        assert record["labelled"].all() and not record["mirrored"]


def test_without_test_scans_the_split_is_drawn(tmp_path, cm):
    for part in ("imagesTs", "labelsTs"):
        shutil.rmtree(cm / part)
    sizes = {split: len(ids) for split, ids in load(tmp_path, cm).subjects.items()}
    assert sizes == {"train": 6, "validation": 1, "test": 1}


def test_same_subject_in_both_parts(tmp_path, cm):
    shutil.copy(cm / "imagesTr" / "oaizib_001_0000.nii.gz", cm / "imagesTs")
    shutil.copy(cm / "labelsTr" / "oaizib_001.nii.gz", cm / "labelsTs")
    with pytest.raises(DataError, match="oaizib_001 occurs twice"):
        load(tmp_path, cm)


@pytest.mark.parametrize("degrees", [0, 8])
def test_originals_and_left_knees(tmp_path, degrees):
    folder = dummy.make_originals(tmp_path / "OAI-ZIB", KNEES, degrees)
    data = load(tmp_path, folder.parent)
    assert data.class_names == FOUR and sorted(sum(data.subjects.values(), ())) == sorted(KNEES)
    for subject, record in records(data).items():
        left = KNEES[subject] == "left"
        assert record["mirrored"] == left and record["source_file"].decode().startswith("1000000")
        # where a voxel now is, a right knee has the same structure
        expected = dummy.knee_label(world(record), "right")
        np.testing.assert_array_equal(record["label"], TO_FOUR[expected])
        # and a left one at the mirrored place, which is where the scanner saw it
        seen = dummy.knee_label(world(record) * ([-1, 1, 1] if left else 1), KNEES[subject])
        np.testing.assert_array_equal(record["label"], TO_FOUR[seen])
        # the image went the same way: its intensities are 100 + 60 * number, +- 5
        low, high = _percentiles(folder, subject)
        number = np.rint((record["image"][..., 0] * (high - low) + low - 100) / 60)
        assert np.mean(np.minimum(number, 4) == np.minimum(expected, 4)) > 0.98


def _percentiles(folder, subject):
    image, _ = originals.load(next(scan for scan in originals.find_scans(folder) if scan.subject == subject))
    return np.percentile(image.volume, (0.5, 99.5))


def test_prediction_returns_to_the_scan_of_a_left_knee(tmp_path, original):
    data = load(tmp_path, original)
    scans = {scan.subject: scan for scan in originals.find_scans(original)}
    for subject, record in records(data).items():
        image, mask = originals.load(scans[subject])
        transform = GridTransform(record["source_affine"], tuple(record["source_shape"]), data.shape, data.spacing)
        # in the file's order of voxels, so that the scan's own affine belongs to it
        np.testing.assert_array_equal(
            transform.label_to_source(record["label"], 5), TO_FOUR[mask.volume], err_msg=subject
        )
        mirrored = sides.MIRROR @ image.affine
        np.testing.assert_allclose(record["source_affine"], mirrored if record["mirrored"] else image.affine)
        assert np.sign(np.linalg.det(record["affine"][:3, :3])) == 1  # right, anterior, superior either way


def test_side_from_a_table_goes_before_the_tags(tmp_path, original):
    lines = [f"{subject},{'R' if side == 'left' else 'L'}" for subject, side in KNEES.items()]
    (original / "sides.csv").write_text("subject,side\n" + "\n".join(lines) + "\n")
    found = records(load(tmp_path, original))
    assert {subject: not record["mirrored"] for subject, record in found.items()} == {
        subject: side == "left" for subject, side in KNEES.items()
    }


def test_left_knee_of_the_nifti_layout(tmp_path, cm):
    image, label, affine = dummy.knee_scan("left", 0, 3)
    nib.save(nib.Nifti1Image(image, affine), cm / "imagesTr" / "oaizib_003_0000.nii.gz")
    nib.save(nib.Nifti1Image(label, affine), cm / "labelsTr" / "oaizib_003.nii.gz")
    table = cm / "kneeSideInfo.csv"
    table.write_text(table.read_text().replace("003.nii.gz,right", "003.nii.gz,left"))
    record = records(load(tmp_path, cm))["oaizib_003"]
    assert record["mirrored"]
    np.testing.assert_array_equal(record["label"], TO_FOUR[dummy.knee_label(world(record), "right")])


def test_side_of_other_nifti_files_is_not_guessed(tmp_path, cm):
    (cm / "kneeSideInfo.csv").unlink()
    for part, end in (("imagesTr", "_0000.nii.gz"), ("labelsTr", ".nii.gz")):
        (cm / part / f"oaizib_002{end}").rename(cm / part / f"knee_2{end}")
    with pytest.raises(DataError, match="subject knee_2: it is not known whether .*knee_2_0000.nii.gz.*sides.csv"):
        load(tmp_path, cm)


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("9000001,left\n9000002,both\n", "subject 9000002 has neither left nor right"),
        ("9000001,left\n9000001,left\n", "subject 9000001 occurs twice"),
        ("9000001,left\n", "subject 9000002: .*sides.csv does not list it"),
    ],
)
def test_bad_table_of_sides(tmp_path, original, text, pattern):
    (original / "sides.csv").write_text(text)
    with pytest.raises(DataError, match=pattern):
        load(tmp_path, original)


@pytest.mark.parametrize(
    ("tags", "side"),
    [
        ({"0020|0060": "L"}, "left"),
        ({"0020|0062": "R"}, "right"),
        ({"0008|103e": "SAG_3D_DESS_LEFT"}, "left"),
        ({"0020|0060": "L", "0008|103e": "SAG_3D_DESS_RIGHT"}, "contradict"),
        ({"0008|103e": "SAG_3D_DESS LEFT AND RIGHT"}, "no tag"),
        ({"0020|0060": "B"}, "no tag"),
        ({}, "no tag"),
    ],
)
def test_side_of_a_series(tmp_path, tags, side):
    image, _, affine = dummy.knee_scan("left", 0, 0)
    dummy.write_series(tmp_path / "9000001", image, affine, tags)
    if side in ("left", "right"):
        assert sides.side_of_series(tmp_path / "9000001", "9000001") == side
    else:
        with pytest.raises(DataError, match=f"subject 9000001: .*{side}.*9000001.*sides.csv|subject 9000001: .*{side}"):
            sides.side_of_series(tmp_path / "9000001", "9000001")


def test_nothing_there(tmp_path):
    with pytest.raises(MissingDataError, match="not found"):
        load(tmp_path, tmp_path)


@pytest.mark.slow
class OaizibCm(tfds.testing.DatasetBuilderTestCase):
    """TFDS's own checks on the NIfTI layout, in both variants; its default grids are too large for a test."""

    DATASET_CLASS = Builder
    SPLITS = {"train": 7, "validation": 1, "test": 2}
    BUILDER_CONFIG_NAMES_TO_TEST = [Builder.config_for(**GRID, variant=variant) for variant in Builder.VARIANTS]

    @pytest.fixture(autouse=True, scope="class")
    def _dummy_data(self, request, tmp_path_factory):
        request.cls.EXAMPLE_DIR = dummy.make_oaizib_cm(tmp_path_factory.mktemp("oaizib_cm"))
