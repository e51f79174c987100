import shutil

import nibabel as nib
import numpy as np
import pytest

from deepatlas_tf.datasets.load import load_dataset
from deepatlas_tf.datasets.mindboggle101 import make_dummy_data as dummy
from deepatlas_tf.datasets.mindboggle101.mindboggle101_dataset_builder import FILES, REGIONS, Builder
from deepatlas_tf.keras_stack import tfds
from deepatlas_tf.scans.grid import GridTransform
from deepatlas_tf.scans.intensity import rescale
from deepatlas_tf.types import DataError, MissingDataError, SettingError

# The dummy brains' own voxels in the order right, anterior, superior: nothing is resampled
GRID = {"shape": dummy.SIZE, "spacing": dummy.SPACING}
MNI152, NATIVE = ".MNI152", ""
SPACE = {"mni152": MNI152, "native": NATIVE}


@pytest.fixture(scope="module")
def brains(tmp_path_factory):
    """Only read; a test that spoils files takes ``copy``."""
    return dummy.make(tmp_path_factory.mktemp("scans") / "Mindboggle101_volumes")


@pytest.fixture
def copy(tmp_path, brains):
    return shutil.copytree(brains, tmp_path / "scans")


def load(tmp_path, folder, name="mindboggle101", **options):
    return load_dataset(name, data_dir=tmp_path / "tfds", manual_dir=folder, **(options or GRID))


def records(data):
    splits = [data.builder.as_dataset(split=split).as_numpy_iterator() for split in data.subjects]
    return {record["subject"].decode(): record for split in splits for record in split}


def test_classes_are_the_31_regions_of_both_hemispheres():
    assert list(REGIONS.values()) == dummy.NUMBERS[1:].tolist() and list(REGIONS) != sorted(REGIONS)
    # FreeSurfer's colour table, a few of them
    known = {"entorhinal": 6, "insula": 35, "posterior_cingulate": 23, "precentral": 24, "superior_temporal": 30}
    assert {name: Builder.LABELS[name] for name in known} == {n: (1000 + k, 2000 + k) for n, k in known.items()}


def test_configurations():
    assert Builder.config_for().name == "mni152_168x200x169_1mm"
    assert Builder.config_for(variant="native").name == "native_192x256x256_1mm"
    with pytest.raises(SettingError, match="mindboggle101 has no variant 'mni'; there are mni152, native"):
        Builder.config_for(variant="mni")


def test_paper_grid_is_a_plain_cut_of_mni152():
    affine = np.array([[-1.0, 0, 0, 90], [0, 1, 0, -126], [0, 0, 1, -72], [0, 0, 0, 1]])  # of FSL's template
    config = Builder.config_for()
    transform = GridTransform(affine, (182, 218, 182), config.shape, config.spacing)
    assert transform.factors == (1, 1, 1) and transform.offsets == (7, 9, 6)


@pytest.mark.parametrize("variant", ["mni152", "native"])
def test_records_are_the_scans_with_left_and_right_merged(tmp_path, brains, variant):
    data = load(tmp_path, brains.parent, f"mindboggle101/{variant}")
    assert data.class_names == ("background", *REGIONS) and len(data.class_names) == 32
    _, degrees, centre = dummy.SPACES[SPACE[variant]]
    found = records(data)
    assert len(found) == 11
    for subject, record in found.items():
        np.testing.assert_array_equal(record["label"], dummy.class_index())
        image = dummy.brain_image(sum(map(ord, subject)))
        np.testing.assert_allclose(record["image"][..., 0], rescale(image), atol=1e-6)
        np.testing.assert_allclose(record["affine"], dummy.brain_affine(degrees, centre), atol=1e-4)
        assert record["labelled"].all() and record["labelled"].shape == (32,)


