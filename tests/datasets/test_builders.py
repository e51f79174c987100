import nibabel as nib
import numpy as np
import pytest

from deepatlas_tf.datasets.load import load_dataset
from deepatlas_tf.datasets.scan_builder import merge
from deepatlas_tf.datasets.splits import split_subjects
from deepatlas_tf.scans.grid import GridTransform
from deepatlas_tf.types import DataError, MissingDataError

IDS = [f"case_{n:02d}" for n in range(8)]
GRID = {"shape": (16, 16, 16)}


def no_data_left(folder):
    return not [path for path in folder.rglob("*") if path.name == "dataset_info.json" or "tfrecord" in path.name]


@pytest.mark.slow
def test_the_check_for_left_data_finds_some(tmp_path, write_scans):
    load("hippocampus", tmp_path, write_scans(tmp_path / "scans", IDS))
    assert not no_data_left(tmp_path / "tfds")


def load(name, tmp_path, folder, **options):
    return load_dataset(name, data_dir=tmp_path / "tfds", manual_dir=folder, **(options or GRID))


def test_splits_follow_the_published_rule():
    ids = [f"hippocampus_{n:03d}" for n in range(210)]
    order = [ids[k] for k in np.random.RandomState(0).permutation(210)]
    splits = split_subjects(ids[::-1], 40, 20, 100)  # the order given does not matter
    assert splits == {"test": order[:40], "validation": order[40:60], "train": order[60:]}


@pytest.mark.parametrize("n", range(4, 101, 8))
def test_few_subjects_are_split_in_proportion(n):
    splits = split_subjects([str(k) for k in range(n)], 40, 20, 100)
    sizes = {name: len(ids) for name, ids in splits.items()}
    assert sum(sizes.values()) == n and len(set(sum(splits.values(), []))) == n
    assert sizes["validation"] >= 1 and abs(sizes["test"] - 0.4 * n) <= 1 and sizes["train"] >= 2


@pytest.mark.parametrize("n", [1, 3])
def test_too_few_subjects(tmp_path, write_scans, n):
    folder = write_scans(tmp_path / "scans", IDS[:n])
    with pytest.raises(DataError, match=rf"only {n} subject.*case_00.*at least 4"):
        load("hippocampus", tmp_path, folder)


def test_merge():
    label = np.array([[0, 1, 2], [3, 207, 100]])
    np.testing.assert_array_equal(merge(label, [(2, 3), range(100, 256)]), [[0, 0, 1], [1, 2, 2]])


def test_hippocampus_takes_the_folder_or_its_parent(tmp_path, write_scans):
    folder = write_scans(tmp_path / "data" / "Task04_Hippocampus", IDS)
    for end in ("imagesTr/._case_00.nii.gz", "labelsTr/._case_00.nii.gz"):  # as macOS leaves them
        (folder / end).write_bytes(b"macOS")
    subjects = [
        load_dataset("hippocampus", data_dir=tmp_path / str(k), manual_dir=place, **GRID).subjects
        for k, place in enumerate((folder, folder.parent))
    ]
    assert subjects[0] == subjects[1] and sorted(sum(subjects[0].values(), ())) == IDS


def test_a_record_leads_back_to_the_scan(tmp_path, write_scans):
    folder = write_scans(tmp_path / "scans", IDS)
    data = load("hippocampus", tmp_path, folder)
    for record in data.builder.as_dataset(split="train").as_numpy_iterator():
        source = nib.load(folder / "imagesTr" / record["source_file"].decode())
        assert record["source_file"].decode() == record["subject"].decode() + ".nii.gz"
        transform = GridTransform(record["source_affine"], tuple(record["source_shape"]), data.shape, data.spacing)
        np.testing.assert_allclose(record["affine"], transform.affine)
        label = nib.load(folder / "labelsTr" / record["source_file"].decode())
        np.testing.assert_array_equal(transform.label_to_source(record["label"], 3), label.get_fdata())
        image = transform.image_to_source(record["image"][..., 0])
        low, high = np.percentile(source.get_fdata(), (0.5, 99.5))
        np.testing.assert_allclose(image, np.clip((source.get_fdata() - low) / (high - low), 0, 1), atol=1e-5)


def truncate(folder, write):
    path = folder / "imagesTr" / "case_02.nii.gz"
    path.write_bytes(path.read_bytes()[:1000])


def undeclared(folder, write):
    path = folder / "labelsTr" / "case_02.nii.gz"
    write(path, np.full(nib.load(path).shape, 3, np.uint8))


def other_shape(folder, write):
    write(folder / "labelsTr" / "case_02.nii.gz", np.zeros((5, 5, 5), np.uint8))


def other_affine(folder, write):
    path = folder / "labelsTr" / "case_02.nii.gz"
    write(path, np.ones(nib.load(path).shape, np.uint8), np.diag([1.0, 1.0, 1.1, 1.0]))


def twice(folder, write):
    write(folder / "imagesTr" / "case_02.nii", np.zeros((5, 5, 5), np.uint8))


def without_image(folder, write):
    (folder / "imagesTr" / "case_02.nii.gz").unlink()


@pytest.mark.parametrize("spoil", [truncate, undeclared, other_shape, other_affine, twice, without_image])
def test_bad_scan_stops_with_one_line_and_leaves_nothing(tmp_path, write_scans, write_nifti, spoil):
    folder = write_scans(tmp_path / "scans", IDS)
    spoil(folder, write_nifti)
    with pytest.raises(DataError) as error:
        load("hippocampus", tmp_path, folder)
    message = str(error.value)
    assert "subject case_02" in message and ".nii" in message and "\n" not in message
    assert not isinstance(error.value, MissingDataError) and no_data_left(tmp_path / "tfds")


