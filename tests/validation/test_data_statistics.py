"""The table of subjects and its statistics, against NumPy."""

import numpy as np
import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import statistics_pb2 as pb

from deepatlas_tf.validation.files import save_proto
from deepatlas_tf.validation.scan_summary import ScanSummary, Structure
from deepatlas_tf.validation.statistics import feature_names, statistics, table

FACTS = [
    ScanSummary("a", "train", "t1", ("a.nii", "l.nii"), True, (3, 4, 5), (1.0, 1.5, 2.0), "RAS", True,
          {"min": 0.0, "low": 1.0, "mean": 2.0, "high": 3.0, "max": 4.0},
          structures={"x": Structure(2, 0.5, (0, 0, 0)), "y": Structure(3, 0.25, (0, 0, 0))}),
    ScanSummary("b", "test", "t1", ("b.nii", ""), False, (3, 4, 9), (1.0, 1.5, 2.5), "LAS"),
    ScanSummary("c", "train", "t2", ("c.nii", "l.nii"), True, (7, 4, 5), (1.0, 1.5, 2.0), "RAS",
          structures={"x": Structure(2, 0.75, (0, 0, 0))}),
]  # fmt: skip


def features(found, slice_name):
    (dataset,) = [one for one in found.datasets if one.name == slice_name]
    return dataset, {feature.path.step[0]: feature for feature in dataset.features}


def test_a_row_holds_what_is_there():
    rows = table(FACTS)
    assert rows[1] == {
        "subject": ["b"], "split": ["test"], "domain": ["t1"], "orientation": ["LAS"],
        "shape_x": [3], "shape_y": [4], "shape_z": [9], "spacing_x": [1.0], "spacing_y": [1.5], "spacing_z": [2.5],
    }  # fmt: skip
    assert rows[0]["labels"] == ["x", "y"] and rows[2]["volume_ml/x"] == [0.75] and "volume_ml/y" not in rows[2]
    assert feature_names(rows)[-2:] == ["volume_ml/x", "volume_ml/y"]


def test_statistics_are_those_of_numpy():
    found = statistics(table(FACTS))
    assert [(one.name, one.num_examples) for one in found.datasets] == [
        ("All Examples", 3), ("split_train", 2), ("split_test", 1)
    ]  # fmt: skip
    _, by_name = features(found, "All Examples")
    size, values = by_name["shape_z"], np.array([5, 9, 5])
    assert size.type == pb.FeatureNameStatistics.INT
    stats = size.num_stats
    assert (stats.min, stats.median, stats.max) == (5, 5, 9)
    assert (stats.mean, stats.std_dev) == pytest.approx((values.mean(), values.std()))
    assert sum(b.sample_count for b in stats.histograms[0].buckets) == 3
    assert by_name["spacing_x"].type == pb.FeatureNameStatistics.FLOAT
    volume = by_name["volume_ml/x"].num_stats
    assert (volume.common_stats.num_non_missing, volume.common_stats.num_missing, volume.mean) == (2, 1, 0.625)
    labels = by_name["labels"].string_stats
    assert [(top.value, top.frequency) for top in labels.top_values] == [("x", 2), ("y", 1)]
    common = labels.common_stats
    assert (common.min_num_values, common.max_num_values, common.tot_num_values) == (1, 2, 3)
    _, train = features(found, "split_train")
    assert train["volume_ml/x"].num_stats.max == 0.75
    _, test = features(found, "split_test")
    assert test["volume_ml/x"].type == pb.FeatureNameStatistics.FLOAT  # also where the slice has no value
    assert test["labels"].string_stats.common_stats.num_missing == 1


def test_statistics_come_back_from_the_file(tmp_path):
    found = statistics(table(FACTS))
    save_proto(tmp_path / "stats.pbtxt", found)
    text = (tmp_path / "stats.pbtxt").read_text(encoding="utf-8")
    assert text_format.Parse(text, pb.DatasetFeatureStatisticsList()) == found
