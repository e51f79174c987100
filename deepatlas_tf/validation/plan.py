"""What training would do with a set of scans: who is trained on, who is measured, what is not, and what comes out."""

from collections.abc import Sequence

from deepatlas_tf.datasets.splits import SPLITS, folds_hint, not_measured
from deepatlas_tf.validation.anomalies import ERROR, KINDS, Finding
from deepatlas_tf.validation.outliers import counted
from deepatlas_tf.validation.readers import ScanSet
from deepatlas_tf.validation.scan_summary import ScanSummary
from deepatlas_tf.validation.text_report import MOST_CLASSES


def plan(scans: ScanSet, summaries: Sequence[ScanSummary], findings: Sequence[Finding] = ()) -> list[str]:
    """Lines for the top of the report; none for a folder of files that only validation reads.

    Args:
        scans: with the splits that training would make of them.
        summaries: of all subjects, which say who has a label map.
        findings: what is wrong with them; an error stands in the place of what can be trained.
    """
    first = scans.channels[0]
    channels = [f"channels: {', '.join(scans.channels)}; where a scan and its anatomy lie is found in {first}"]
    channels *= len(scans.channels) > 1
    if scans.refused:
        n = sum(finding.severity == ERROR for finding in findings)
        return [*channels, f"training stops: {scans.refused}" + f" ({n} errors, below)" * (n > 1)]
    if not scans.splits:
        return channels
    wrong = _wrong(findings)
    if wrong:
        return [*channels, wrong]
    having = {one.subject for one in summaries if one.has_label}
    labelled = {split: [s for s in scans.splits[split] if s in having] for split in SPLITS}
    counts = [
        f"{split} {len(scans.splits[split])}"
        + f" ({len(labelled[split])} with a label map)" * bool(scans.splits[split])
        for split in SPLITS
    ]
    lines = [f"splits: {', '.join(counts)}; {_trained(len(scans.splits['train']), len(labelled['train']))}"]
    if scans.ignore is not None:
        lines.append(f"voxels of the label {scans.ignore}, ignore, count nothing in training and in measures")
    missing = not_measured(scans.splits, labelled)
    missing += folds_hint(scans.splits, labelled) if missing else ""
    numbers = _numbers(scans) if having else ""
    return [*channels, *lines, *filter(None, (missing, numbers))]


def _wrong(findings: Sequence[Finding]) -> str:
    """One line on the errors, the first that stops training before all others; empty where there is none."""
    errors = [finding for finding in findings if finding.severity == ERROR]
    errors.sort(key=lambda finding: not KINDS[finding.kind].stops)
    if not errors:
        return ""
    start = "training stops" if KINDS[errors[0].kind].stops else "training would learn or measure something false"
    more = f" (and {counted(len(errors) - 1, 'more error')}, below)" if len(errors) > 1 else ""
    return f"{start}: {errors[0].text}{more}"


def _numbers(scans: ScanSet) -> str:
    """Which numbers the label maps of a network that is trained on these scans will have."""
    start = "deepatlas segment will write"
    if not scans.labels:
        return "" if scans.classes else f"{start} the numbers of these label maps"
    several = [name for name, numbers in scans.labels.items() if len(numbers) > 1]
    if several:
        last = len(scans.labels)
        return f"{start} the numbers 1 to {last} in the order of the classes, since several are {several[0]} here"
    own = [f"{numbers[0]} {name}" for name, numbers in scans.labels.items()]
    more = f" and {len(own) - MOST_CLASSES} more" if len(own) > MOST_CLASSES else ""
    return f"{start} the numbers of these label maps: {', '.join(own[:MOST_CLASSES])}{more}"


def _trained(n: int, n_labelled: int) -> str:
    """What can be learned from ``n`` training subjects, of which ``n_labelled`` have a label map."""
    if n < 2:
        return "segmentation can be trained, registration takes two scans" if n_labelled else "nothing can be trained"
    if n_labelled:
        return "segmentation and registration can be trained"
    return "registration can be trained, segmentation takes a label map"
