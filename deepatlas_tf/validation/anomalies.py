"""What is wrong with a set of scans: findings named with their subjects, and as TensorFlow Metadata's ``Anomalies``.

Errors and warnings are anomalies, notes are not. An error is wrong whatever was meant: training would stop, or learn
or measure something false. A warning is a subject out of line with the others, which somebody should look at. A note is
worth knowing and nothing to repair, such as intensities whose scale differs from scan to scan: training rescales each
scan by its own percentiles.

Rules that compare a subject with the others need MIN_SUBJECTS of them, and compare within a domain, since another
scanner or contrast may differ in everything. They are in ``outliers.py`` and ``class_rules.py``.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2

from deepatlas_tf.scans.checks import some_numbers
from deepatlas_tf.validation import class_rules, outliers
from deepatlas_tf.validation.scan_summary import ScanSummary
from deepatlas_tf.validation.schema import Violation

ERROR, WARNING, NOTE = "error", "warning", "note"


class Kind(NamedTuple):
    """severity; feature: of the table, under which it stands in ``anomalies.pbtxt``.

    stops: of an error, whether training stops at it; else it would learn or measure something false.
    """

    severity: str
    feature: str
    stops: bool = True


KINDS = {
    "unusable image": Kind(ERROR, "image"),
    "unusable label map": Kind(ERROR, "label"),
    "no image": Kind(ERROR, "image"),
    "missing channel": Kind(ERROR, "image"),
    "channels on different grids": Kind(ERROR, "image"),
    "image and label map on different grids": Kind(ERROR, "label"),
    "label not declared": Kind(ERROR, "labels"),
    "empty label map": Kind(ERROR, "labels", stops=False),
    "too many classes": Kind(ERROR, "labels"),
    "slices and volumes": Kind(ERROR, "shape"),
    "subject twice": Kind(ERROR, "subject"),
    "subject in two splits": Kind(ERROR, "split"),
    "duplicated scan": Kind(ERROR, "image", stops=False),
    "duplicated scan in two splits": Kind(ERROR, "split", stops=False),
    "duplicated label map": Kind(ERROR, "label", stops=False),
    "left and right swapped": Kind(ERROR, "labels", stops=False),
    "number not in training": Kind(ERROR, "labels"),
    "cannot be trained": Kind(ERROR, "split"),
    "schema": Kind(ERROR, "", stops=False),
    "image and label map swapped": Kind(WARNING, "label"),
    "no folder of label maps": Kind(WARNING, "label"),
    "wrong spacing": Kind(WARNING, "spacing"),
    "unusual field of view": Kind(WARNING, "shape"),
    "doubtful position": Kind(WARNING, "orientation"),
    "unusual handedness": Kind(WARNING, "orientation"),
    "unusual volume": Kind(WARNING, "volume_ml"),
    "missing class": Kind(WARNING, "labels"),
    "rare class": Kind(WARNING, "labels"),
    "unused class": Kind(WARNING, "labels"),
    "class not in training": Kind(WARNING, "labels"),
    "no images": Kind(NOTE, "image"),
    "no label map": Kind(NOTE, "label"),
    "mixed spacing": Kind(NOTE, "spacing"),
    "mixed orientation": Kind(NOTE, "orientation"),
    "intensity scale": Kind(NOTE, "intensity"),
    "few subjects": Kind(NOTE, "subject"),
}


class Finding(NamedTuple):
    """kind: of KINDS. subjects: those it is about, none for the whole set. text: one line.

    type: its name in AnomalyInfo.Type. feature: where it is not the kind's.
    """

    kind: str
    subjects: tuple[str, ...]
    text: str
    type: str = "CUSTOM_VALIDATION"
    feature: str = ""

    @property
    def severity(self) -> str:
        """The severity of all anomalies of this kind."""
        return KINDS[self.kind].severity


def find(
    summaries: Sequence[ScanSummary],
    classes: Sequence[str] = (),
    training: Collection[str] = (),
    labels_file: Path | None = None,
) -> list[Finding]:
    """All findings, errors first.

    Args:
        summaries: of all subjects.
        classes: the foreground classes that are declared, none where none are.
        training: subjects that training would take, besides those whose split is train.
        labels_file: where the classes are declared; None where there is no such file.
    """
    found = [*_of_each_subject(summaries, labels_file), *_twice(summaries), *_copies(summaries)]
    if summaries and not any(one.files[0] for one in summaries):
        text = f"{len(summaries)} label maps without images: only grids and labels are checked; training needs images"
        found.append(Finding("no images", (), text))
    without = tuple(one.subject for one in summaries if not one.has_label)
    if without:
        text = f"{len(without)} of {len(summaries)} subjects have no label map"
        found.append(Finding("no label map", without, f"{text} ({outliers.some(without)})"))
    for rule in (outliers.dimensions, class_rules.swapped_files, class_rules.sides):
        found += [Finding(*one) for one in rule(summaries)]
    found += [Finding(*one) for one in class_rules.classes(summaries, classes)]
    found += [Finding(*one) for one in class_rules.untaught(summaries, training, classes)]
    for group in outliers.by_domain(summaries):
        found += [Finding(*one) for of_group in outliers.RULES for one in of_group(group)]
    order = (ERROR, WARNING, NOTE)
    return sorted(found, key=lambda finding: order.index(finding.severity))


def schema_findings(violations: Sequence[Violation], summaries: Sequence[ScanSummary]) -> list[Finding]:
    """Violations of a frozen schema, by the rows' order that of ``summaries``."""
    found = []
    for one in violations:
        subjects = tuple(summaries[i].subject for i in one.rows)
        whose = f"subject {outliers.some(subjects)}: " if subjects else ""
        found.append(Finding("schema", subjects, f"{whose}{one.feature} {one.text}", one.type, one.feature))
    return found


