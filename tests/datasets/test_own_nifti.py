"""Data sets that a user only points at: a CSV, or a folder as for nnU-Net."""

import json
import os
import shutil

import nibabel as nib
import numpy as np
import pytest

from deepatlas_tf.cli import main
from deepatlas_tf.datasets.load import load_dataset
from deepatlas_tf.datasets.nifti.nifti_dataset_builder import Builder
from deepatlas_tf.keras_stack import tf
from deepatlas_tf.scans.grid import GridTransform
from deepatlas_tf.types import DataError, MissingDataError, SettingError

SPLIT = ["train", "train", "train", "validation", "test", "test"]


def load(tmp_path, source, **options):
    return load_dataset("nifti", data_dir=source, workdir=tmp_path / "work", **options)


def samples(data, split):
    return {s["subject"].decode(): s for s in data.samples(split).as_numpy_iterator()}


def copies(tmp_path):
    return sorted(path.name for path in (tmp_path / "work" / "data" / "nifti").iterdir())


def test_csv_becomes_samples(tmp_path, own_scans):
    path = own_scans(unlabelled=(1,), columns={"split": SPLIT, "domain": ["T1", "T2", *["T1"] * 4]})
    data = load(tmp_path, path)
    assert data.class_names == ("background", "class_3", "class_7") and not data.synthetic
    assert data.class_numbers == (0, 3, 7)
    assert (data.shape, data.spacing) == ((16, 16, 16), (1.0, 1.0, 1.0))
    assert data.subjects == {"train": ("s0", "s1", "s2"), "validation": ("s3",), "test": ("s4", "s5")}
    assert data.labelled == {"train": ("s0", "s2"), "validation": ("s3",), "test": ("s4", "s5")}
    assert data.domains == {f"s{k}": "T2" if k == 1 else "T1" for k in range(6)}
    assert not data.partial_labels
    assert data.samples("train").element_spec == {
        "image": tf.TensorSpec((16, 16, 16, 1), tf.float32),
        "label": tf.TensorSpec((16, 16, 16), tf.int32),
        "label_weight": tf.TensorSpec((3,), tf.float32),
        "subject": tf.TensorSpec((), tf.string),
    }
    found = samples(data, "train")
    assert list(found) == ["s0", "s1", "s2"]
    np.testing.assert_array_equal([found[s]["label_weight"] for s in found], [[1, 1, 1], [0, 0, 0], [1, 1, 1]])
    assert not found["s1"]["label"].any()
    stored = nib.load(path.parent / "labels" / "s2.nii.gz")
    transform = GridTransform(stored.affine, stored.shape, data.shape, data.spacing)
    expected = np.select([stored.get_fdata() == 3, stored.get_fdata() == 7], [1, 2])
    np.testing.assert_array_equal(found["s2"]["label"], transform.label_to_network(expected, 3))
    records = list(data.builder.as_dataset(split="test").as_numpy_iterator())
    assert [r["source_file"] for r in records] == [b"s4.nii.gz", b"s5.nii.gz"]
    assert {r["domain"] for r in records} == {b"T1"}


def test_label_maps_that_hold_only_some_classes(tmp_path, own_scans):
    path = own_scans(columns={"split": SPLIT, "labelled_classes": ["7", "class_3;7", "", "", "", ""]})
    label = path.parent / "labels" / "s0.nii.gz"
    volume = nib.load(label)
    seven = np.where(volume.get_fdata() == 7, 7, 0).astype(np.uint8)
    nib.save(nib.Nifti1Image(seven, volume.affine), label)
    data = load(tmp_path, path)
    assert data.partial_labels
    found = samples(data, "train")
    # where s0 says 0 there may be class 3: its background is not labelled
    np.testing.assert_array_equal([found[s]["label_weight"] for s in found], [[0, 0, 1], [1, 1, 1], [1, 1, 1]])
    assert set(np.unique(found["s0"]["label"])) == {0, 2}


