"""Which subjects are for training, validation and test, where nobody has said it."""

from collections.abc import Collection, Mapping, Sequence

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
    return _drawn(subjects, n_test, n_validation)


def split_listed(scans: Sequence[ListedScan]) -> dict[str, list[str]]:
    """The subjects of each split, as given; where not, 20 % of the labelled ones to test and 10 % to validate.

    From eight labelled subjects on it is two of each at least: a registration is measured on a pair. Fewer are needed
    to train: six or seven give one to each, four or five one to test, three or fewer none. The others and those without
    a label map are for training. Where no subject of a domain has a label map, its subjects are shared out as the
    labelled ones are, since folds can be measured without. Given test subjects stay the only ones.
    """
    given = {split: [scan.subject for scan in scans if scan.split == split] for split in SPLITS}
    free = [scan for scan in scans if not scan.split]
    if not free:
        return given
    with_maps = labelled_domains(scans)
    labelled = [scan.subject for scan in free if scan.label is not None]
    unlabelled = [scan.subject for scan in free if scan.domain not in with_maps]
    groups = []
    for subjects in (labelled, unlabelled):
        n_test, n_validation = _held_out(len(subjects))
        groups.append(_drawn(subjects, 0 if given["test"] else n_test, n_validation))
    others = sorted({scan.subject for scan in free}.difference(labelled, unlabelled))
    splits = {split: [subject for group in groups for subject in group[split]] for split in SPLITS}
    return {**splits, "train": [*splits["train"], *others], "test": given["test"] or splits["test"]}


def not_measured(subjects: Mapping[str, Collection[str]], labelled: Mapping[str, Collection[str]]) -> str:
    """One line on what too few label maps in the test and validation splits leave undone; empty where that is nothing.

    Args:
        subjects: of each split.
        labelled: those of them that have a label map.
    """
    n_validation, n_test = (len(labelled.get(split, ())) for split in ("validation", "test"))
    kept = {0: "the last networks are kept", 1: "the last registration network is kept"}.get(n_validation, "")
    if n_test > 1:
        return f"too few label maps to choose the best networks: {kept}" if kept else ""
    missing = "to measure registration" if n_test else "to measure"
    if not n_test and has_cases(subjects, labelled, "test"):
        missing = "to measure more than the folds of fields"
    return f"too few label maps {missing}{': ' if kept else ''}{kept}"


def folds_hint(subjects: Mapping[str, Collection[str]], labelled: Mapping[str, Collection[str]]) -> str:
    """The words that recommend a cross-validation, after what is not measured; empty where there can or need be none.

    From 4 label maps on two of them or more are tested in each fold, since a registration is measured on a pair.
    """
    n = sum(len(labelled.get(split, ())) for split in SPLITS)
    unlabelled = any(set(subjects.get(split, ())) - set(labelled.get(split, ())) for split in ("test", "validation"))
    if n < 2 or unlabelled or len(labelled.get("test", ())) > 1:
        return ""
    return f"; train --folds {n if n < 4 else min(5, n // 2)} tests each labelled scan once"


def has_cases(
    subjects: Mapping[str, Collection[str]],
    labelled: Mapping[str, Collection[str]],
    split: str,
    registers: bool = True,
) -> bool:
    """Whether anything can be measured in a split: on a label map, or the folds of a pair without.

    ``registers``: whether there is a network to register the pair. The others are as for ``not_measured``.
    """
    return bool(labelled.get(split)) or (registers and len(subjects.get(split, ())) > 1)


def _held_out(n: int) -> tuple[int, int]:
    """How many of ``n`` subjects test and validate."""
    if n >= 8:
        return max(n // 5, 2), max(n // 10, 2)
    return int(n >= 4), int(n >= 6)


def _drawn(subjects: Sequence[str], n_test: int, n_validation: int) -> dict[str, list[str]]:
    order = np.random.RandomState(0).permutation(sorted(subjects)).tolist()
    return {
        "train": order[n_test + n_validation :],
        "validation": order[n_test : n_test + n_validation],
        "test": order[:n_test],
    }
