import importlib
import resource

import numpy as np
import pytest

from deepatlas_tf.datasets.load import dataset_names, load_dataset
from deepatlas_tf.keras_stack import tf
from deepatlas_tf.types import DataError, MissingDataError, SettingError

IDS = [f"case_{n:02d}" for n in range(10)]


@pytest.fixture
def scans(tmp_path, write_scans):
    return write_scans(tmp_path / "Task04_Hippocampus", IDS, unlabelled=("case_03", "case_07"))


def load(tmp_path, **options):
    return load_dataset("hippocampus", data_dir=tmp_path / "tfds", shape=(12, 14, 12), **options)


def test_names_are_the_folders():
    assert {"brains", "hippocampus", "oai_knee", "phantom_knee"} <= set(dataset_names())


def test_unknown_name_names_the_near_ones():
    with pytest.raises(DataError, match="'hipocampus'; did you mean hippocampus"):
        load_dataset("hipocampus")
    with pytest.raises(DataError, match="there are: .*phantom_knee"):
        load_dataset("xyzzy")


def test_a_list_of_own_scans_is_for_nifti(tmp_path, write_scans):
    (tmp_path / "scans.csv").write_text("subject,image\n")
    for place, kind in ((tmp_path / "scans.csv", "list"), (write_scans(tmp_path / "D", ["a"]), "folder")):
        with pytest.raises(SettingError, match=f"--data-dir {place} is a {kind} of scans: add --dataset nifti"):
            load_dataset("phantom_knee", data_dir=place)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["D", "scans.csv"]


def test_samples_come_in_the_order_of_the_subjects(tmp_path, scans):
    data = load(tmp_path, manual_dir=scans.parent)
    assert data.class_names == ("background", "anterior", "posterior")
    assert (data.shape, data.spacing, data.synthetic) == ((12, 14, 12), (1.0, 1.0, 1.0), False)
    for split in ("train", "validation", "test"):
        samples = list(data.samples(split).as_numpy_iterator())
        assert tuple(s["subject"].decode() for s in samples) == data.subjects[split]
        labelled = tuple(s["subject"].decode() for s in samples if s["label_weight"].all())
        assert labelled == data.labelled[split]
    assert set(data.subjects["train"]) - set(data.labelled["train"]) == {"case_03", "case_07"}
    assert sorted(sum(data.subjects.values(), ())) == IDS


def test_preparing_more_than_fits_in_memory_keeps_the_order(tmp_path, scans, monkeypatch):
    """TFDS then sorts on disk, and reads one of its files at a time: each must hold few scans."""
    found = []
    shuffle = importlib.import_module("tensorflow_datasets.core.shuffle")
    read = shuffle._Bucket.read_values
    monkeypatch.setattr(shuffle._Bucket, "read_values", lambda bucket: found.append(len(bucket)) or read(bucket))
    monkeypatch.setattr(importlib.import_module("deepatlas_tf.datasets.prepare"), "_IN_MEMORY", 1)
    before = shuffle.MAX_MEM_BUFFER_SIZE
    data = load(tmp_path, manual_dir=scans)
    assert before == shuffle.MAX_MEM_BUFFER_SIZE
    assert sum(found) == len(IDS) and max(found) == 1
    for split, subjects in data.subjects.items():
        assert tuple(s["subject"].decode() for s in data.samples(split).as_numpy_iterator()) == subjects


