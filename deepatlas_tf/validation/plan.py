"""What training would do with a set of scans: who is trained on, who is measured, what is not, and what comes out."""

from collections.abc import Sequence

from deepatlas_tf.datasets.splits import SPLITS, not_measured
from deepatlas_tf.validation.readers import ScanSet
from deepatlas_tf.validation.scan_summary import ScanSummary
from deepatlas_tf.validation.text_report import MOST_CLASSES


def plan(scans: ScanSet, summaries: Sequence[ScanSummary]) -> list[str]:
    """Lines for the top of the report; none for a folder of files that only validation reads.

    Args:
        scans: with the splits that training would make of them.
        summaries: of all subjects, which say who has a label map.
    """
    first = scans.channels[0]
    channels = [f"channels: {', '.join(scans.channels)}; where a scan and its anatomy lie is found in {first}"]
    channels *= len(scans.channels) > 1
    if scans.refused:
        return [*channels, f"training stops: {scans.refused}"]
    if not scans.splits:
        return channels
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
    numbers = _numbers(scans) if having else ""
    return [*channels, *lines, *filter(None, (missing, numbers))]


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
