"""Own scans: grid and classes come from the training subjects alone, and label numbers stay what they are."""

import shutil

import nibabel as nib
import numpy as np
import pytest

from deepatlas_tf.datasets.load import load_dataset
from deepatlas_tf.types import DataError

SPLIT = ["train", "train", "train", "validation", "test", "test"]


def load(tmp_path, source):
    return load_dataset("nifti", data_dir=source, workdir=tmp_path / "work")


@pytest.mark.parametrize("given", [True, False], ids=["splits given", "splits drawn"])
def test_the_grid_is_chosen_from_the_training_subjects_alone(tmp_path, own_scans, write_nifti, given):
    path = own_scans(columns={"split": SPLIT if given else [""] * 6})
    before = load(tmp_path, path)
    held_out = before.subjects["validation"] + before.subjects["test"]
    for subject in held_out:  # larger scans of finer voxels
        for part in ("images", "labels"):
            file = path.parent / part / f"{subject}.nii.gz"
            volume = np.asarray(nib.load(file).dataobj)
            write_nifti(file, np.pad(volume, 20, mode="symmetric"), np.diag([0.5, 0.5, 0.5, 1]))
    shutil.rmtree(tmp_path / "work")
    after = load(tmp_path, path)
    assert (after.shape, after.spacing) == (before.shape, before.spacing) and after.subjects == before.subjects
    subject = before.subjects["train"][0]
    file = path.parent / "images" / f"{subject}.nii.gz"
    for part in ("images", "labels"):  # the same of a training subject is seen
        file = path.parent / part / f"{subject}.nii.gz"
        write_nifti(file, np.pad(np.asarray(nib.load(file).dataobj), 20, mode="symmetric"))
    assert load(tmp_path, path).shape != before.shape


@pytest.mark.parametrize("held_out", ["s3", "s5"])
def test_a_class_that_only_a_held_out_subject_has_is_refused(tmp_path, own_scans, write_nifti, held_out):
    path = own_scans(columns={"split": SPLIT})
    file = path.parent / "labels" / f"{held_out}.nii.gz"
    label = np.array(nib.load(file).dataobj)
    label[0, 0, 0] = 9
    write_nifti(file, label)
    with pytest.raises(DataError) as error:
        load(tmp_path, path)
    message = str(error.value)
    assert message.startswith(f"subject {held_out}: label map {file} has numbers that no training label map has")
    assert message.endswith("name all classes): 9") and "\n" not in message
    assert not (tmp_path / "work").exists()
    (path.parent / "labels.csv").write_text("number,name\n3,a\n7,b\n9,c\n")
    assert load(tmp_path, path).class_names == ("background", "a", "b", "c")


def test_large_label_numbers_become_classes_of_their_own(tmp_path, own_scans):
    """Numbers of the Allen atlas, which differ by less than float32 resolves."""
    path, ids = own_scans(columns={"split": SPLIT}), {3: 614454276, 7: 614454277}
    for file in (path.parent / "labels").iterdir():
        image = nib.load(file)
        label = np.asarray(image.dataobj)
        large = np.select([label == number for number in ids], ids.values()).astype(np.uint32)
        nib.save(nib.Nifti1Image(large, image.affine), file)
    found = load(tmp_path, path)
    assert found.class_names == ("background", "class_614454276", "class_614454277")
    shutil.rmtree(tmp_path / "scans")
    small = load(tmp_path / "small", own_scans(columns={"split": SPLIT}))
    for split in small.subjects:
        for one, other in zip(found.samples(split), small.samples(split), strict=True):
            np.testing.assert_array_equal(one["label"], other["label"])