def test_label_map_with_a_class_that_its_row_leaves_out(tmp_path, own_scans):
    path = own_scans(columns={"split": SPLIT, "labelled_classes": ["7", *[""] * 5]})
    with pytest.raises(DataError, match="line 2, subject s0: label map .*s0.nii.gz holds class_3, which"):
        load(tmp_path, path)
    path = own_scans(columns={"split": SPLIT, "labelled_classes": ["9", *[""] * 5]})
    with pytest.raises(DataError, match="line 2, subject s0: there is no class '9'; there are class_3, class_7"):
        load(tmp_path, path)
    assert not (tmp_path / "work").exists()


def test_named_classes_are_merged(tmp_path, own_scans):
    path = own_scans()
    (path.parent / "labels.csv").write_text("number,name\n3,left and right\n7,left and right\n12,never seen\n")
    data = load(tmp_path, path)
    assert data.class_names[1:] == ("left_and_right", "never_seen") and data.merged_numbers == ((0,), (3, 7), (12,))
    assert {k for name in data.subjects for s in samples(data, name).values() for k in np.unique(s["label"])} == {0, 1}
    (path.parent / "labels.csv").write_text("number,name\n3,femur\n")
    with pytest.raises(DataError, match="label map .*labels.csv does not declare .name them there, or .*: 7"):
        load(tmp_path, path)


def test_too_many_classes(tmp_path, own_scans, write_nifti):
    path = own_scans()
    for count in (255, 256):
        label = np.zeros((10, 9, 8), np.int16)
        label.ravel()[:count] = 1000 + np.arange(count)
        for k in range(6):
            write_nifti(path.parent / "labels" / f"s{k}.nii.gz", label)
        if count == 255:
            data = load(tmp_path, path)
            assert len(data.class_names) == 256
            assert {len(np.unique(s["label"])) for s in samples(data, "train").values()} == {256}
    with pytest.raises(DataError, match="256 classes are more than 255; merge some"):
        load(tmp_path, path)


def test_splits_are_made_where_none_are_given(tmp_path, own_scans):
    data = load(tmp_path, own_scans(n=9, unlabelled=(2,)), shape=(8, 8, 8), spacing=(1, 1, 1))
    assert {split: len(ids) for split, ids in data.subjects.items()} == {"train": 5, "validation": 2, "test": 2}
    assert data.subjects["train"][-1] == "s2" and len(data.labelled["train"]) == 4
    data = load(tmp_path, own_scans(n=3))  # too few to hold one out: training needs them most
    assert data.subjects["train"] == data.labelled["train"] and set(data.subjects["train"]) == {"s0", "s1", "s2"}
    assert data.subjects["validation"] == data.subjects["test"] == ()
    assert [samples(data, split) for split in ("validation", "test")] == [{}, {}]
    assert data.samples("test").element_spec == data.samples("train").element_spec


def nnunet(tmp_path, write_nifti, channels="_0000"):
    folder = tmp_path / "Dataset7"
    for k in range(8):
        part = "Ts" if k > 5 else "Tr"
        image = np.random.default_rng(k).gamma(2, 100, (9, 9, 9)).astype(np.float32)
        write_nifti(folder / f"images{part}" / f"k_{k}{channels}.nii.gz", image)
        write_nifti(folder / f"labels{part}" / f"k_{k}.nii.gz", np.full((9, 9, 9), k % 3, np.uint8))
    (folder / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "two": 2, "one": 1}}))
    return folder


@pytest.mark.parametrize("channels", ["_0000", ""])
def test_nnunet_and_decathlon_folders(tmp_path, write_nifti, channels):
    folder = nnunet(tmp_path, write_nifti, channels)
    (folder / "labelsTr" / "k_5.nii.gz").unlink()  # five are left: none of them validates
    data = load(tmp_path, folder)
    assert data.class_names == ("background", "one", "two")
    assert data.subjects["test"] == ("k_6", "k_7") and data.subjects["validation"] == ()
    assert data.subjects["train"][-1] == "k_5" and "k_5" not in data.labelled["train"]


