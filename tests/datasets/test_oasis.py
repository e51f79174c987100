import shutil

import nibabel as nib
import numpy as np
import pytest

from deepatlas_tf.datasets.load import load_dataset
from deepatlas_tf.datasets.oasis import make_dummy_data as dummy
from deepatlas_tf.datasets.oasis.oasis_dataset_builder import FILES, LEARN2REG, Builder
from deepatlas_tf.keras_stack import tfds
from deepatlas_tf.scans.grid import GridTransform
from deepatlas_tf.scans.intensity import rescale
from deepatlas_tf.types import DataError, MissingDataError, SettingError

# The dummy brains' own voxels in the order right, anterior, superior (slices: right, superior): nothing is resampled
X, Y, Z = dummy.SIZE
GRIDS = {
    3: {"shape": (X, Z, Y), "spacing": (dummy.SPACING,) * 3},
    2: {"shape": (X, Y), "spacing": (dummy.SPACING,) * 2},
}
N_CLASSES = {"seg35": 35, "seg4": 4, "seg24_2d": 24, "seg4_2d": 4}


def grid(variant):
    return GRIDS[2 if variant.endswith("2d") else 3]


@pytest.fixture(scope="module")
def brains(tmp_path_factory):
    """Only read; a test that spoils files takes ``copy``."""
    return dummy.make(tmp_path_factory.mktemp("scans") / "neurite-oasis.v1.0")


@pytest.fixture
def copy(tmp_path, brains):
    return shutil.copytree(brains, tmp_path / "scans")


def load(tmp_path, folder, variant="seg35", **options):
    options = options or grid(variant)
    return load_dataset(f"oasis/{variant}", data_dir=tmp_path / "tfds", manual_dir=folder, **options)


def records(data):
    splits = [data.builder.as_dataset(split=split).as_numpy_iterator() for split in data.subjects]
    return {record["subject"].decode(): record for split in splits for record in split}


def as_seen(volume, variant):
    """(SIZE) in the files' order to right, anterior, superior, or the slice to right, superior."""
    volume = volume[::-1, ::-1]
    return volume[:, :, dummy.SLICE] if variant.endswith("2d") else volume.transpose(0, 2, 1)


@pytest.mark.parametrize(
    ("variant", "n_classes", "known"),
    [
        ("seg35", 35, {1: "left_cerebral_white_matter", 11: "third_ventricle", 19: "left_choroid_plexus"}),
        ("seg35", 35, {20: "right_cerebral_white_matter", 30: "right_hippocampus", 35: "right_choroid_plexus"}),
        ("seg24_2d", 24, {5: "left_thalamus", 10: "brain_stem", 13: "left_choroid_plexus", 22: "right_hippocampus"}),
        ("seg4", 4, {1: "cortex", 2: "subcortical_grey_matter", 3: "white_matter", 4: "csf"}),
        ("seg4_2d", 4, {1: "cortex", 4: "csf"}),
    ],
)
def test_classes_are_those_of_the_published_tables(variant, n_classes, known):
    names = FILES[variant][2]
    assert len(set(names)) == len(names) == n_classes
    assert {number: names[number - 1] for number in known} == known


def test_configurations():
    names = {variant: Builder.config_for(variant=variant).name for variant in Builder.VARIANTS}
    assert names == {
        "seg35": "seg35_160x224x192_1mm",
        "seg4": "seg4_160x224x192_1mm",
        "seg24_2d": "seg24_2d_160x192_1mm",
        "seg4_2d": "seg4_2d_160x192_1mm",
    }
    assert Builder.config_for().name == names["seg35"]
    with pytest.raises(SettingError, match="oasis has no variant 'seg24'; there are seg35, seg4, seg24_2d, seg4_2d"):
        Builder.config_for(variant="seg24")
    with pytest.raises(DataError, match=r"holds slices: shape \(8, 8, 8\)"):
        Builder.config_for((8, 8, 8), (1, 1, 1), variant="seg4_2d")
    with pytest.raises(DataError, match=r"holds volumes: shape \(8, 8\)"):
        Builder.config_for((8, 8), (1, 1), variant="seg4")


