"""datasets/nifti: the splits where one of two domains has no label map."""

from pathlib import Path

from deepatlas_tf.datasets.listing import ListedScan
from deepatlas_tf.datasets.splits import split_listed


def test_a_domain_without_labels_is_shared_out_too():
    rows = [ListedScan(f"a{k}", Path("i"), Path("l"), "", "mr", (), "") for k in range(10)]
    rows += [ListedScan(f"b{k}", Path("i"), None, "", "ct", (), "") for k in range(10)]
    splits = split_listed([*rows, ListedScan("a_unlabelled", Path("i"), None, "", "mr", (), "")])
    assert tuple(map(len, splits.values())) == (15, 2, 4) and splits["train"][-1] == "a_unlabelled"
    assert {subject[0] for subject in splits["test"]} == {"a", "b"}
