"""Rules that compare each scan with the others. Every rule gives (kind, subjects, text) for ``anomalies.Finding``.

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

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from deepatlas_tf.validation.scan_summary import ScanSummary, size_unit

CUT = 5.0
MIN_SUBJECTS = 5
MIN_VOXELS = 20
MAX_SHARE = 0.2
SPACING_FACTOR, FIELD_FACTOR, VOLUME_FACTOR = 1.02, 2.0, 2.0
INTENSITY_FACTOR = 10.0

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


def counted(n: int, noun: str) -> str:
    """``1 class``, ``3 classes``, ``2 errors``"""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}{'es' if noun.endswith('s') else 's'}"


def out_of_line(values: Sequence[float], least_factor: float) -> np.ndarray:
    """Which (n,) bool of the positive values are out of line: none where there are too few, or too many of them are."""
    logs = np.log(np.maximum(np.asarray(values, np.float64), 1e-12))
    if len(logs) < MIN_SUBJECTS:
        return np.zeros(len(logs), bool)
    distance = np.abs(logs - np.median(logs))
    found = distance > max(CUT * 1.4826 * np.median(distance), np.log(least_factor))
    return found if found.mean() <= MAX_SHARE else np.zeros(len(logs), bool)


def dimensions(summaries: Sequence[ScanSummary]) -> list[Found]:
    """One finding where some scans are slices and others are volumes, which one network cannot take."""
    slices = tuple(one.subject for one in summaries if len(one.spacing) == 2)
    volumes = tuple(one.subject for one in summaries if len(one.spacing) == 3)
    if not (slices and volumes):
        return []
    fewer = min(volumes, slices, key=len)
    text = f"{counted(len(slices), 'scan')} of two axes ({some(slices)}), {len(volumes)} of three ({some(volumes)})"
    return [("slices and volumes", fewer, f"{text}; remove one kind")]


def spacing(summaries: Sequence[ScanSummary]) -> list[Found]:
    """Scans whose voxels are not of the size that most have, along any axis; and whether the sizes vary."""
    summaries = _on_one_dimension(summaries)
    if not summaries:
        return []
    sizes = np.array([one.spacing for one in summaries])
    wrong = np.stack([out_of_line(axis, SPACING_FACTOR) for axis in sizes.T], -1).any(-1)
    usual = _by_x(np.median(sizes, 0))
    found: list[Found] = [
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
    summaries = _on_one_dimension(summaries)
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
    low, top = min(high, key=high.__getitem__), max(high, key=high.__getitem__)
    text = f"scales differ: 99.5 percentile from {high[low]:.6g} ({low}) to {high[top]:.6g} ({top})"
    return [("intensity scale", (), f"{text}; training rescales each scan by its own percentiles")]


def volumes(summaries: Sequence[ScanSummary]) -> list[Found]:
    """Each class against the same class of the others; one finding a subject."""
    unit, factor = size_unit(summaries)
    summaries = [one for one in summaries if one.held]
    found: dict[str, list[str]] = defaultdict(list)
    for name in dict.fromkeys(name for one in summaries for name in one.held):
        having = [one for one in summaries if name in one.held]
        if np.median([one.held[name].voxels for one in having]) < MIN_VOXELS:
            continue
        ml = [one.held[name].volume_ml for one in having]
        for one, value, wrong in zip(having, ml, out_of_line(ml, VOLUME_FACTOR), strict=True):
            if wrong:
                found[one.subject].append(f"{name} {factor * value:.3g} {unit} (median {factor * np.median(ml):.3g})")
    return [
        ("unusual volume", (subject,), f"subject {subject}: {some(texts, 6)}; look at its label map")
        for subject, texts in found.items()
    ]


def few(summaries: Sequence[ScanSummary]) -> list[Found]:
    """One finding where there are too few subjects to compare them."""
    if len(summaries) >= MIN_SUBJECTS:
        return []
    whose = f" of domain {summaries[0].domain}" if summaries[0].domain else ""
    n = counted(len(summaries), "subject")
    text = f"{n}{whose}: too few to compare them with each other ({MIN_SUBJECTS} are needed)"
    return [("few subjects", tuple(one.subject for one in summaries), text)]


RULES = (spacing, field_of_view, handedness, intensity, volumes, few)


def _on_one_dimension(summaries: Sequence[ScanSummary]) -> list[ScanSummary]:
    """The summaries that have a grid, of the dimension that most of them have."""
    dimensions = [len(one.spacing) for one in summaries if one.spacing]
    return [one for one in summaries if one.spacing and len(one.spacing) == max(dimensions, key=dimensions.count)]


def _by_x(values: Iterable[float]) -> str:
    return " x ".join(f"{value:.4g}" for value in values)
