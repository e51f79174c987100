"""datasets/nifti: the splits where one of two domains has no label map."""

from pathlib import Path

from deepatlas_tf.datasets.listing import ListedScan
from deepatlas_tf.datasets.splits import split_listed


def test_a_domain_without_labels_is_shared_out_too():
    rows = [ListedScan(f"a{k}", Path("i"), Path("l"), "", "mr", (), "") for k in range(10)]
    rows += [ListedScan(f"b{k}", Path("i"), None, "", "ct", (), "") for k in range(10)]
    splits = split_listed([*rows, ListedScan("a_unlabelled", Path("i"), None, "", "mr", (), "")])
    assert tuple(map(len, splits.values())) == (13, 4, 4) and splits["train"][-1] == "a_unlabelled"
    for split in ("validation", "test"):
        assert sorted(subject[0] for subject in splits[split]) == ["a", "a", "b", "b"]


def test_few_labelled_subjects_of_one_domain_are_kept_for_training():
    rows = [ListedScan(f"a{k}", Path("i"), Path("l"), "", "mr", (), "") for k in range(3)]
    rows += [ListedScan(f"b{k}", Path("i"), None, "", "ct", (), "") for k in range(20)]
    splits = split_listed(rows)
    assert set(splits["train"]) >= {"a0", "a1", "a2"} and tuple(map(len, splits.values())) == (17, 2, 4)
