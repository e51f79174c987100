"""Rules that compare each subject with the others. Every rule gives (kind, subjects, text) for ``anomalies.Finding``.

A value is out of line where its logarithm is further from the median than CUT robust standard deviations (1.4826 times
the median absolute deviation; Hampel 1974; Iglewicz and Hoaglin 1993 use 3.5, which among a hundred structures finds
several healthy ones in every set) and, since the deviation may be 0, also further than a least factor:

=================  ===============================================================================
spacing            1.02; one axis of one scan
field of view      2; one axis, mm
volume             2; one class, where its median is at least MIN_VOXELS voxels
=================  ===============================================================================

More than MAX_SHARE of the subjects out of line are no outliers but a set of several kinds: a note, or nothing.
"""

import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from deepatlas_tf.validation.scan_summary import ScanSummary

CUT = 5.0
MIN_SUBJECTS = 5
MIN_VOXELS = 20
MAX_SHARE = 0.2
COMMON, RARE = 0.9, 0.5  # a class is expected where this share of the subjects has it; absent in most below
SPACING_FACTOR, FIELD_FACTOR, VOLUME_FACTOR = 1.02, 2.0, 2.0
INTENSITY_FACTOR = 10.0
SIDE_CUT, SIDE_MM = 4.0, 2.0  # a class belongs to one side where its x is so many deviations and mm off the middle
SIDES = {"left": "right", "l": "r", "lh": "rh"}

Found = tuple[str, tuple[str, ...], str]


def by_domain(summaries: Sequence[ScanSummary]) -> list[list[ScanSummary]]:
    """The summaries of each domain, in the order in which the domains come."""
    groups = defaultdict(list)
    for one in summaries:
        groups[one.domain].append(one)
    return list(groups.values())


def some(names: Sequence[str], n: int = 3) -> str:
    """``a, b, c and 4 others``"""
    rest = len(names) - n
    return ", ".join(names[:n]) + (f" and {rest} other{'s' * (rest > 1)}" if rest > 0 else "")


def out_of_line(values: Sequence[float], least_factor: float) -> np.ndarray:
    """(n,) bool: which of the positive values are; none where there are too few, or too many of them are."""
    logs = np.log(np.maximum(np.asarray(values, np.float64), 1e-12))
    if len(logs) < MIN_SUBJECTS:
        return np.zeros(len(logs), bool)
    distance = np.abs(logs - np.median(logs))
    found = distance > max(CUT * 1.4826 * np.median(distance), np.log(least_factor))
    return found if found.mean() <= MAX_SHARE else np.zeros(len(logs), bool)


def spacing(summaries: Sequence[ScanSummary]) -> list[Found]:
    """Scans whose voxels are not of the size that most have, along any axis; and whether the sizes vary."""
    summaries = _on_one_dimension(summaries)
    if not summaries:
        return []
    sizes = np.array([one.spacing for one in summaries])
    wrong = np.stack([out_of_line(axis, SPACING_FACTOR) for axis in sizes.T], -1).any(-1)
    usual = _by_x(np.median(sizes, 0))
    found = [
        ("wrong spacing", (one.subject,), f"subject {one.subject}: voxels of {_by_x(one.spacing)} mm, most {usual} mm")
        for one, is_wrong in zip(summaries, wrong, strict=True)
        if is_wrong
    ]
    ratio = sizes[~wrong].max(0) / sizes[~wrong].min(0)
    if ratio.max() > SPACING_FACTOR:
        low, high = _by_x(sizes[~wrong].min(0)), _by_x(sizes[~wrong].max(0))
        found.append(("mixed spacing", (), f"voxels from {low} to {high} mm; training resamples them to one size"))
    return found


def field_of_view(summaries: Sequence[ScanSummary]) -> list[Found]:
    """Scans that cover much more or less along an axis than most, in mm."""
    summaries = _on_one_dimension(summaries)
    if not summaries:
        return []
    extent = np.array([np.multiply(one.shape, one.spacing) for one in summaries])
    wrong = np.stack([out_of_line(axis, FIELD_FACTOR) for axis in extent.T], -1).any(-1)
    usual = _by_x(np.median(extent, 0))
    return [
        ("unusual field of view", (one.subject,), f"subject {one.subject}: covers {_by_x(size)} mm, most {usual} mm")
        for one, size, is_wrong in zip(summaries, extent, wrong, strict=True)
        if is_wrong
    ]


def handedness(summaries: Sequence[ScanSummary]) -> list[Found]:
    """One scan whose axes are stored mirrored: right by its affine, wrong for every program that ignores it."""
    summaries = [one for one in summaries if one.orientation]
    orientations = sorted({one.orientation for one in summaries})
    if len(orientations) < 2:
        return []
    right = [one for one in summaries if one.right_handed]
    few, many = sorted((right, [one for one in summaries if not one.right_handed]), key=len)
    mixed = ("mixed orientation", (), f"axes are stored as {', '.join(orientations)}; training brings them to RAS")
    if not few or len(summaries) < MIN_SUBJECTS or len(few) > MAX_SHARE * len(summaries):
        return [mixed]
    usual = max({one.orientation for one in many}, key=[one.orientation for one in many].count)
    text = "subject {}: axes are stored as {}, mirrored against the others ({}); check left and right of the image"
    return [("unusual handedness", (one.subject,), text.format(one.subject, one.orientation, usual)) for one in few]


