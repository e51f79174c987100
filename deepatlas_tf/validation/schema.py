"""The schema: what a scan of this data set looks like, frozen as text so that later scans can be checked against it.

It is TensorFlow Metadata's ``Schema`` of the table in :mod:`~deepatlas_tf.validation.statistics`: for each feature
its type, whether every subject has it, how many values, and the values allowed. It can be edited by hand and is read
by TensorFlow Data Validation, whose names of the violations are used here too.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from deepatlas_tf.types import DataError, MissingDataError
from deepatlas_tf.validation.statistics import Table, feature_names, feature_type

# How far beyond the values seen a later scan may be: a factor below the least and above the largest one. Intensities
# are left free, since MR has no scale of its own (a scanner's gain changes them by orders of magnitude).
MARGINS = {"spacing_": 1.02, "shape_": 1.25, "volume_ml/": 1.5}
ENUMERATED = ("split", "domain", "orientation", "labels")
COMMENTS = {
    "orientation": "towards which each stored axis points",
    "shape_": "voxels, in canonical order (x left-right, y posterior-anterior, z inferior-superior)",
    "spacing_": "mm, in canonical order",
    "intensity_": "in the file's own units; low and high are the 0.5 and 99.5 percentiles of the voxels that are not 0",
    "labels": "foreground classes that are in the label map",
    "volume_ml/": "ml",
}
TYPES = {
    statistics_pb2.FeatureNameStatistics.STRING: schema_pb2.BYTES,
    statistics_pb2.FeatureNameStatistics.FLOAT: schema_pb2.FLOAT,
    statistics_pb2.FeatureNameStatistics.INT: schema_pb2.INT,
}


class Violation(NamedTuple):
    """feature: of the schema or the table. type: name in AnomalyInfo.Type. rows: which ones, empty for the table."""

    feature: str
    type: str
    rows: tuple[int, ...]
    text: str


def infer_schema(rows: Table, classes: Sequence[str] = ()) -> schema_pb2.Schema:
    """The schema that ``rows`` fulfil, with the MARGINS; ``classes``: all that are declared, seen or not."""
    schema = schema_pb2.Schema()
    for name in feature_names(rows):
        values = [row[name] for row in rows if row.get(name)]
        feature = schema.feature.add(name=name, type=TYPES[feature_type(rows, name)])
        feature.presence.min_count = 1
        comment = next((text for start, text in COMMENTS.items() if name.startswith(start)), "")
        if comment:
            feature.annotation.comment.append(comment)
        single = max(map(len, values)) == 1 and name != "labels"
        if len(values) == len(rows):
            feature.presence.min_fraction = 1.0
        if single and len(values) == len(rows):
            feature.shape.dim.add(size=1)
        else:
            feature.value_count.min = 1
            if single:
                feature.value_count.max = 1
        _add_domain(feature, [value for found in values for value in found], classes)
    return schema


def _add_domain(feature: schema_pb2.Feature, values: list, classes: Sequence[str]) -> None:
    name = feature.name
    if name in ENUMERATED:
        known = classes if name == "labels" else ()
        feature.string_domain.name = name
        feature.string_domain.value.extend(dict.fromkeys([*known, *sorted(set(values) - set(known))]))
    margin = next((factor for start, factor in MARGINS.items() if name.startswith(start)), None)
    if margin is None:
        return
    low, high = min(values) / margin, max(values) * margin
    if feature.type == schema_pb2.INT:
        feature.int_domain.min, feature.int_domain.max = max(1, math.floor(low)), math.ceil(high)
    else:
        feature.float_domain.min, feature.float_domain.max = float(f"{low:.6g}"), float(f"{high:.6g}")


def load_schema(path: Path) -> schema_pb2.Schema:
    """Raises MissingDataError where there is no such file, DataError where it is not a schema."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise MissingDataError(f"cannot read the schema {path} ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a schema ({error}); give a schema.pbtxt") from error
    try:
        schema = text_format.Parse(text, schema_pb2.Schema())
    except text_format.ParseError as error:
        raise DataError(f"{path} is not a schema ({error}); give a schema.pbtxt") from error
    if not schema.feature:
        raise DataError(f"{path} names no feature; give the schema.pbtxt of an earlier validation")
    return schema


