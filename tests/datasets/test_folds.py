"""Cross-validation of a prepared data set: who is tested when, and that the records are theirs."""

import dataclasses

import numpy as np
import pytest

from deepatlas_tf.datasets.folds import fold_of, records_of
from deepatlas_tf.datasets.load import load_dataset
from deepatlas_tf.types import SettingError

IDS = [f"case_{n:02d}" for n in range(10)]
UNLABELLED = {"case_03", "case_07"}


@pytest.fixture
def load(tmp_path, write_scans):
    """load(fold) -> ten small scans, eight of them with a label map."""
    write_scans(tmp_path / "Task04_Hippocampus", IDS, unlabelled=UNLABELLED)

    def load(fold, **options):
        return load_dataset(
            "hippocampus", data_dir=tmp_path / "tfds", manual_dir=tmp_path, shape=(12, 14, 12), fold=fold, **options
        )

    return load


def test_each_labelled_subject_is_tested_once(load):
    n_test = len(load(0).subjects["test"])
    folds = [load(fold) for fold in range(-(-8 // n_test))]
    tested = [s for fold in folds for s in fold.subjects["test"]]
    assert set(tested) == set(IDS) - UNLABELLED and len(tested) - 8 < n_test
    for fold in folds:
        assert sorted(sum(fold.subjects.values(), ())) == IDS
        assert UNLABELLED <= set(fold.subjects["train"]) and set(fold.labelled["train"]).isdisjoint(UNLABELLED)
        assert all(len(ids) == len(folds[0].subjects[split]) for split, ids in fold.subjects.items())
    assert len({fold.labelled["train"][0] for fold in folds}) > 1  # one label is drawn anew


def test_fold_0_is_as_prepared(load):
    whole = load(0)
    assert fold_of(whole, 0) is whole and whole.read_from == {}


@pytest.mark.slow
def test_records_are_those_of_the_subjects(load):
    images = {
        s["subject"]: s["image"] for split in IDS and ("train", "validation", "test") for s in _read(load(0), split)
    }
    data = load(2)
    for split in data.subjects:
        samples = _read(data, split)
        assert [s["subject"].decode() for s in samples] == list(data.subjects[split])
        for sample in samples:
            np.testing.assert_array_equal(sample["image"], images[sample["subject"]])
            assert sample["label_weight"].all() == (sample["subject"].decode() in data.labelled[split])


def _read(data, split):
    return list(data.samples(split).as_numpy_iterator())


def test_records_in_words():
    places = [("test", 3), ("test", 4), ("validation", 0), ("train", 0), ("train", 2), ("train", 1)]
    assert records_of(places) == "test[3:5]+validation[0:1]+train[0:1]+train[2:3]+train[1:2]"


@pytest.mark.parametrize("fold", [-1, 8, 100])
def test_no_such_fold(load, fold):
    with pytest.raises(SettingError, match=rf"data.fold={fold}: hippocampus has \d fold\(s\), counted from 0"):
        load(fold)


@pytest.mark.slow
@pytest.mark.parametrize("n_folds", [2, 3, 5, 8])
def test_so_many_folds_as_asked_for(load, n_folds):
    folds = [load(fold, folds=n_folds) for fold in range(n_folds)]
    tested = [s for fold in folds for s in fold.subjects["test"]]
    assert sorted(tested) == sorted(set(IDS) - UNLABELLED)  # each once
    sizes = [len(fold.subjects["test"]) for fold in folds]
    assert max(sizes) - min(sizes) <= 1
    for fold in folds:
        assert sorted(sum(fold.subjects.values(), ())) == IDS and fold.labelled["train"]
        for split, subjects in fold.subjects.items():
            assert [s["subject"].decode() for s in _read(fold, split)] == list(subjects)


@pytest.mark.parametrize("n_folds", [-1, 1, 9])
def test_a_number_of_folds_that_cannot_be(load, n_folds):
    with pytest.raises(SettingError, match=r"hippocampus has 8 subject\(s\) with a label map, which make 2 to 8 folds"):
        load(0, folds=n_folds)


def test_folds_of_subjects_that_are_tested_without_a_label_map(load):
    """As those of a domain without labels, whose folds are counted."""
    data = load(0)
    tested = data.subjects["test"][0]
    unlabelled = {**data.labelled, "test": tuple(s for s in data.labelled["test"] if s != tested)}
    with pytest.raises(SettingError, match="all test and validation subjects have a label map"):
        fold_of(dataclasses.replace(data, labelled=unlabelled, subjects=data.subjects), 1)


def test_aligned_scans_have_one_fold(load):
    aligned = dataclasses.replace(load(0), alignment="rigid")
    with pytest.raises(SettingError, match="data.fold takes scans that are not aligned"):
        fold_of(aligned, 1)
