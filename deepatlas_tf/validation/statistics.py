"""The subjects as a table, and its summary as the statistics that TensorFlow Data Validation knows.

A subject is one row of a table, whose columns are the features of ``stats.pbtxt`` and ``schema.pbtxt``:

==================  ======  =============================================================================
subject             string
split, domain       string  left out where the source has none
orientation         string  of the stored axes, towards which each one points: RAS, LPS, ... (2D: RA, ...)
shape_x, _y, _z     int     voxels, in canonical order: x left-right, y posterior-anterior, z inferior-superior
spacing_x, _y, _z   float   mm, in the same order
intensity_min, _max float   of all voxels
intensity_low, _high float  the percentiles of ``intensity.rescale``: what training takes as 0 and 1
intensity_mean      float
labels              string  the foreground classes that are there, as many values as classes
volume_ml/CLASS     float   left out where the class is not there
==================  ======  =============================================================================
"""

from collections.abc import Iterable, Sequence

import numpy as np
from tensorflow_metadata.proto.v0 import statistics_pb2 as pb

from deepatlas_tf.validation.scan_summary import ScanSummary

ALL = "All Examples"  # how TensorFlow Data Validation calls the slice that holds everything
BUCKETS = 10
TOP_VALUES = 20

Table = list[dict[str, list]]


def table(summaries: Iterable[ScanSummary]) -> Table:
    """Rows of the features named in this module's docstring; every value is a list, empty where there is none."""
    rows = []
    for one in summaries:
        row = {name: [getattr(one, name)] for name in ("subject", "split", "domain", "orientation")}
        row = {name: value for name, value in row.items() if value != [""]}
        for axis, size, step in zip("xyz", one.shape, one.spacing, strict=False):
            row |= {f"shape_{axis}": [size], f"spacing_{axis}": [step]}
        row |= {f"intensity_{name}": [value] for name, value in one.intensity.items()}
        if one.structures:
            row["labels"] = list(one.structures)
            row |= {f"volume_ml/{name}": [found.volume_ml] for name, found in one.structures.items()}
        rows.append(row)
    return rows


def feature_names(rows: Table) -> list[str]:
    """The features that have a value in some row, in the order of the rows."""
    return list(dict.fromkeys(name for row in rows for name in row))


def statistics(rows: Table, names: Sequence[str] | None = None) -> pb.DatasetFeatureStatisticsList:
    """All rows, then those of each split as a slice ``split_NAME``; ``names``: features, None for those that occur."""
    names = feature_names(rows) if names is None else names
    types = {name: feature_type(rows, name) for name in names}
    slices = {ALL: rows}
    for split in dict.fromkeys(value for row in rows for value in row.get("split", [])):
        slices[f"split_{split}"] = [row for row in rows if row.get("split") == [split]]
    found = pb.DatasetFeatureStatisticsList()
    for name, part in slices.items():
        dataset = found.datasets.add(name=name, num_examples=len(part))
        for feature in names:
            proto = dataset.features.add(type=types[feature])
            proto.path.step.append(feature)
            _fill(proto, [row.get(feature, []) for row in part])
    return found


def feature_type(rows: Table, name: str) -> int:
    """STRING, FLOAT or INT of FeatureNameStatistics, by the first value; INT where there is none."""
    first = next((value for row in rows for value in row.get(name, [])), 0)
    kinds = {str: pb.FeatureNameStatistics.STRING, float: pb.FeatureNameStatistics.FLOAT}
    return kinds.get(type(first), pb.FeatureNameStatistics.INT)


def _fill(proto: pb.FeatureNameStatistics, values: list[list]) -> None:
    flat = [value for row in values for value in row]
    if proto.type == pb.FeatureNameStatistics.STRING:
        _strings(proto.string_stats, flat)
        common = proto.string_stats.common_stats
    else:
        _numbers(proto.num_stats, np.array(flat, np.float64))
        common = proto.num_stats.common_stats
    sizes = [len(row) for row in values if row]
    common.num_non_missing, common.num_missing = len(sizes), len(values) - len(sizes)
    if sizes:
        common.min_num_values, common.max_num_values = min(sizes), max(sizes)
        common.avg_num_values, common.tot_num_values = float(np.mean(sizes)), sum(sizes)


def _strings(proto: pb.StringStatistics, values: list[str]) -> None:
    unique, counts = np.unique(np.array(values), return_counts=True)
    proto.unique = len(unique)
    proto.avg_length = float(np.mean([len(value.encode()) for value in values])) if values else 0.0
    for i in sorted(range(len(unique)), key=lambda i: (-counts[i], unique[i]))[:TOP_VALUES]:
        proto.top_values.add(value=str(unique[i]), frequency=float(counts[i]))


def _numbers(proto: pb.NumericStatistics, values: np.ndarray) -> None:
    if not values.size:
        return
    proto.mean, proto.std_dev = float(values.mean()), float(values.std())
    proto.min, proto.median, proto.max = float(values.min()), float(np.median(values)), float(values.max())
    proto.num_zeros = int(np.sum(values == 0))
    counts, edges = np.histogram(values, BUCKETS)
    quantiles = np.quantile(values, np.linspace(0, 1, BUCKETS + 1))
    for kind, ends, sizes in (
        (pb.Histogram.STANDARD, edges, counts),
        (pb.Histogram.QUANTILES, quantiles, np.full(BUCKETS, values.size / BUCKETS)),
    ):
        histogram = proto.histograms.add(type=kind)
        for low, high, size in zip(ends[:-1], ends[1:], sizes, strict=True):
            histogram.buckets.add(low_value=float(low), high_value=float(high), sample_count=float(size))
