"""The pictures of the report."""

from types import SimpleNamespace

from deepatlas_tf.report.pictures import pseudo_masks
from deepatlas_tf.runs.folder import RunFolder


def test_pseudo_masks_that_were_compared_with_no_label_map_are_not_drawn(tmp_path):
    """As in a run without validation subjects: there are no axes to fill."""
    rows = [{"round": 0, "subject": "a", "class": "femur", "confidence": 0.9, "entropy": 0.1, "dice": float("nan")}]
    stage = SimpleNamespace(name="deepatlas", pseudo_rows=rows)
    run = SimpleNamespace(stages=[stage], dataset="knees", folder=RunFolder(tmp_path))
    assert pseudo_masks(run) == []
    rows[0]["dice"] = 0.7
    assert len(pseudo_masks(run)) == 1
