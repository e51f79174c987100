"""One of each defect, each found and named, and nothing else; a clean set without a finding."""

import gzip

import numpy as np
import pytest
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2

from deepatlas_tf.datasets.listing import ListedScan
from deepatlas_tf.datasets.splits import split_listed
from deepatlas_tf.validation.anomalies import ERROR, KINDS, NOTE, WARNING, anomalies_proto, find
from deepatlas_tf.validation.readers import open_files
from deepatlas_tf.validation.scan_summary import collect

AFFINE = np.diag([1.0, 1.5, 2.0, 1.0])


def findings(csv):
    source = open_files(csv)
    return find(list(collect(source.items, source.load)), source.classes)


def named(csv, severity=(ERROR, WARNING)):
    return {(one.kind, one.subjects) for one in findings(csv) if one.severity in severity}


@pytest.mark.parametrize("with_names", [True, False])
def test_a_clean_set_has_no_finding(new_cohort, with_names):
    assert findings(new_cohort(30).save(with_names)) == []


def add_bad_subjects(cohort, draw_anatomy):
    """Subjects with one defect each; the (kind, subjects) that are to be found."""
    expected = set()

    def defect(kind, subject, **changed):
        cohort.add(subject, **changed)
        expected.add((kind, (subject,)))

    image, label = draw_anatomy(100)
    swapped, large, few, strange = (label.copy() for _ in range(4))
    swapped[label == 1], swapped[label == 2] = 2, 1
    large[4:16, 3:13, 2:10] = 3
    large[label == 1], large[label == 2] = 1, 2
    few[label == 3] = 0
    strange[0, 0, 0] = 77
    nan, fraction = image.copy(), label.astype(np.float32)
    nan[3, 3, 3] = np.nan
    fraction[label == 3] = 2.5
    flipped = [volume[::-1] for volume in draw_anatomy(111)]
    defect("wrong spacing", "d100", affine=np.diag([1.0, 1.5, 3.0, 1.0]))
    defect("empty label map", "d101", label=np.zeros_like(label))
    defect("left and right swapped", "d102", label=swapped)
    defect("left and right swapped", "d103", label=label[::-1])
    defect("unusual volume", "d104", label=large)
    defect("missing class", "d105", label=few)
    defect("label not declared", "d106", label=strange)
    defect("unusable image", "d107", image=nan)
    defect("unusable label map", "d108", label=fraction)
    defect("image and label map on different grids", "d109", label_affine=AFFINE + np.eye(4, k=3) * 5)
    defect("image and label map on different grids", "d110", label=label[:, :, :-1])
    mirrored = np.diag([-1.0, 1.5, 2.0, 1.0])
    defect("unusual handedness", "d111", affine=mirrored, image=flipped[0], label=flipped[1])
    defect("unusual field of view", "d112", image=np.concatenate([image] * 3, 1), label=None)
    defect("unusable image", "d113")
    path = cohort.folder / cohort.lines[-1].split(",")[1]
    path.write_bytes(path.read_bytes()[:-200])  # a broken download
    defect("unusable image", "d114")
    (cohort.folder / cohort.lines[-1].split(",")[1]).unlink()
    return expected


def add_bad_pairs(cohort, draw_anatomy):
    """Subjects that have something in common which they should not; the (kind, subjects) that are to be found."""
    for subject, split, seed in (("d115", "test", 900), ("d116", "train", 901)):
        image, label = draw_anatomy(seed)
        cohort.add(subject, split="train")
        cohort.add(subject, split=split, image=image, label=label)
    for subject, split, seed in (("d117", "validation", 117), ("d118", "train", 117), ("d119", "train", 119)):
        image, label = draw_anatomy(seed)
        cohort.add(subject, split=split, image=image, label=draw_anatomy(120)[1] if subject == "d119" else label)
    image, label = draw_anatomy(120)
    cohort.add("d120", image=image + 1, label=label)
    cohort.add("d121")
    image, label = draw_anatomy(121)
    cohort.add("d122", image=image, label=label)
    return {
        ("subject in two splits", ("d115",)),
        ("subject twice", ("d116",)),
        ("duplicated scan in two splits", ("d117", "d118")),
        ("duplicated label map", ("d119", "d120")),
        ("duplicated scan", ("d121", "d122")),
    }


