"""The second line of the report, what can be trained or what training stops at; what is wrong with a whole list."""

import nibabel as nib
import numpy as np
import pytest

from deepatlas_tf.cli import main
from deepatlas_tf.validation.plan import plan
from deepatlas_tf.validation.readers import open_files
from deepatlas_tf.validation.scan_summary import collect
from deepatlas_tf.validation.validate import validate


def validated(path, tmp_path):
    return validate(str(path), tmp_path / "out")


def kinds(result):
    return {one.kind: one for one in result.findings}


def broken(draw_anatomy):
    image, label = draw_anatomy(70)
    nan = image.copy()
    nan[2, 3, 4] = np.nan
    return {
        "1 voxel that is NaN": {"image": nan},
        "split it into one file for each": {"image": np.stack([image, image], -1)},
        "values that are not integers": {"label": label + np.float32(0.4)},
        "both must be on one grid": {"label": label[:-1]},
        "s70: label map ": {"label": np.where(label == 3, 77, label)},
    }


@pytest.mark.parametrize("case", range(5))
def test_an_error_stands_in_the_place_of_what_can_be_trained(new_cohort, draw_anatomy, tmp_path, case):
    text, changed = list(broken(draw_anatomy).items())[case]
    cohort = new_cohort(6)
    cohort.add("s70", **changed)
    result = validated(cohort.save(), tmp_path)
    assert result.plan[0].startswith("training stops: subject s70: ") and text in result.plan[0]
    assert "can be trained" not in result.report and len(result.plan) == 1


def test_the_first_error_that_stops_training_and_how_many_more(new_cohort, draw_anatomy, tmp_path):
    """A copy of a scan comes first in the list, but does not stop training."""
    cohort = new_cohort(6)
    image, label = draw_anatomy(1)
    cohort.add("s70", image=image, label=label)
    found = validated(cohort.save(), tmp_path).plan
    assert found[0].startswith("training would learn or measure something false: subjects s01, s70: ")
    cohort.add("s71", label=np.where(label == 3, 77, label), image=image + 1)
    (found,) = validated(cohort.save(), tmp_path).plan
    assert found.startswith("training stops: subject s71: label map ") and found.endswith(" (and 1 more error, below)")


def test_a_list_that_is_refused_says_how_many_errors_there_are(new_cohort, tmp_path):
    cohort = new_cohort(5)
    for subject in ("s70", "s71"):
        cohort.add(subject)
        (cohort.folder / cohort.lines[-1].split(",")[1]).unlink()
    (found,) = validated(cohort.save(), tmp_path).plan
    assert "does not exist" in found and found.endswith(" (2 errors, below)")


def test_slices_beside_volumes_are_an_error(new_cohort, draw_anatomy, tmp_path):
    cohort = new_cohort(6)
    image, label = draw_anatomy(70)
    cohort.add("s70", image=image[:, :, 6], label=label[:, :, 6])
    result = validated(cohort.save(), tmp_path)
    found = kinds(result)
    assert found["slices and volumes"].subjects == ("s70",) and "mixed orientation" not in found
    text = "1 scan of two axes (s70), 6 of three (s00, s01, s02 and 3 others); remove one kind"
    assert result.plan == [f"training stops: {text}"]


@pytest.mark.slow
def test_images_given_as_label_maps_are_a_warning(new_cohort, tmp_path):
    cohort = new_cohort()
    for i in range(4):
        cohort.add(f"s{i:02d}")
    for path in cohort.folder.glob("*.nii.gz"):
        stored = nib.load(path)
        nib.save(nib.Nifti1Image(np.rint(stored.get_fdata()).astype(np.int16), stored.affine), path)
    path = cohort.save(named=False)
    assert "image and label map swapped" not in kinds(validated(path, tmp_path))
    path.write_text(path.read_text().replace("subject,image,label", "subject,label,image"))
    found = kinds(validated(path, tmp_path))["image and label map swapped"]
    assert len(found.subjects) == 4 and found.severity == "warning"
    assert found.text.startswith("4 label maps of 4 with more different numbers than the image has values (s00: ")
    assert found.text.endswith("and 4); the columns or folders of image and label may be swapped")