def test_slices_are_a_2d_data_set(tmp_path, own_scans):
    for shape in ((12, 20), (12, 20, 1)):
        path = own_scans(shape=shape)
        data = load(tmp_path, path)
        assert (data.shape, data.spacing) == ((16, 24), (1.0, 1.0))
        sample = next(iter(samples(data, "test").values()))
        stored = nib.load(path.parent / "labels" / f"{sample['subject'].decode()}.nii.gz").get_fdata().reshape(12, 20)
        np.testing.assert_array_equal(sample["label"][2:14, 2:22], np.select([stored == 3, stored == 7], [1, 2]))
        (record, *_) = data.builder.as_dataset(split="test").as_numpy_iterator()
        assert record["affine"].shape == (3, 3) and tuple(record["source_shape"]) == (12, 20)


def test_prepared_once_and_anew_when_something_changes(tmp_path, own_scans, write_nifti):
    path = own_scans(columns={"split": SPLIT})
    grid = {"shape": (8, 8, 8), "spacing": (1, 1, 1)}
    data = load(tmp_path, path, **grid)
    (first,) = copies(tmp_path)
    records = next((tmp_path / "work" / "data").rglob("*train.tfrecord*"))
    before, old = records.stat(), samples(data, "test")["s4"]["image"]
    assert load(tmp_path, path, **grid).subjects == data.subjects
    assert records.stat().st_mtime_ns == before.st_mtime_ns
    # a scan, the list and the names of the classes
    image = np.random.default_rng(99).gamma(2, 100, (10, 9, 8)).astype(np.float32)
    write_nifti(path.parent / "images" / "s4.nii.gz", image)
    changed = samples(load(tmp_path, path, **grid), "test")["s4"]["image"]
    assert not np.array_equal(changed, old)
    (second,) = copies(tmp_path)
    path.write_text(path.read_text().replace("s2,images", "t2,images"))
    assert load(tmp_path, path, **grid).subjects["train"] == ("s0", "s1", "t2")
    (third,) = copies(tmp_path)
    (path.parent / "labels.csv").write_text("3,x\n3,femur\n7,tibia\n")
    assert load(tmp_path, path, **grid).class_names == ("background", "femur", "tibia")
    (fourth,) = copies(tmp_path)
    assert len({first, second, third, fourth}) == 4


def test_other_grids_and_sources_are_kept_side_by_side(tmp_path, own_scans, write_nifti):
    path = own_scans()
    load(tmp_path, path)
    load(tmp_path, path, spacing=(2, 2, 2))
    load(tmp_path, nnunet(tmp_path, write_nifti))
    assert len(copies(tmp_path)) == 3


def test_a_failed_change_keeps_the_old_copy(tmp_path, own_scans):
    path = own_scans()
    load(tmp_path, path)
    before = copies(tmp_path)
    image = path.parent / "images" / "s1.nii.gz"
    image.write_bytes(image.read_bytes()[:200])
    with pytest.raises(DataError, match="subject s1: cannot read"):
        load(tmp_path, path)
    assert copies(tmp_path) == before


def test_source_is_only_read(tmp_path, own_scans):
    path = own_scans()
    before = sorted(path.parent.rglob("*"))
    for file in [*before, path.parent]:
        os.chmod(file, 0o555 if file.is_dir() else 0o444)
    load(tmp_path, path)
    assert sorted(path.parent.rglob("*")) == before


def test_prepared_data_need_no_source(tmp_path, own_scans, write_nifti):
    path = own_scans()
    data = load(tmp_path, path)
    shutil.rmtree(path.parent)
    again = load(tmp_path, None)
    assert (again.subjects, again.class_names, again.shape) == (data.subjects, data.class_names, data.shape)
    load(tmp_path, nnunet(tmp_path, write_nifti))
    with pytest.raises(MissingDataError, match="there are several prepared"):
        load(tmp_path, None)
    with pytest.raises(MissingDataError, match="there is no prepared(.|\n)*imagesTr"):
        load(tmp_path / "other", None)


def test_manual_dir_is_a_source_too(tmp_path, own_scans):
    path = own_scans()
    data = load_dataset("nifti", data_dir=tmp_path / "kept", manual_dir=path)
    assert len(data.subjects["train"]) == 4 and (tmp_path / "kept" / "nifti").is_dir()