@pytest.mark.parametrize("variant", ["seg35", "seg4"])
def test_default_grid_is_the_published_volume(variant):
    affine = np.array([[-1.0, 0, 0, 80], [0, 0, 1, -112], [0, -1, 0, 96], [0, 0, 0, 1]])
    config = Builder.config_for(variant=variant)
    transform = GridTransform(affine, (160, 192, 224), config.shape, config.spacing)
    assert (
        transform.factors == (1, 1, 1) and transform.offsets == (0, 0, 0) and transform.canonical_shape == config.shape
    )


@pytest.mark.parametrize("variant", Builder.VARIANTS)
def test_records_are_the_files_turned_to_right_anterior_superior(tmp_path, brains, variant):
    data = load(tmp_path, brains.parent, variant)
    n = N_CLASSES[variant]
    assert data.class_names == ("background", *FILES[variant][2])
    found = records(data)
    assert sorted(found) == sorted(dummy.SUBJECTS)
    for subject, record in found.items():
        np.testing.assert_array_equal(record["label"], as_seen(dummy.brain_label(n), variant))
        image = dummy.brain_image(int(subject.split("_")[2]))
        image = image[:, :, dummy.SLICE : dummy.SLICE + 1] if variant.endswith("2d") else image
        expected = rescale(image)
        expected = expected[::-1, ::-1, 0] if variant.endswith("2d") else as_seen(expected, variant)
        np.testing.assert_allclose(record["image"][..., 0], expected, atol=1e-6)
        assert record["labelled"].shape == (n + 1,) and record["labelled"].all()
        np.testing.assert_allclose(np.linalg.norm(record["affine"][:-1, :-1], axis=0), data.spacing)


@pytest.mark.parametrize("variant", Builder.VARIANTS)
def test_prediction_returns_to_the_file(tmp_path, brains, variant):
    data = load(tmp_path, brains, variant)
    record = next(data.builder.as_dataset(split="test").as_numpy_iterator())
    transform = GridTransform(record["source_affine"], tuple(record["source_shape"]), data.shape, data.spacing)
    back = transform.label_to_source(record["label"], len(data.class_names))
    stored = nib.load(brains / record["subject"].decode() / FILES[variant][1]).get_fdata()
    np.testing.assert_array_equal(back, np.squeeze(stored))
    assert record["source_file"].decode() == FILES[variant][0]


@pytest.mark.parametrize("axes", [2, 3])
def test_slices_without_an_orientation(tmp_path, axes):
    """However its header reads, a slice keeps its two axes in their order."""
    folder = dummy.make(tmp_path / "scans", slice_axes=axes, slice_affine=np.diag([dummy.SPACING] * 3 + [1]))
    for record in records(load(tmp_path, folder, "seg24_2d")).values():
        np.testing.assert_array_equal(record["label"], dummy.brain_label(24)[:, :, dummy.SLICE])


def test_drawn_splits(tmp_path, brains):
    sizes = {}
    for variant in Builder.VARIANTS:
        data = load(tmp_path, brains, variant)
        sizes[variant] = data.subjects
    assert all(subjects == sizes["seg35"] for subjects in sizes.values())
    assert {name: len(ids) for name, ids in sizes["seg35"].items()} == {"train": 6, "validation": 2, "test": 2}


def test_splits_of_the_whole_archive():
    numbers = [*range(1, 395), *range(438, 458)]  # as many as there are; the published ones have gaps
    subjects = [f"OASIS_OAS1_{number:04d}_MR1" for number in numbers]
    splits = Builder.split(object.__new__(Builder), subjects)
    assert {name: len(ids) for name, ids in splits.items()} == {"train": 374, "validation": 20, "test": 20}
    assert splits["test"] == sorted(LEARN2REG) == subjects[-20:]
    assert sorted(sum(splits.values(), [])) == subjects
    fewer = Builder.split(object.__new__(Builder), subjects[:-1])
    assert set(fewer["test"]) != LEARN2REG and len(fewer["test"]) == 20