def test_one_of_each_defect_is_found_and_nothing_else(new_cohort, draw_anatomy):
    cohort = new_cohort(60)
    expected = add_bad_subjects(cohort, draw_anatomy) | add_bad_pairs(cohort, draw_anatomy)
    found = findings(cohort.save())
    found = [one for one in found if one.severity != NOTE]
    assert {(one.kind, one.subjects) for one in found} == expected and len(found) == len(expected)
    errors = {kind for kind in KINDS if KINDS[kind].severity == ERROR}
    elsewhere = {"no image", "schema", "number not in training", "cannot be trained"}  # which have tests of their own
    elsewhere |= {"missing channel", "channels on different grids", "slices and volumes", "too many classes"}
    assert {one.kind for one in found} >= errors - elsewhere
    texts = {one.subjects[0]: one.text for one in found}
    assert "voxels of 1 x 1.5 x 3 mm, most 1 x 1.5 x 2 mm" in texts["d100"]
    assert "left_ball and right_ball lie on each other's side" in texts["d102"]
    assert "77" in texts["d106"] and "NaN" in texts["d107"] and "cannot read" in texts["d113"]
    assert all(subject in text and "\n" not in text for subject, text in texts.items())


def test_swapped_sides_are_found_without_names_too(new_cohort, draw_anatomy):
    cohort = new_cohort(20)
    _, label = draw_anatomy(300)
    swapped = label.copy()
    swapped[label == 1], swapped[label == 2] = 2, 1
    cohort.add("d300", label=swapped)
    (found,) = [one for one in findings(cohort.save(named=False)) if one.severity != NOTE]
    assert (found.kind, found.subjects) == ("left and right swapped", ("d300",)) and "mirrored" in found.text


def test_sides_that_are_wrong_everywhere_are_one_finding(new_cohort, draw_anatomy):
    cohort = new_cohort()
    for i in range(6):
        image, label = draw_anatomy(i)
        cohort.add(f"s{i:02d}", image=image, label=label[::-1])
    (found,) = findings(cohort.save())
    assert found.kind == "left and right swapped" and len(found.subjects) == 6 and "in 6 of 6 subjects" in found.text


def test_left_and_right_knees_in_equal_numbers_are_no_anomaly(new_cohort, draw_anatomy):
    cohort = new_cohort()
    for i in range(12):
        image, label = draw_anatomy(i)
        cohort.add(f"s{i:02d}", image=image, label=label[:: 1 if i % 2 else -1])
    assert findings(cohort.save(named=False)) == []


def test_classes_that_few_or_none_have(new_cohort, draw_anatomy):
    cohort = new_cohort()
    for i in range(10):
        label = draw_anatomy(i)[1]
        label[label == 3] = 3 if i in (2, 5) else 0
        cohort.add(f"s{i:02d}", label=label)
    assert named(cohort.save()) == {("rare class", ("s02", "s05"))}
    path = cohort.save()
    with (cohort.folder / "labels.csv").open("a") as file:
        file.write("4,screw\n5,plate\n")
    (unused,) = [one for one in findings(path) if one.kind == "unused class"]
    assert "2 of 5 declared classes are in no label map: screw, plate" in unused.text


def test_partial_labels_that_are_declared_are_no_finding(new_cohort, draw_anatomy):
    cohort = new_cohort()
    for i in range(12):
        label = draw_anatomy(i)[1]
        label[label == 3] = 3 if i > 8 else 0
        cohort.add(f"s{i:02d}", label=label)
        cohort.lines[-1] += "," + ("" if i > 8 else "1 2")
    path = cohort.save()
    assert ("rare class", ("s09", "s10", "s11")) in named_without_columns(path)
    path.write_text(path.read_text().replace("domain\n", "domain,labelled_classes\n"))
    assert findings(path) == []


def named_without_columns(path):
    """The same scans without the last column."""
    text = path.read_text()
    lines = text.splitlines()
    path.write_text("\n".join([lines[0], *(line.rpartition(",")[0] for line in lines[1:])]) + "\n")
    found = named(path)
    path.write_text(text)
    return found


def test_another_domain_is_compared_with_itself(new_cohort):
    cohort = new_cohort()
    for i in range(20):
        coarse = i >= 14
        affine = np.diag([1.0, 1.5, 4.0, 1.0]) if coarse else AFFINE
        cohort.add(f"s{i:02d}", domain="t2" if coarse else "t1", affine=affine)
    assert findings(cohort.save()) == []
    text = cohort.save().read_text().replace(",t2", ",t1")
    (cohort.folder / "scans.csv").write_text(text)
    (note,) = findings(cohort.folder / "scans.csv")  # 6 of 20 are a kind of their own, no outliers
    assert (note.kind, note.severity) == ("mixed spacing", NOTE)