def check_schema(rows: Table, schema: schema_pb2.Schema) -> list[Violation]:
    """What TensorFlow Data Validation would find in the statistics of ``rows``, with the rows at fault."""
    violations = []
    known = {feature.name: feature for feature in schema.feature}
    for name, feature in known.items():
        values = [row.get(name, []) for row in rows]
        violations += _check_presence(feature, values)
        if any(values):
            violations += _check_type(feature, feature_type(rows, name)) or _check_values(feature, values)
    for name in feature_names(rows):
        if name not in known:
            at = tuple(i for i, row in enumerate(rows) if row.get(name))
            violations.append(Violation(name, "SCHEMA_NEW_COLUMN", at, "is not in the schema"))
    return violations


def _check_presence(feature: schema_pb2.Feature, values: list[list]) -> list[Violation]:
    missing = tuple(i for i, found in enumerate(values) if not found)
    present = len(values) - len(missing)
    if not present and (feature.presence.min_count or feature.presence.min_fraction):
        return [Violation(feature.name, "SCHEMA_MISSING_COLUMN", (), "is in the schema, but no subject has it")]
    found = []
    if present < feature.presence.min_fraction * len(values):
        text = f"is missing; the schema wants it in {feature.presence.min_fraction:.0%} of the subjects"
        found.append(Violation(feature.name, "FEATURE_TYPE_LOW_FRACTION_PRESENT", missing, text))
    if present < feature.presence.min_count:
        text = f"is in {present} subjects; the schema wants it in {feature.presence.min_count}"
        found.append(Violation(feature.name, "FEATURE_TYPE_LOW_NUMBER_PRESENT", (), text))
    return found


def _check_type(feature: schema_pb2.Feature, found: int) -> list[Violation]:
    if TYPES[found] == feature.type:
        return []
    names = schema_pb2.FeatureType.Name
    text = f"is of type {names(TYPES[found])}, the schema has {names(feature.type)}"
    return [Violation(feature.name, "UNEXPECTED_DATA_TYPE", (), text)]


def _check_values(feature: schema_pb2.Feature, values: list[list]) -> list[Violation]:
    found = []
    if feature.HasField("string_domain"):
        allowed = set(feature.string_domain.value)
        for value in dict.fromkeys(value for row in values for value in row if value not in allowed):
            at = tuple(i for i, row in enumerate(values) if value in row)
            text = f"{value!r} is not among the values of the schema ({', '.join(sorted(allowed)[:12])})"
            found.append(Violation(feature.name, "ENUM_TYPE_UNEXPECTED_STRING_VALUES", at, text))
    for kind, domain in (("INT", "int_domain"), ("FLOAT", "float_domain")):
        if feature.HasField(domain):
            found += _check_range(feature.name, kind, getattr(feature, domain), values)
    return found


def _check_range(
    name: str, kind: str, domain: schema_pb2.IntDomain | schema_pb2.FloatDomain, rows: list[list]
) -> list[Violation]:
    found = []
    for side, word, limit in (("SMALL", "below", "min"), ("BIG", "above", "max")):
        if not domain.HasField(limit):
            continue
        bound = getattr(domain, limit)
        for i, row in enumerate(rows):
            # a schema's bounds are 32-bit floats, as are the values of examples
            values = np.array(row, np.float32) if kind == "FLOAT" else np.array(row)
            out = values[values < bound if side == "SMALL" else values > bound]
            if out.size:
                text = f"{out[0]:g} is {word} the schema's {bound:g}"
                found.append(Violation(name, f"{kind}_TYPE_{side}_{kind}", (i,), text))
    return found
