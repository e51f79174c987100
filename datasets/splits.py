"""Which subjects are for training, validation and test, where nobody has said it."""

from collections.abc import Sequence

import numpy as np

from deepatlas_tf.datasets.listing import ListedScan, labelled_domains
from deepatlas_tf.types import DataError

SPLITS = ("train", "validation", "test")


def split_subjects(subjects: Sequence[str], n_test: int, n_validation: int, full: int) -> dict[str, list[str]]:
    """Draw ``n_test`` subjects to test and ``n_validation`` to validate; the others are for training.

    They are sorted and permuted with RandomState(0). Fewer than ``full`` subjects are split in the proportions
    ``n_test : n_validation : full``, at least one in each; 0 stays 0. Raises DataError for fewer than 4 subjects.
    """
    if len(subjects) < 4:
        raise DataError(
            f"only {len(subjects)} subject(s) with a label map ({', '.join(subjects)}): at least 4 are needed, "
            "two to train, one to validate and one to test"
        )
    if len(subjects) < full:
        n_test, n_validation = (max(1, len(subjects) * n // full) if n else 0 for n in (n_test, n_validation))
    order = np.random.RandomState(0).permutation(sorted(subjects)).tolist()
    return {
        "train": order[n_test + n_validation :],
        "validation": order[n_test : n_test + n_validation],
        "test": order[:n_test],
    }


def split_listed(scans: Sequence[ListedScan]) -> dict[str, list[str]]:
    """The subjects of each split, as given; where not, 20 % of the labelled ones to test and 10 % to validate.

    From eight labelled subjects on it is two of each at least: a registration is measured on a pair. The others and
    those without a label map are for training. Where no subject of a domain has a label map, its subjects count as
    labelled ones, since folds can be measured without. Given test subjects stay the only ones.
    Raises DataError where there are too few.
    """
    given = {split: [scan.subject for scan in scans if scan.split == split] for split in SPLITS}
    free = [scan for scan in scans if not scan.split]
    if not free:
        return given
    with_maps = labelled_domains(scans)
    measured = [scan.subject for scan in free if scan.label is not None or scan.domain not in with_maps]
    n = len(measured)
    n_test, n_validation = (max(n // part, 2 if n >= 8 else 1) for part in (5, 10))
    splits = split_subjects(measured, 0 if given["test"] else n_test, n_validation, full=n)
    others = sorted({scan.subject for scan in free} - set(measured))
    return {**splits, "train": [*splits["train"], *others], "test": given["test"] or splits["test"]}