@pytest.mark.parametrize("variant", ["mni152", "native"])
def test_prediction_returns_to_the_file(tmp_path, brains, variant):
    data = load(tmp_path, brains, f"mindboggle101/{variant}")
    record = next(data.builder.as_dataset(split="test").as_numpy_iterator())
    transform = GridTransform(record["source_affine"], tuple(record["source_shape"]), data.shape, data.spacing)
    path = brains / "NKI-RS-22_volumes" / record["subject"].decode() / f"labels.DKT31.manual{SPACE[variant]}.nii.gz"
    back = transform.label_to_source(record["label"], 32)
    np.testing.assert_array_equal(back, np.searchsorted(dummy.NUMBERS, nib.load(path).get_fdata() % 1000))


def test_groups_are_the_splits_and_the_domains(tmp_path, brains):
    data = load(tmp_path, brains.parent)
    assert data.subjects["train"] == (
        *("HLN-12-1", "HLN-12-10", "MMRR-21-1", "MMRR-21-2"),
        *("NKI-TRT-20-1", "OASIS-TRT-20-1"),  # not NKI-TRT-20-5, who is NKI-RS-22-3, nor the others of Extra-18
    )
    held_out = {*data.subjects["validation"], *data.subjects["test"]}
    assert held_out == {f"NKI-RS-22-{number}" for number in range(1, 6)}
    assert [len(data.subjects[name]) for name in ("validation", "test")] == [2, 3]
    assert set(data.domains.values()) == {"HLN-12", "MMRR-21", "NKI-TRT-20", "OASIS-TRT-20", "NKI-RS-22"}
    assert data.domains["HLN-12-10"] == "HLN-12" and data.labelled == data.subjects


def test_splits_of_the_whole_archive(tmp_path):
    """Only the files' names count here: they are empty."""
    sizes = {"OASIS-TRT-20": 20, "NKI-TRT-20": 20, "MMRR-21": 21, "NKI-RS-22": 22}
    groups = {f"{group}_volumes": [f"{group}-{k}" for k in range(1, n + 1)] for group, n in sizes.items()}
    others = ("Colin27-1", "Twins-2-1", "Twins-2-2", "MMRR-3T7T-2-1", "MMRR-3T7T-2-2", "Afterthought-1")
    groups["Extra-18_volumes"] = [*(f"HLN-12-{k}" for k in range(1, 13)), *others]
    for group, subjects in groups.items():
        for subject in subjects:
            for name in FILES["mni152"]:
                (tmp_path / group / subject).mkdir(parents=True, exist_ok=True)
                (tmp_path / group / subject / name).touch()
    builder = Builder(data_dir=tmp_path / "tfds", config=Builder.config_for())
    splits, labelled = builder.find_subjects(tmp_path)
    assert {name: len(ids) for name, ids in splits.items()} == {"train": 71, "validation": 10, "test": 12}
    used = set(sum(splits.values(), []))
    assert used == labelled == set(sum(groups.values(), [])) - {*others, "NKI-TRT-20-5", "NKI-TRT-20-14"}
    assert {subject for name in ("validation", "test") for subject in splits[name]} == set(groups["NKI-RS-22_volumes"])
    assert splits == builder.find_subjects(tmp_path)[0]


def test_other_places_of_the_groups(tmp_path, brains):
    """HLN-12 in a folder of its own, and MNI152 apart from the native scans, as in the first releases."""
    folder = tmp_path / "scans"
    for path in brains.glob("*/*/*MNI152*"):
        group, subject, name = path.relative_to(brains).parts
        group = "HLN-12_volumes" if subject.startswith("HLN") else f"{group}_in_MNI152"
        (folder / group / subject).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / group / subject / name)
    for path in brains.glob("NKI-RS-22_volumes/*/t1weighted_brain.nii.gz"):
        (folder / path.relative_to(brains).parent).mkdir(parents=True)
        shutil.copy(path, folder / path.relative_to(brains))
    assert (
        load(tmp_path, folder).subjects
        == load_dataset("mindboggle101", data_dir=tmp_path / "other", manual_dir=brains, **GRID).subjects
    )


def test_missing_groups(tmp_path, copy):
    for group in ("MMRR-21_volumes", "Extra-18_volumes", "NKI-TRT-20_volumes"):
        shutil.rmtree(copy / group)
    assert load(tmp_path, copy).subjects["train"] == ("OASIS-TRT-20-1",)