def test_grids_of_fewer_voxels_are_kept_beside(tmp_path, own_scans):
    path = own_scans(shape=(40, 30, 30))
    assert load(tmp_path, path).shape == (40, 32, 32)
    assert load(tmp_path, path, max_voxels=2**14).shape == (24, 24, 24)
    assert len(copies(tmp_path)) == 2
    with pytest.raises(SettingError, match="brains has its own"):
        load_dataset("brains", data_dir=tmp_path, max_voxels=2**14)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"shape": (8, 8)}, "the scans have 3 axes, but (8, 8) is asked for"),
        ({"spacing": (2, 2)}, "the scans have 3 axes"),
        ({"spacing": (2, 0, 2)}, "positive"),
        ({"n_subjects": 5}, "synthetic"),
    ],
)
def test_impossible_values(tmp_path, own_scans, options, reason):
    with pytest.raises(DataError) as error:
        load(tmp_path, own_scans(), **options)
    assert reason in str(error.value) and not (tmp_path / "work").exists()


def test_builder_has_no_configuration_of_its_own():
    with pytest.raises(SettingError, match="--data-dir"):
        Builder.config_for()


@pytest.mark.long
def test_trained_and_evaluated_by_naming_the_csv(tmp_path, own_scans, capsys):
    path = own_scans(n=8, shape=(14, 13), columns={"split": [*["train"] * 4, *["validation", "test"] * 2]})
    work = tmp_path / "work"
    arguments = ["train", "--dataset", "nifti", "--data-dir", str(path), "--workdir", str(work), "--tiny"]
    assert main([*arguments, "--method", "segmentation"]) == 0
    assert (work / "data" / "nifti").is_dir() and (work / "evaluation" / "summary.json").exists()
    assert "4 training subjects, 4 with a label map" in capsys.readouterr().out
    shutil.rmtree(path.parent)
    assert main(["evaluate", str(work)]) == 0


@pytest.mark.long
def test_real_brains_by_csv(tmp_path, real_data):
    """Four real brains at 8 mm: the volume of what is labelled is kept."""
    source = real_data / "brains"
    if not source.is_dir():
        pytest.skip(f"DEEPATLAS_TEST_DATA: no folder {source}")
    ids = sorted(path.name.removesuffix("_t1.nii.gz") for path in source.glob("*_t1.nii.gz"))[:4]
    lines = [f"{k},{source.resolve()}/{k}_t1.nii.gz,{source.resolve()}/{k}_labels.nii.gz" for k in ids]
    (tmp_path / "scans.csv").write_text("\n".join(["subject,image,label", *lines]))
    names = [f"{n},{'cerebrum' if n in (44, 45) or n >= 100 else ''}" for n in range(208)]
    (tmp_path / "labels.csv").write_text("\n".join(["number,name", *names]))
    data = load(tmp_path, tmp_path / "scans.csv", shape=(24, 32, 24), spacing=(8, 8, 8))
    assert data.class_names == ("background", "cerebrum")
    for split in data.subjects:
        for subject, sample in samples(data, split).items():
            label = nib.load(source / f"{subject}_labels.nii.gz")
            values = np.asarray(label.dataobj)
            litres = (np.isin(values, (44, 45)) | (values >= 100)).sum() * np.prod(label.header.get_zooms()) / 1e6
            assert abs(sample["label"].sum() * 8**3 / 1e6 - litres) < 0.1 * litres


@pytest.mark.long
@pytest.mark.parametrize("shape", [(14, 13), (12, 11, 10)], ids=["2D", "3D"])
def test_scans_without_a_single_label_are_registered(tmp_path, own_scans, shape, capsys):
    path, work = own_scans(n=8, shape=shape, unlabelled=range(8)), tmp_path / "work"
    arguments = ["train", "--dataset", "nifti", "--data-dir", str(path), "--workdir", str(work), "--tiny"]
    assert main([*arguments, "--method", "voxelmorph"]) == 0
    printed = capsys.readouterr().out
    assert "4 training subjects, 0 with a label map" in printed and "left out registration_weak\n" in printed
    assert "test split (2 subjects without a label map)" in printed and "registration_unsupervised " in printed
    assert {path.stem for path in (work / "figures").iterdir()} >= {"registration", "jacobian"}
    assert main(["report", str(work)]) == 0 and (work / "report.html").exists()