@pytest.mark.parametrize(("hard", "raised"), [(5000, True), (resource.RLIM_INFINITY, True), (300, False)])
def test_sorting_on_disk_needs_as_many_open_files(tmp_path, scans, monkeypatch, hard, raised):
    limits, seen = [], []
    shuffle = importlib.import_module("tensorflow_datasets.core.shuffle")
    before, add = shuffle.MAX_MEM_BUFFER_SIZE, shuffle.Shuffler.add
    monkeypatch.setattr(shuffle.Shuffler, "add", lambda *args: seen.append(shuffle.MAX_MEM_BUFFER_SIZE) or add(*args))
    monkeypatch.setattr(resource, "getrlimit", lambda which: (256, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda which, both: limits.append(both))
    load(tmp_path, manual_dir=scans)
    assert limits == ([(1200, hard)] if raised else [])
    assert set(seen) == {16 * 2**20 if raised else before}


def test_samples_keep_the_contract(tmp_path, scans):
    samples = load(tmp_path, manual_dir=scans).samples("train")
    assert samples.element_spec == {
        "image": tf.TensorSpec((12, 14, 12, 1), tf.float32),
        "label": tf.TensorSpec((12, 14, 12), tf.int32),
        "label_weight": tf.TensorSpec((3,), tf.float32),
        "subject": tf.TensorSpec((), tf.string),
    }
    for sample in samples.as_numpy_iterator():
        assert sample["image"].min() == 0 and sample["image"].max() == 1
        assert sample["label"].any() == sample["label_weight"].any() == sample["label_weight"].all()


def test_a_prepared_data_set_needs_no_scans(tmp_path, scans, capsys, caplog):
    first = load(tmp_path, manual_dir=scans)
    again = load(tmp_path)
    assert again.subjects == first.subjects and again.labelled == first.labelled
    for a, b in zip(first.samples("test"), again.samples("test"), strict=True):
        np.testing.assert_array_equal(a["image"], b["image"])
    assert capsys.readouterr() == ("", "") and not caplog.records  # the bar is drawn on a terminal only


def test_values_choose_the_configuration(tmp_path, scans):
    data = load(tmp_path, manual_dir=scans, spacing=(1.0, 1.5, 2.0))
    assert data.spacing == (1.0, 1.5, 2.0) and data.builder.builder_config.name == "12x14x12_1x1.5x2mm"
    assert load(tmp_path, manual_dir=scans).builder.builder_config.name == "12x14x12_1mm"
    default = load_dataset("hippocampus", data_dir=tmp_path / "tfds", manual_dir=scans)
    assert default.builder.builder_config is default.builder.BUILDER_CONFIGS[0] and default.shape == (48, 64, 48)


@pytest.mark.parametrize("name", ["hippocampus", "brains", "oai_knee"])
def test_every_data_set_of_scans_has_a_second_grid_of_about_the_same_size(name):
    module = importlib.import_module(f"deepatlas_tf.datasets.{name}.{name}_dataset_builder")
    first, second = module.Builder.BUILDER_CONFIGS[:2]
    assert module.Builder.config_for() is first
    assert module.Builder.config_for(shape=second.shape, spacing=second.spacing) is second
    size, other = (np.multiply(config.shape, config.spacing) for config in (first, second))
    np.testing.assert_allclose(size, other, rtol=0.02)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"shape": (12, 14)}, "both two or three axes"),
        ({"shape": (12, 14), "spacing": (1, 1)}, "three axes"),
        ({"spacing": (1, 0, 1)}, "positive"),
        ({"n_subjects": 5}, "not synthetic"),
    ],
)
def test_impossible_values(tmp_path, options, reason):
    with pytest.raises(DataError, match=reason):
        load_dataset("hippocampus", data_dir=tmp_path, **options)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("hippocampus", ["medicaldecathlon.com", "imagesTr"]),
        ("brains", ["labels.csv"]),
        ("oai_knee", ["nda.nih.gov", "OAI-ZIB", "YongchengYAO/OAIZIB-CM", "imagesTr/oaizib_NNN_0000.nii.gz"]),
    ],
)
def test_missing_scans_say_what_to_get_and_where_it_was_looked_for(tmp_path, name, words):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("nothing")
    for manual_dir, looked in [
        (None, tmp_path / "tfds" / "downloads" / "manual"),
        (tmp_path / "absent", tmp_path / "absent"),
        (tmp_path / "other", tmp_path / "other"),
    ]:
        with pytest.raises(MissingDataError) as error:
            load_dataset(name, data_dir=tmp_path / "tfds", manual_dir=manual_dir)
        for word in [*words, "--dataset phantom_knee", f"Looked in: {looked}"]:
            assert word in str(error.value)
