"""Measuring the segmentations of a run on the scans' own grids, where a stage of full resolution belongs.

Each stage's probabilities are brought to the grid of the scan, where the most probable class wins, as
``deepatlas segment`` does it; so stages of a coarse grid and one of full resolution stand side by side.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from nibabel.affines import voxel_sizes

from deepatlas_tf.datasets.load import DataSet
from deepatlas_tf.evaluation.evaluate import class_rows
from deepatlas_tf.evaluation.summary import summarise_rows
from deepatlas_tf.messages import progress
from deepatlas_tf.runs.files import write_rows
from deepatlas_tf.runs.folder import RunFolder
from deepatlas_tf.runs.own_grid import segment_to_source
from deepatlas_tf.runs.predict import Segmenter, load_task_net, segmenter, trained_nets
from deepatlas_tf.scans.components import remove_specks
from deepatlas_tf.scans.grid import GridTransform


class _Measured(NamedTuple):
    """A stage that segments: its name, its network, the shape of its images, its grid where that is the fine one."""

    name: str
    segment: Segmenter
    size: tuple[int, ...]
    grid: dict | None


def evaluate_on_own_grids(workdir: Path, dataset: DataSet, fine: DataSet, split: str = "test") -> dict:
    """Measure the finished stages that segment on the labelled scans of a split, each on its own grid.

    Writes ``evaluation/segmentation_own_grid.csv``, with the columns of ``segmentation.csv``; distances are in mm.

    Args:
        workdir: the folder of the run.
        dataset: the scans on the grid of the run.
        fine: the same scans at their own resolution.
        split: whose subjects are measured, those with a label map; {} where there are none.

    Returns:
        The means of the rows, see :func:`~deepatlas_tf.evaluation.summary.summarise_rows`.
    """
    labelled = dataset.labelled[split]
    if not labelled:
        return {}
    folder, rows = RunFolder(workdir), []
    stages = list(_stages(folder))
    records = zip(*(one.records(split).as_numpy_iterator() for one in (dataset, fine)), strict=True)
    found = (pair for pair in records if pair[0]["subject"].decode() in labelled)
    for coarse_record, fine_record in progress(
        found, total=len(labelled), desc=f"evaluating on the scans' own grids ({split})", unit="subject"
    ):
        for stage in stages:
            record, grid = (coarse_record, dataset) if stage.grid is None else (fine_record, fine)
            prediction = _on_own_grid(stage, record, grid)
            rows += _rows(stage.name, prediction, fine_record, fine)
    write_rows(folder.table_file("segmentation_own_grid"), rows)
    return summarise_rows(rows, [], dataset.class_names[1:])


def _stages(folder: RunFolder) -> Iterator[_Measured]:
    for stage in folder.settings()["stages"]:
        name = stage["name"]
        if "segmentation" in trained_nets(stage) and folder.stage(name).net("segmentation").exists():
            net = load_task_net(folder, name, "segmentation")
            yield _Measured(name, segmenter(net), net.inputs[0].shape[1:-1], folder.stage(name).grid())


def _on_own_grid(stage: _Measured, record: dict, dataset: DataSet) -> np.ndarray:
    """The label map of a stage on the grid of the record's scan, without specks where ``segment`` leaves none."""
    source = record["source_affine"], tuple(int(n) for n in record["source_shape"])
    transform = GridTransform(*source, dataset.shape, dataset.spacing)
    label = segment_to_source(stage.segment, record["image"], stage.size, transform).label
    return remove_specks(label, (stage.grid or {}).get("without_specks", ()))


def _rows(method: str, prediction: np.ndarray, record: dict, dataset: DataSet) -> list[dict]:
    own = dataclasses.replace(dataset, spacing=tuple(voxel_sizes(record["source_affine"]).tolist()))
    start = {"method": method, "subject": record["subject"].decode()}
    weight = record["labelled"].astype(np.float32)
    return class_rows(start, prediction.astype(np.int32), record["own_label"].astype(np.int32), weight, own)