def test_intensities_of_any_scale_are_a_note(new_cohort, draw_anatomy):
    cohort = new_cohort(8)
    cohort.add("d400", image=draw_anatomy(400)[0] * 3000)
    (note,) = findings(cohort.save())
    assert (note.kind, note.severity) == ("intensity scale", NOTE) and "(d400)" in note.text


def test_a_label_map_without_an_image_among_others_is_an_error(tmp_path, write_nifti, draw_anatomy):
    for i in range(6):
        image, label = draw_anatomy(i)
        write_nifti(tmp_path / f"case_{i}_label.nii.gz", label, AFFINE)
        if i:
            write_nifti(tmp_path / f"case_{i}_t1.nii.gz", image, AFFINE)
    assert named(tmp_path) == {("no image", ("case_0",))}
    for path in tmp_path.glob("*_t1.nii.gz"):
        path.unlink()
    (note,) = findings(tmp_path)  # label maps alone: for images that are synthesised
    assert (note.kind, note.severity) == ("no images", NOTE)


def test_a_copy_under_another_name_and_order_of_axes_is_found(new_cohort, draw_anatomy):
    cohort = new_cohort(6)
    image, label = draw_anatomy(2)
    affine = AFFINE.copy()
    affine[:, 0] *= -1
    affine[0, 3] = image.shape[0] - 1
    cohort.add("d500", image=image[::-1], label=label[::-1], affine=affine)
    assert ("duplicated scan", ("s02", "d500")) in named(cohort.save())


def test_few_subjects_are_told_that_they_cannot_be_compared(new_cohort):
    (note,) = findings(new_cohort(3).save())
    assert (note.kind, note.severity) == ("few subjects", NOTE)


def test_the_proto_holds_anomalies_by_feature_and_no_notes(new_cohort, draw_anatomy):
    cohort = new_cohort(8)
    cohort.add("d600", label=np.zeros_like(draw_anatomy(0)[1]), image=draw_anatomy(600)[0] * 5000)
    cohort.add("d601", affine=np.diag([1.0, 1.5, 3.0, 1.0]))
    schema = schema_pb2.Schema(feature=[schema_pb2.Feature(name="labels")])
    proto = anomalies_proto(findings(cohort.save()), schema)
    assert proto.baseline == schema and set(proto.anomaly_info) == {"labels", "spacing"}
    info = proto.anomaly_info["labels"]
    assert (info.severity, list(info.path.step)) == (anomalies_pb2.AnomalyInfo.ERROR, ["labels"])
    (reason,) = info.reason
    assert reason.type == anomalies_pb2.AnomalyInfo.CUSTOM_VALIDATION and "d600" in reason.description
    assert proto.anomaly_info["spacing"].severity == anomalies_pb2.AnomalyInfo.WARNING


def test_a_file_that_is_no_scan_is_found_with_the_rest(new_cohort):
    cohort = new_cohort(6)
    (cohort.folder / "s00_0.nii.gz").write_bytes(gzip.compress(b"nothing"))
    (cohort.folder / "s01_1_label.nii.gz").write_bytes(b"")
    assert named(cohort.save()) == {("unusable image", ("s00",)), ("unusable label map", ("s01",))}


@pytest.mark.parametrize("given", [True, False], ids=["splits given", "splits drawn"])
def test_a_class_that_no_training_map_has(new_cohort, draw_anatomy, given):
    """Also where the listing leaves it to the program to draw the splits."""
    splits = split_listed([ListedScan(f"s{i:02d}", None, "map", "", "", (), "") for i in range(8)])
    split_of = {subject: split for split, subjects in splits.items() for subject in subjects}
    for rare in ("test", "train"):
        cohort, having = new_cohort(name=rare), splits[rare][0]
        for i in range(8):
            label = draw_anatomy(i)[1]
            label[label == 3] = 3 if f"s{i:02d}" == having else 0
            cohort.add(f"s{i:02d}", split_of[f"s{i:02d}"] if given else "", label=label)
        source = open_files(cohort.save())
        found = find(list(collect(source.items, source.load)), source.classes, source.training)
        texts = [one.text for one in found if one.kind == "class not in training"]
        start = f"no training label map holds midline, in the label maps of {having}: "
        assert ([text.startswith(start) for text in texts] == [True]) if rare == "test" else texts == []