@pytest.mark.slow
def test_more_classes_than_training_takes_are_an_error(new_cohort, draw_anatomy, tmp_path):
    cohort, label = new_cohort(5), draw_anatomy(70)[1].astype(np.int32)
    for n, severity in ((255, None), (256, "error")):
        label[:, :, 0].flat[: n - 3] = np.arange(4, n + 1)
        cohort.add(f"s{n}", label=label)
        found = kinds(validated(cohort.save(named=False), tmp_path)).get("too many classes")
        assert (found and found.severity) == severity
    assert found.text.startswith("256 numbers are in the label maps, and at most 255 classes can be trained; merge")


def test_undeclared_numbers_are_counted_and_the_remedy_is_named(new_cohort, draw_anatomy, tmp_path):
    cohort, label = new_cohort(5), draw_anatomy(70)[1]
    label[:, 0, 0] = np.arange(11, 31)
    cohort.add("s70", label=label)
    text = kinds(validated(cohort.save(), tmp_path))["label not declared"].text
    file = cohort.folder / "labels.csv"
    assert text.endswith(f"16, 17, 18 and 12 more; name them in {file}, or leave the name empty for background")


def test_a_misspelt_folder_of_label_maps_is_a_warning(tmp_path, write_scans):
    folder = write_scans(tmp_path / "D", [f"s{i}" for i in range(5)])
    (folder / "dataset.json").write_text('{"labels": {"background": 0, "a": 1, "b": 2}}')
    assert "no folder of label maps" not in kinds(validated(folder, tmp_path))
    (folder / "labelsTr").rename(folder / "labelTr")
    found = kinds(validated(folder, tmp_path))["no folder of label maps"]
    assert found.severity == "warning" and found.text.endswith(f"no folder labelsTr in {folder}; rename labelTr")


def test_a_part_of_a_folder_is_refused(tmp_path, write_scans, capsys):
    folder = write_scans(tmp_path / "D", ["a"])
    assert main(["data", "validate", str(folder / "imagesTr")]) == 2
    whole = f"error: {folder}/imagesTr: is only a part of a data set; give the whole of it, {folder}\n"
    assert capsys.readouterr().err == whole


@pytest.mark.parametrize("where", ["nowhere.csv", "phantom_kne", "empty"])
def test_what_is_not_found_is_one_line_of_error(where, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert main(["data", "validate", where]) == 2
    text = capsys.readouterr().err
    assert text.startswith("error: ") and where in text and text.count("\n") == 1
    assert ("did you mean phantom_knee" in text) == (where == "phantom_kne")


def test_slices_are_measured_in_square_millimetres_and_classes_in_their_order(new_cohort, draw_anatomy, tmp_path):
    cohort = new_cohort()
    for i in range(5):
        image, label = draw_anatomy(i)
        label[label == 3] = 12 if i == 0 else 0
        label[label == 2] = 2 if i else 0
        cohort.add(f"s{i:02d}", image=image[:, :, 6], label=label[:, :, 6])
    result = validated(cohort.save(named=False), tmp_path)
    assert result.classes == ["class_1", "class_2", "class_12"]
    area = int((nib.load(cohort.folder / "s00_0_label.nii.gz").get_fdata() == 1).sum()) * 1.5
    assert "class_1 mm2" in result.report and " ml" not in result.report and f" {area:.3g} " in result.report


def test_one_of_a_thing_is_singular(new_cohort, draw_anatomy, tmp_path):
    cohort = new_cohort()
    cohort.add("s00", label=(draw_anatomy(0)[1] == 1).astype(np.uint8))
    assert ": 1 subject, 1 with a label map, 1 class\n" in validated(cohort.save(named=False), tmp_path).report


def test_classes_that_are_named_by_their_number_only(new_cohort):
    """``labelled_classes`` says 1, the report class_1."""
    cohort = new_cohort(2)
    path = cohort.save(named=False)
    head, *lines = path.read_text().splitlines()
    path.write_text("\n".join([f"{head},labelled_classes", *(f"{line},1 class_2" for line in lines)]) + "\n")
    scans = open_files(path)
    summaries = list(collect(scans.items, scans.load))
    assert summaries[0].expected == ("class_1", "class_2") and plan(scans, summaries)