def intensity(summaries: Sequence[ScanSummary]) -> list[Found]:
    """One finding where the scales of the intensities differ much; training rescales them."""
    high = {one.subject: one.intensity["high"] for one in summaries if one.intensity and one.intensity["high"] > 0}
    if len(high) < 2 or max(high.values()) < INTENSITY_FACTOR * min(high.values()):
        return []
    low, top = min(high, key=high.get), max(high, key=high.get)
    text = f"scales differ: 99.5 percentile from {high[low]:.6g} ({low}) to {high[top]:.6g} ({top})"
    return [("intensity scale", (), f"{text}; training rescales each scan by its own percentiles")]


def volumes(summaries: Sequence[ScanSummary]) -> list[Found]:
    """Each class against the same class of the others; one finding a subject."""
    summaries = [one for one in summaries if one.structures]
    found = defaultdict(list)
    for name in dict.fromkeys(name for one in summaries for name in one.structures):
        having = [one for one in summaries if name in one.structures]
        if np.median([one.structures[name].voxels for one in having]) < MIN_VOXELS:
            continue
        ml = [one.structures[name].volume_ml for one in having]
        for one, value, wrong in zip(having, ml, out_of_line(ml, VOLUME_FACTOR), strict=True):
            if wrong:
                found[one.subject].append(f"{name} {value:.3g} ml (median {np.median(ml):.3g})")
    return [
        ("unusual volume", (subject,), f"subject {subject}: {some(texts, 6)}; look at its label map")
        for subject, texts in found.items()
    ]


def few(summaries: Sequence[ScanSummary]) -> list[Found]:
    """One finding where there are too few subjects to compare them."""
    if len(summaries) >= MIN_SUBJECTS:
        return []
    whose = f" of domain {summaries[0].domain}" if summaries[0].domain else ""
    text = f"{len(summaries)} subject(s){whose}: too few to compare them with each other ({MIN_SUBJECTS} are needed)"
    return [("few subjects", tuple(one.subject for one in summaries), text)]


RULES = (spacing, field_of_view, handedness, intensity, volumes, few)


def classes(summaries: Sequence[ScanSummary], declared: Sequence[str] = ()) -> list[Found]:
    """Classes that few label maps hold, and label maps without a class that nearly all hold."""
    summaries = [one for one in summaries if one.structures]
    occurring = dict.fromkeys(name for one in summaries for name in one.structures)
    found, missing = [], defaultdict(list)
    unused = [name for name in declared if name not in occurring]
    if unused and summaries:
        text = f"{len(unused)} of {len(declared)} declared classes are in no label map: {some(unused, 6)}"
        found.append(("unused class", (), text))
    for name in occurring:
        asked = [one for one in summaries if one.expected is None or name in one.expected]
        without = [one.subject for one in asked if name not in one.structures]
        n, present = len(asked), len(asked) - len(without)
        if n < MIN_SUBJECTS or not without:
            continue
        if present < RARE * n:
            having = tuple(one.subject for one in asked if name in one.structures)
            found.append(("rare class", having, f"class {name} is in {present} of {n} label maps ({some(having)})"))
        elif len(without) <= max(1, (1 - COMMON) * n):
            for subject in without:
                missing[subject].append(f"{name} (in {present} of {n})")
    for subject, names in missing.items():
        text = f"subject {subject}: its label map lacks {some(names, 6)}"
        found.append(("missing class", (subject,), text))
    return found


def sides(summaries: Sequence[ScanSummary]) -> list[Found]:
    """Classes on the wrong side: by their names in each subject, and by where the class lies in the other subjects."""
    summaries = [one for one in summaries if one.structures]
    found = _named_sides(summaries)
    reported = {subjects[0] for _, subjects, _ in found if len(subjects) == 1}
    return found + [one for one in _usual_sides(summaries) if one[1][0] not in reported]


def side_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """(left, right) of the class names that differ in one word: ``Left-Putamen`` and ``Right-Putamen``, ``lh.v1``..."""
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
    pairs = side_pairs(list(dict.fromkeys(name for one in summaries for name in one.structures)))
    wrong = {}
    for one in summaries:
        both = [(left, right) for left, right in pairs if left in one.structures and right in one.structures]
        x = [one.structures[left].centre[0] - one.structures[right].centre[0] for left, right in both]
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
    """x of each class from the subject's middle, which is the mean of the classes that nearly all have."""
    n = len(summaries)
    names = list(dict.fromkeys(name for one in summaries for name in one.structures))
    names = [name for name in names if sum(name in one.structures for one in summaries) >= max(COMMON * n, n - 1, 1)]
    summaries = [one for one in summaries if any(name in one.structures for name in names)]
    if n < MIN_SUBJECTS or len(names) < 2:
        return []
    x = np.array([[one.structures[m].centre[0] if m in one.structures else np.nan for m in names] for one in summaries])
    x -= np.nanmean(x, axis=1, keepdims=True)
    usual = np.nanmedian(x, axis=0)
    spread = 1.4826 * np.nanmedian(np.abs(x - usual), axis=0)
    lateral = np.abs(usual) > np.maximum(SIDE_CUT * spread, SIDE_MM)
    other = (x * np.sign(usual) < -0.5 * np.abs(usual)) & lateral
    found = []
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


def _on_one_dimension(summaries: Sequence[ScanSummary]) -> list[ScanSummary]:
    """Those with a grid, all of the dimension that most have."""
    dimensions = [len(one.spacing) for one in summaries if one.spacing]
    return [one for one in summaries if one.spacing and len(one.spacing) == max(dimensions, key=dimensions.count)]


def _by_x(values) -> str:
    return " x ".join(f"{value:.4g}" for value in values)