def test_archive_with_slices_only(tmp_path, copy):
    for path in copy.glob("*/aligned_*"):
        path.unlink()
    assert len(load(tmp_path, copy, "seg4_2d").subjects["train"]) == 6
    with pytest.raises(MissingDataError, match="neurite-oasis.v1.0.tar"):
        load(tmp_path, copy, "seg4")


def test_both_archives_side_by_side(tmp_path, copy):
    """Each variant takes the folder that has its files."""
    volumes, slices = tmp_path / "both" / "neurite-oasis.v1.0", tmp_path / "both" / "neurite-oasis.2d.v1.0"
    shutil.copytree(copy, volumes, ignore=shutil.ignore_patterns("slice_*"))
    shutil.copytree(copy, slices, ignore=shutil.ignore_patterns("aligned_*"))
    subjects = [load(tmp_path, tmp_path / "both", variant).subjects for variant in ("seg4", "seg4_2d")]
    assert subjects[0] == subjects[1]


@pytest.mark.slow
def test_scan_without_label_map(tmp_path, copy):
    (copy / dummy.SUBJECTS[3] / "aligned_seg35.nii.gz").unlink()
    data = load(tmp_path, copy)
    assert dummy.SUBJECTS[3] == data.subjects["train"][-1] and dummy.SUBJECTS[3] not in data.labelled["train"]
    assert not records(data)[dummy.SUBJECTS[3]]["labelled"].any()


def test_nothing_there_says_what_to_download(tmp_path):
    (tmp_path / "scans" / "OASIS_OAS1_0001_MR1").mkdir(parents=True)
    with pytest.raises(MissingDataError, match="were not found") as error:
        load(tmp_path, tmp_path / "scans")
    for part in (
        "neurite-oasis.v1.0.tar",
        "OASIS_OAS1_NNNN_MR1/aligned_norm.nii.gz",
        "slice_seg24.nii.gz",
        "Looked in",
    ):
        assert part in str(error.value)


def without_image(place):
    (place / "aligned_norm.nii.gz").unlink()
    return "has no aligned_norm.nii.gz"


def other_table(place):
    """FreeSurfer's own numbers instead of those from 1 to 35."""
    nib.save(nib.Nifti1Image(dummy.brain_label(35) + np.uint8(18), dummy.AFFINE), place / "aligned_seg35.nii.gz")
    return "aligned_seg35.nii.gz has numbers the data set does not declare: 36, 37"


def volume_for_slice(place):
    shutil.copy(place / "aligned_norm.nii.gz", place / "slice_norm.nii.gz")
    return r"slice_norm.nii.gz has shape \(10, 12, 14\); one 2D slice is needed"


@pytest.mark.parametrize(
    ("spoil", "variant"), [(without_image, "seg35"), (other_table, "seg35"), (volume_for_slice, "seg4_2d")]
)
def test_bad_files_give_one_line_and_leave_nothing(tmp_path, copy, spoil, variant):
    pattern = spoil(copy / dummy.SUBJECTS[1])
    with pytest.raises(DataError, match=f"subject {dummy.SUBJECTS[1]}: .*{pattern}") as error:
        load(tmp_path, copy, variant)
    assert "\n" not in str(error.value) and not isinstance(error.value, MissingDataError)
    assert not [path for path in (tmp_path / "tfds").rglob("*") if "tfrecord" in path.name]


@pytest.mark.slow
class Oasis(tfds.testing.DatasetBuilderTestCase):
    """TFDS's own checks on volumes and slices; the default grids are too large for a test."""

    DATASET_CLASS = Builder
    SPLITS = {"train": 6, "validation": 2, "test": 2}
    BUILDER_CONFIG_NAMES_TO_TEST = [Builder.config_for(**grid(name), variant=name) for name in ("seg35", "seg4_2d")]

    @pytest.fixture(autouse=True, scope="class")
    def _dummy_data(self, request, brains):
        request.cls.EXAMPLE_DIR = brains
