"""The summary of a scan against nibabel and NumPy by hand."""

import threading

import nibabel as nib
import numpy as np
import pytest

from deepatlas_tf.scans.nifti import Nifti
from deepatlas_tf.validation import anomalies
from deepatlas_tf.validation.readers import load_files
from deepatlas_tf.validation.scan_summary import LoadedScan, collect, digest, summary_of


def test_facts_of_files_are_those_read_with_nibabel(tmp_path, write_nifti, draw_anatomy):
    image, label = draw_anatomy(3)
    turned = np.diag([-0.8, 1.5, 2.5, 1])[[1, 0, 2, 3]]  # the first axis points to anterior, the second to the left
    turned[:3, 3] = 10, -20, 30
    turned[:2, :2] = [[0, -0.8], [1.5, 0]]
    files = [write_nifti(tmp_path / name, volume, turned) for name, volume in (("i.nii.gz", image), ("l.nii", label))]
    summary = summary_of(load_files("s03", *files))

    stored = nib.load(files[0])
    ras = nib.as_closest_canonical(stored)
    assert summary.orientation == "".join(nib.aff2axcodes(stored.affine)) == "ALS"
    assert summary.shape == ras.shape == (16, 20, 12)
    np.testing.assert_allclose(summary.spacing, ras.header.get_zooms(), rtol=1e-6)
    assert summary.right_handed == (np.linalg.det(stored.affine[:3, :3]) > 0)
    voxels = stored.get_fdata()
    low, high = np.percentile(voxels[voxels != 0], [0.5, 99.5])
    expected = {"min": voxels.min(), "low": low, "mean": voxels.mean(), "high": high, "max": voxels.max()}
    assert summary.intensity == pytest.approx(expected, rel=1e-5)
    assert list(summary.structures) == ["class_1", "class_2", "class_3"]
    for number in (1, 2, 3):
        found = summary.structures[f"class_{number}"]
        where = np.argwhere(nib.load(files[1]).get_fdata() == number)
        assert found.voxels == len(where)
        assert found.volume_ml == pytest.approx(len(where) * 0.8 * 1.5 * 2.5 / 1000)
        np.testing.assert_allclose(found.centre, nib.affines.apply_affine(turned, where).mean(0), atol=1e-5)


def test_numbers_become_classes(draw_anatomy):
    _, label = draw_anatomy(0)
    label[0, 0, 0] = 99
    numbers = {3: "ball", 1: "ball", 2: None}
    summary = summary_of(
        LoadedScan("a", label=Nifti(label.astype(np.int32), np.eye(4)), has_label=True, class_of=numbers)
    )
    assert list(summary.structures) == ["ball"] and summary.structures["ball"].voxels == np.isin(label, [1, 3]).sum()
    assert summary.undeclared == (99,)


def test_a_slice_has_two_axes():
    volume = np.arange(12, dtype=np.float32).reshape(3, 4)
    summary = summary_of(LoadedScan("a", image=Nifti(volume, np.array([[0, -2.0, 0], [3, 0, 0], [0, 0, 1]]))))
    assert (summary.shape, summary.spacing, summary.orientation) == ((4, 3), (2.0, 3.0), "AL")


def test_a_digest_is_of_the_voxels_whatever_the_file(tmp_path, write_nifti, draw_anatomy):
    image, _ = draw_anatomy(1)
    image = np.rint(image)
    flip = np.diag([-1.0, 1, 1, 1])
    flip[0, 3] = image.shape[0] - 1
    same = [Nifti(image, np.eye(4)), Nifti(image[::-1], flip), Nifti(image.astype(np.int16), np.eye(4))]
    assert len({digest(one) for one in same}) == 1
    large = [Nifti(np.full((3, 4, 5), 614454276 + k), np.eye(4)) for k in range(2)]  # one number as float32
    assert digest(large[0]) != digest(large[1])
    other = image.copy()
    other[3, 3, 3] += 1
    assert digest(Nifti(other, np.eye(4))) != digest(same[0])
    assert digest(Nifti(image[::-1], np.eye(4))) != digest(same[0])


def test_collecting_keeps_the_order_and_few_scans_in_memory():
    inside, most, lock = set(), [], threading.Lock()

    def load(i):
        with lock:
            inside.add(i)
            most.append(len(inside))
        return LoadedScan(str(i), image=Nifti(np.full((2, 2, 2), i, np.float32), np.eye(4)))

    subjects = []
    for summary in collect(range(40), load, workers=3):
        subjects.append(summary.subject)
        with lock:
            inside.discard(int(summary.subject))
    assert subjects == [str(i) for i in range(40)]
    assert max(most) <= 4


def test_forms_that_disagree_are_a_problem_of_each_file(tmp_path, draw_anatomy, capsys):
    image, label = draw_anatomy(1)
    paths = []
    for name, volume in (("image", image), ("label", label.astype(np.uint8))):
        scan = nib.Nifti1Image(volume, np.eye(4))
        scan.set_qform(np.diag([-1.0, 1, 1, 1]), 1)
        nib.save(scan, tmp_path / f"{name}.nii.gz")
        paths.append(tmp_path / f"{name}.nii.gz")
    found = summary_of(load_files("s1", *paths))
    texts = [problem.text for problem in found.problems]
    assert [problem.kind for problem in found.problems] == ["doubtful position"] * 2
    assert all(f"{path} has a qform and an sform" in text for path, text in zip(paths, texts, strict=True))
    findings = [one for one in anomalies.find([found]) if one.severity == anomalies.WARNING]
    assert [one.text for one in findings] == texts and {one.kind for one in findings} == {"doubtful position"}
    assert capsys.readouterr().err == ""  # it is in the report