def test_scan_without_label_map(tmp_path, copy):
    (copy / "MMRR-21_volumes" / "MMRR-21-2" / "labels.DKT31.manual.MNI152.nii.gz").unlink()
    data = load(tmp_path, copy)
    assert data.subjects["train"][-1] == "MMRR-21-2" and "MMRR-21-2" not in data.labelled["train"]
    assert not records(data)["MMRR-21-2"]["labelled"].any()


def no_test_group(folder):
    shutil.rmtree(folder / "NKI-RS-22_volumes")
    return "mni152: of NKI-RS-22 only 0 subject"


def small_test_group(folder):
    for number in (1, 2):
        shutil.rmtree(folder / "NKI-RS-22_volumes" / f"NKI-RS-22-{number}")
    return "mni152: of NKI-RS-22 only 3 subject.*at least 4"


def no_training_group(folder):
    for group in dummy.GROUPS:
        if group != "NKI-RS-22_volumes":
            shutil.rmtree(folder / group)
    return "mni152: nothing to train with: of MMRR-21, HLN-12"


def nothing(folder):
    shutil.rmtree(folder)
    folder.mkdir()
    return "were not found"


@pytest.mark.parametrize("spoil", [no_test_group, small_test_group, no_training_group, nothing])
def test_too_little_says_what_to_download(tmp_path, copy, spoil):
    with pytest.raises(MissingDataError, match=spoil(copy)) as error:
        load(tmp_path, copy)
    for part in ("mindboggle.info", "OASIS-TRT-20_volumes/", "t1weighted_brain.MNI152.nii.gz", f"Looked in: {copy}"):
        assert part in str(error.value)


def change(path, function):
    image = nib.load(path)
    nib.save(nib.Nifti1Image(*function(np.asarray(image.dataobj).copy(), image.affine)), path)


def without_image(place):
    (place / "t1weighted_brain.MNI152.nii.gz").unlink()
    return "has no t1weighted_brain.MNI152.nii.gz"


def twice(place):
    shutil.copytree(place, place.parents[1] / "MMRR-21_volumes_2" / place.name)
    return "occurs twice: .*MMRR-21_volumes.*MMRR-21_volumes_2"


def temporal_pole(place):
    """A region of the first releases that DKT31 does not have."""
    change(
        place / "labels.DKT31.manual.MNI152.nii.gz",
        lambda volume, affine: (np.where(volume == 1002, 1033, volume), affine),
    )
    return "does not declare: 1033"


def other_grid(place):
    change(place / "labels.DKT31.manual.MNI152.nii.gz", lambda volume, affine: (volume, affine + 9 * np.eye(4, k=3)))
    return "different affines"


@pytest.mark.parametrize("spoil", [without_image, twice, temporal_pole, other_grid])
def test_bad_files_give_one_line_and_leave_nothing(tmp_path, copy, spoil):
    pattern = spoil(copy / "MMRR-21_volumes" / "MMRR-21-1")
    with pytest.raises(DataError, match=rf"subject MMRR-21-1.*{pattern}") as error:
        load(tmp_path, copy)
    assert "\n" not in str(error.value) and not isinstance(error.value, MissingDataError)
    assert not [path for path in (tmp_path / "tfds").rglob("*") if "tfrecord" in path.name]


@pytest.mark.slow
class Mindboggle101(tfds.testing.DatasetBuilderTestCase):
    """TFDS's own checks, in both spaces; the default grids are too large for a test."""

    DATASET_CLASS = Builder
    SPLITS = {"train": 6, "validation": 2, "test": 3}
    BUILDER_CONFIG_NAMES_TO_TEST = [Builder.config_for(**GRID, variant=variant) for variant in Builder.VARIANTS]

    @pytest.fixture(autouse=True, scope="class")
    def _dummy_data(self, request, brains):
        request.cls.EXAMPLE_DIR = brains