def test_repaired_scan_is_taken_on_the_next_try(tmp_path, write_scans, write_nifti):
    folder = write_scans(tmp_path / "scans", IDS)
    undeclared(folder, write_nifti)
    with pytest.raises(DataError):
        load("hippocampus", tmp_path, folder)
    write_scans(folder, IDS)
    assert len(load("hippocampus", tmp_path, folder).subjects["train"]) == 4


def test_empty_folder(tmp_path):
    (tmp_path / "scans" / "imagesTr").mkdir(parents=True)
    with pytest.raises(MissingDataError, match="not found"):
        load("hippocampus", tmp_path, tmp_path / "scans")


@pytest.fixture
def brains(tmp_path, write_nifti):
    """Eight cubes, first axis flipped, with a cube of each label number 4, 35, 59, 60, 100 and 207."""
    folder = tmp_path / "data" / "brains"
    label = np.zeros((12, 12, 12), np.int16)
    for k, number in enumerate((4, 35, 59, 60, 100, 207)):
        label[2 * k : 2 * k + 2] = number
    for n in range(8):
        image = np.random.default_rng(n).gamma(2, 100, label.shape).astype(np.float32)
        for end, volume in (("t1", image), ("labels", label)):
            write_nifti(folder / f"100{n}_{end}.nii.gz", volume, np.diag([-1.0, 1.0, 1.0, 1.0]))
    (folder / "labels.csv").write_text("Label Number,Label Name\n4,x\n35,x\n59,x\n60,x\n100,x\n207,x\n")
    return folder


def test_brains_merge_left_and_right(tmp_path, brains):
    data = load("brains", tmp_path, brains.parent, shape=(12, 12, 12), spacing=(1, 1, 1))
    assert len(data.class_names) == 13 and data.class_names[8] == "brain_stem"
    (sample, *_) = data.samples("test").as_numpy_iterator()
    # the first axis is flipped on the way to RAS
    expected = np.repeat([12, 12, 1, 1, 8, 0], 2)
    np.testing.assert_array_equal(sample["label"], np.broadcast_to(expected[:, None, None], (12, 12, 12)))


def test_brains_number_that_the_table_does_not_list(tmp_path, brains):
    (brains / "labels.csv").write_text("Label Number\n4\n35\n59\n60\n100\n")
    with pytest.raises(DataError, match="subject 100. *: .*does not declare: 207"):
        load("brains", tmp_path, brains)
    (brains / "labels.csv").write_text("Label Number\nfour\n")
    with pytest.raises(DataError, match="labels.csv: the first column"):
        load("brains", tmp_path, brains)


@pytest.mark.parametrize("with_test_folder", [True, False])
def test_oai_knee(tmp_path, write_nifti, with_test_folder):
    folder = tmp_path / "OAIZIB-CM"
    label = np.arange(6, dtype=np.uint8).repeat(36).reshape(6, 6, 6)
    for n in range(1, 11):
        part = "Ts" if with_test_folder and n > 7 else "Tr"
        image = np.random.default_rng(n).gamma(2, 100, label.shape).astype(np.float32)
        write_nifti(folder / f"images{part}" / f"oaizib_{n:03d}_0000.nii.gz", image, np.diag([0.7, 0.7, 0.7, 1]))
        write_nifti(folder / f"labels{part}" / f"oaizib_{n:03d}.nii.gz", label, np.diag([0.7, 0.7, 0.7, 1]))
    data = load("oai_knee", tmp_path, tmp_path, shape=(6, 6, 6))
    assert data.class_names == ("background", "femur", "tibia", "femoral_cartilage", "tibial_cartilage")
    assert {k: len(v) for k, v in data.subjects.items()} == (
        {"train": 6, "validation": 1, "test": 3} if with_test_folder else {"train": 7, "validation": 1, "test": 2}
    )
    if with_test_folder:
        assert data.subjects["test"] == ("oaizib_008", "oaizib_009", "oaizib_010")
    for sample in data.samples("train").as_numpy_iterator():
        np.testing.assert_array_equal(sample["label"][:, 0, 0], [0, 1, 3, 2, 4, 4])


def test_real_hippocampus_scans(tmp_path, real_data):
    """A few of the real scans, as they are: exact labels, and half of them read through the transform and back."""
    source = real_data / "Task04_Hippocampus"
    if not source.is_dir():
        pytest.skip(f"DEEPATLAS_TEST_DATA: no folder {source}")
    names = sorted(path.name for path in (source / "imagesTr").glob("hippocampus_*.nii.gz"))[:6]
    for part in ("imagesTr", "labelsTr"):
        (tmp_path / "scans" / part).mkdir(parents=True)
        for name in names:
            (tmp_path / "scans" / part / name).symlink_to(source.resolve() / part / name)
    data = load("hippocampus", tmp_path, tmp_path / "scans", shape=(48, 64, 48))
    for split in data.subjects:
        for sample in data.samples(split).as_numpy_iterator():
            label = nib.load(source / "labelsTr" / f"{sample['subject'].decode()}.nii.gz").get_fdata()
            counts = np.bincount(sample["label"].ravel())[1:]
            np.testing.assert_array_equal(counts, [(label == 1).sum(), (label == 2).sum()])
