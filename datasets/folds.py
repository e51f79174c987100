"""Cross-validation: the same prepared data set, with other subjects to test and to validate.

The labelled subjects lie on a ring: those of the test split, of the validation split, of training. A fold turns it by
the number of test subjects, so that over all folds each subject is tested once; where they do not go into equal parts,
the last fold tests some again. Fold 0 is the data set as it was prepared. Subjects without a label map always train.

Where a number of folds is given, the ring is cut into so many parts, which differ by one subject at most, and each part
is tested once: as many folds as subjects leave one out.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from deepatlas_tf.datasets.alignment import NONE
from deepatlas_tf.datasets.splits import SPLITS
from deepatlas_tf.types import SettingError

if TYPE_CHECKING:
    from deepatlas_tf.datasets.load import DataSet

Place = tuple[str, int]  # the split of the records in which a subject lies, and its number there


def fold_of(dataset: "DataSet", fold: int, n_folds: int = 0) -> "DataSet":
    """The data set of a fold, counted from 0; it reads the same records.

    Args:
        dataset: with the splits that it was prepared with.
        fold: which one.
        n_folds: into how many the labelled subjects are cut; 0 for as many as the test split goes into them. With
            so many folds as many subjects validate as in the splits, but at most a third of those that are not tested.

    Raises:
        SettingError: if there is no such fold, or not a subject with a label map for each; or another one than 0 where
            scans were aligned to a training subject, which would be tested in some fold, or where subjects without a
            label map are tested or validated.
    """
    labelled = {split: [s for s in dataset.subjects[split] if s in dataset.labelled[split]] for split in SPLITS}
    ring = [*labelled["test"], *labelled["validation"], *labelled["train"]]
    n_test, n_validation = len(labelled["test"]), len(labelled["validation"])
    if n_folds and not 2 <= n_folds <= len(ring):
        raise SettingError(
            f"data.folds={n_folds}: {dataset.name} has {len(ring)} subject(s) with a label map, which make 2 to "
            f"{len(ring)} folds"
        )
    found = n_folds or (-(-len(ring) // n_test) if n_test else 1)
    if not 0 <= fold < found:
        raise SettingError(f"data.fold={fold}: {dataset.name} has {found} fold(s), counted from 0")
    if fold == 0 and not n_folds:
        return dataset
    if dataset.alignment != NONE:
        raise SettingError("data.fold takes scans that are not aligned: in one of the folds the reference is tested")
    others = [subject for subject in dataset.subjects["train"] if subject not in labelled["train"]]
    if len(ring) + len(others) < sum(map(len, dataset.subjects.values())):
        raise SettingError("data.fold takes splits in which all test and validation subjects have a label map")
    start = min(fold * n_test, len(ring) - n_test)
    if n_folds:
        start, end = (len(ring) * index // n_folds for index in (fold, fold + 1))
        n_test, n_validation = end - start, min(n_validation, (len(ring) - end + start) // 3)
    turned = ring[start:] + ring[:start]
    subjects = {
        "test": tuple(turned[:n_test]),
        "validation": tuple(turned[n_test : n_test + n_validation]),
        "train": (*turned[n_test + n_validation :], *others),
    }
    places = {s: (split, i) for split in SPLITS for i, s in enumerate(dataset.subjects[split])}
    return dataclasses.replace(
        dataset,
        subjects=subjects,
        labelled={split: tuple(s for s in subjects[split] if s in ring) for split in SPLITS},
        read_from={split: records_of([places[s] for s in ids]) for split, ids in subjects.items() if ids},
    )


def records_of(places: Sequence[Place]) -> str:
    """TFDS's expression for these records in this order, such as ``test[3:5]+validation[0:2]``."""
    found = []
    for _, run in itertools.groupby(enumerate(places), key=lambda item: (item[1][0], item[1][1] - item[0])):
        (_, (split, first)), *others = run
        found.append(f"{split}[{first}:{first + 1 + len(others)}]")
    return "+".join(found)
