"""Rules on the classes: which ones the label maps hold, and on which side of the body they lie.

Every rule gives (kind, subjects, text) for ``anomalies.Finding``.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Sequence

import numpy as np

from deepatlas_tf.scans.class_names import MAX_CLASSES
from deepatlas_tf.validation.outliers import MAX_SHARE, MIN_SUBJECTS, Found, counted, some
from deepatlas_tf.validation.scan_summary import ScanSummary

COMMON, RARE = 0.9, 0.5  # a class is expected where this share of the subjects has it; absent in most below
SIDE_CUT, SIDE_MM = 4.0, 2.0  # a class belongs to one side where its x is so many deviations and mm off the middle
SIDES = {"left": "right", "l": "r", "lh": "rh"}


def classes(summaries: Sequence[ScanSummary], declared: Sequence[str] = ()) -> list[Found]:
    """Classes that few label maps hold, and label maps without a class that nearly all hold."""
    summaries = [one for one in summaries if one.held]
    occurring = dict.fromkeys(name for one in summaries for name in one.held)
    found: list[Found] = _too_many(occurring, declared)
    missing: dict[str, list[str]] = defaultdict(list)
    unused = [name for name in declared if name not in occurring]
    if unused and summaries:
        text = f"{len(unused)} of {len(declared)} declared classes are in no label map: {some(unused, 6)}"
        found.append(("unused class", (), text))
    for name in occurring:
        asked = [one for one in summaries if one.expected is None or name in one.expected]
        without = [one.subject for one in asked if name not in one.held]
        n, present = len(asked), len(asked) - len(without)
        if n < MIN_SUBJECTS or not without:
            continue
        if present < RARE * n:
            having = tuple(one.subject for one in asked if name in one.held)
            found.append(("rare class", having, f"{name} is in {present} of {n} label maps ({some(having)})"))
        elif len(without) <= max(1, (1 - COMMON) * n):
            for subject in without:
                missing[subject].append(f"{name} (in {present} of {n})")
    for subject, names in missing.items():
        text = f"subject {subject}: its label map lacks {some(names, 6)}"
        found.append(("missing class", (subject,), text))
    return found


def _too_many(occurring: Collection[str], declared: Sequence[str]) -> list[Found]:
    """That there are more classes than training takes; where none are declared, each number is one."""
    n, what = (len(declared), "classes are declared") if declared else (len(occurring), "numbers are in the label maps")
    if n < MAX_CLASSES:
        return []
    text = f"{n} {what}, and at most {MAX_CLASSES - 1} classes can be trained"
    hint = "merge some by giving them one name (labels.csv), or see whether images are listed as label maps"
    return [("too many classes", (), f"{text}; {hint}")]


def swapped_files(summaries: Sequence[ScanSummary]) -> list[Found]:
    """One finding for the label maps that hold more different numbers than their images hold values."""
    wrong = {one.subject: one.more_labels_than_values for one in summaries if one.more_labels_than_values}
    if not wrong:
        return []
    subject, counts = next(iter(wrong.items()))
    text = (
        f"{counted(len(wrong), 'label map')} of {len(summaries)} with more different numbers than the image has values "
        f"({subject}: {counts[0]} and {counts[1]}); the columns or folders of image and label may be swapped"
    )
    return [("image and label map swapped", tuple(wrong), text)]


def untaught(summaries: Sequence[ScanSummary], training: Collection[str], declared: Sequence[str]) -> list[Found]:
    """Classes that label maps of validation or test subjects hold, and none of a training subject.

    ``training``: subjects that training would take, besides those whose split is train. Where no classes are
    ``declared``, those of the training label maps are all that training takes.
    """
    labelled = [one for one in summaries if one.held]
    taught = [one for one in labelled if one.split == "train" or one.subject in training]
    known = {name for one in taught for name in one.held}
    missing = [name for name in dict.fromkeys(n for one in labelled for n in one.held) if name not in known]
    if not taught or not missing:
        return []
    having = tuple(one.subject for one in labelled if set(missing) & set(one.held))
    text = f"no training label map holds {some(missing, 6)}, in the label maps of {some(having)}"
    if not declared:
        hint = "training stops at them; name all classes in labels.csv, or give one of these maps to training"
        return [("number not in training", having, f"{text}: {hint}")]
    return [("class not in training", having, f"{text}: what has no examples is not learned and scores 0")]


def sides(summaries: Sequence[ScanSummary]) -> list[Found]:
    """Classes on the wrong side: by their names in each subject, and by where the class lies in the other subjects."""
    summaries = [one for one in summaries if one.held]
    found = _named_sides(summaries)
    reported = {subjects[0] for _, subjects, _ in found if len(subjects) == 1}
    return found + [one for one in _usual_sides(summaries) if one[1][0] not in reported]


def side_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """The (left, right) class names that differ in one word: ``Left-Putamen`` and ``Right-Putamen``, ``lh.v1``..."""
    known = {name.lower(): name for name in names}
    pairs = []
    for name in names:
        words = re.split(r"([^a-z0-9]+)", name.lower())
        for i, word in enumerate(words):
            partner = "".join([*words[:i], SIDES.get(word, ""), *words[i + 1 :]])
            if word in SIDES and partner in known:
                pairs.append((name, known[partner]))
    return pairs


def _named_sides(summaries: Sequence[ScanSummary]) -> list[Found]:
    pairs = side_pairs(list(dict.fromkeys(name for one in summaries for name in one.held)))
    wrong = {}
    for one in summaries:
        both = [(left, right) for left, right in pairs if left in one.held and right in one.held]
        x = [one.held[left].centre[0] - one.held[right].centre[0] for left, right in both]
        names = [" and ".join(pair) for pair, distance in zip(both, x, strict=True) if distance > SIDE_MM]
        if names:
            wrong[one.subject] = f"{some(names)} lie on each other's side"
    if len(wrong) > 1 and len(wrong) > len(summaries) / 2:
        text = (
            f"in {len(wrong)} of {len(summaries)} subjects {next(iter(wrong.values()))}: check the affines or the names"
        )
        return [("left and right swapped", tuple(wrong), text)]
    return [("left and right swapped", (subject,), f"subject {subject}: {text}") for subject, text in wrong.items()]


def _usual_sides(summaries: Sequence[ScanSummary]) -> list[Found]:
    """Classes whose x, from the mean of the classes that nearly all subjects have, is on the other side than usual."""
    n = len(summaries)
    names = list(dict.fromkeys(name for one in summaries for name in one.held))
    names = [name for name in names if sum(name in one.held for one in summaries) >= max(COMMON * n, n - 1, 1)]
    summaries = [one for one in summaries if any(name in one.held for name in names)]
    if n < MIN_SUBJECTS or len(names) < 2:
        return []
    x = np.array([[one.held[m].centre[0] if m in one.held else np.nan for m in names] for one in summaries])
    x -= np.nanmean(x, axis=1, keepdims=True)
    usual = np.nanmedian(x, axis=0)
    spread = 1.4826 * np.nanmedian(np.abs(x - usual), axis=0)
    lateral = np.abs(usual) > np.maximum(SIDE_CUT * spread, SIDE_MM)
    other = (x * np.sign(usual) < -0.5 * np.abs(usual)) & lateral
    found: list[Found] = []
    for one, wrong in zip(summaries, other, strict=True):
        if wrong.sum() < 2:  # two classes that have changed places, at least
            continue
        which = [name for name, is_wrong in zip(names, wrong, strict=True) if is_wrong]
        if len(which) > 0.5 * lateral.sum():
            text = "its label map is mirrored against the others: left and right are swapped, or it is the other side"
        else:
            text = f"{some(which, 6)} lie on the other side than in the other subjects"
        found.append(("left and right swapped", (one.subject,), f"subject {one.subject}: {text}"))
    return found if len(found) <= MAX_SHARE * n else []