def _of_each_subject(summaries: Sequence[ScanSummary], labels_file: Path | None) -> list[Finding]:
    images = any(one.files[0] for one in summaries)
    found = []
    for one in summaries:
        texts = [tuple(problem) for problem in one.problems]
        if images and not one.files[0] and all(kind != "missing channel" for kind, _ in one.problems):
            texts.append(("no image", f"label map {one.files[1]} has no image; add it or remove the map"))
        if one.undeclared:
            text = f"label map {one.files[1]} has numbers that are not declared: {some_numbers(one.undeclared)}"
            texts.append(("label not declared", f"{text}; {_remedy(labels_file)}"))
        if one.structures is not None and not one.structures and not one.undeclared:
            texts.append(("empty label map", f"label map {one.files[1]} is empty; label it or leave the map out"))
        for kind, text in texts:
            start = f"subject {one.subject}: "
            found.append(Finding(kind, (one.subject,), text if text.startswith("subject ") else start + text))
    return found


def _remedy(labels_file: Path | None) -> str:
    """What to do about numbers that are not declared."""
    if labels_file is None:
        return "correct the label map"
    empty = ", or leave the name empty for background" * (labels_file.suffix == ".csv")
    return f"name them in {labels_file}{empty}"


def _twice(summaries: Sequence[ScanSummary]) -> list[Finding]:
    """Subject ids that occur more than once."""
    groups = defaultdict(list)
    for one in summaries:
        groups[one.subject].append(one)
    found = []
    for subject, group in groups.items():
        if len(group) < 2:
            continue
        splits = sorted({one.split for one in group})
        if len(splits) > 1:
            text = f"subject {subject}: is in the splits {' and '.join(splits)}; keep it in one"
            found.append(Finding("subject in two splits", (subject,), text))
        else:
            files = " and ".join(one.files[0] or one.files[1] for one in group)
            found.append(Finding("subject twice", (subject,), f"subject {subject}: occurs twice ({files}); remove one"))
    return found


def _copies(summaries: Sequence[ScanSummary]) -> list[Finding]:
    """Scans with the same voxels, and label maps with the same voxels of scans that differ."""
    images, labels = defaultdict(list), defaultdict(list)
    for one in summaries:
        if one.image_digest:
            images[one.image_digest].append(one)
        if one.label_digest and one.structures:
            labels[one.label_digest].append(one)
    found = []
    for group in images.values():
        names = tuple(dict.fromkeys(one.subject for one in group))
        if len(names) < 2:
            continue
        splits = sorted({one.split for one in group})
        text = f"subjects {outliers.some(names)}: the voxels of their scans are the same"
        if len(splits) > 1:
            text += f", and they are in the splits {' and '.join(splits)}"
        kind = "duplicated scan in two splits" if len(splits) > 1 else "duplicated scan"
        found.append(Finding(kind, names, text + "; keep one"))
    for group in labels.values():
        names = tuple(dict.fromkeys(one.subject for one in group))
        scans = {one.image_digest for one in group}
        if len(names) > 1 and (len(scans) > 1 or scans == {""}):
            text = f"subjects {outliers.some(names)}: the voxels of their label maps are the same"
            found.append(Finding("duplicated label map", names, f"{text}; one is of another scan"))
    return found


def anomalies_proto(findings: Sequence[Finding], schema: schema_pb2.Schema) -> anomalies_pb2.Anomalies:
    """Errors and warnings by feature; ``schema``: the one they were found against, stored as the baseline."""
    proto = anomalies_pb2.Anomalies()
    proto.baseline.CopyFrom(schema)
    grouped = defaultdict(list)
    for finding in findings:
        if finding.severity != NOTE:
            grouped[finding.feature or KINDS[finding.kind].feature].append(finding)
    for feature, group in grouped.items():
        info = proto.anomaly_info[feature]
        info.path.step.append(feature)
        severe = any(finding.severity == ERROR for finding in group)
        info.severity = anomalies_pb2.AnomalyInfo.ERROR if severe else anomalies_pb2.AnomalyInfo.WARNING
        info.short_description = "; ".join(dict.fromkeys(finding.kind for finding in group))
        info.description = " ".join(f"{finding.text}." for finding in group)
        for finding in group:
            kind = anomalies_pb2.AnomalyInfo.Type.Value(finding.type)
            info.reason.add(type=kind, short_description=finding.kind, description=finding.text)
    return proto
