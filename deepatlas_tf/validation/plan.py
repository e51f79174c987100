"""What training would do with a set of scans: who is trained on, who is measured, and what cannot be measured."""

from collections.abc import Sequence

from deepatlas_tf.datasets.splits import SPLITS, not_measured
from deepatlas_tf.validation.readers import ScanSet
from deepatlas_tf.validation.scan_summary import ScanSummary


def plan(scans: ScanSet, summaries: Sequence[ScanSummary]) -> list[str]:
    """Lines for the top of the report; none for a folder of files that only validation reads.

    Args:
        scans: with the splits that training would make of them.
        summaries: of all subjects, which say who has a label map.
    """
    if scans.refused:
        return [f"training stops: {scans.refused}"]
    if not scans.splits:
        return []
    having = {one.subject for one in summaries if one.has_label}
    labelled = {split: [s for s in scans.splits[split] if s in having] for split in SPLITS}
    counts = [f"{len(scans.splits[split])} {split} ({len(labelled[split])} with a label map)" for split in SPLITS]
    lines = [f"training: {', '.join(counts)}; {_trained(len(scans.splits['train']), len(labelled['train']))}"]
    missing = not_measured(scans.splits, labelled)
    return [*lines, missing] if missing else lines


def _trained(n: int, n_labelled: int) -> str:
    """What can be learned from ``n`` training subjects, of which ``n_labelled`` have a label map."""
    if n < 2:
        return "segmentation can be trained, registration takes two scans" if n_labelled else "nothing can be trained"
    if n_labelled:
        return "segmentation and registration can be trained"
    return "registration can be trained, segmentation takes a label map"
