"""The frozen schema: what it allows, and what it finds."""

import numpy as np
import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from deepatlas_tf.types import DataError, MissingDataError
from deepatlas_tf.validation.files import save_proto
from deepatlas_tf.validation.schema import check_schema, infer_schema, load_schema


def row(**changed):
    usual = {"subject": ["a"], "orientation": ["RAS"], "shape_x": [40], "spacing_x": [1.0], "intensity_max": [900.0]}
    usual |= {"labels": ["femur", "tibia"], "volume_ml/femur": [100.0], "volume_ml/tibia": [60.0]}
    usual |= {name.replace("ml_", "ml/"): value for name, value in changed.items()}
    return {name: value for name, value in usual.items() if value is not None}


ROWS = [row(), row(subject=["b"], shape_x=[48], volume_ml_tibia=[90.0])]


def test_a_schema_holds_names_types_ranges_and_values():
    schema = infer_schema(ROWS, ["femur", "tibia", "patella"])
    features = {feature.name: feature for feature in schema.feature}
    assert list(features) == list(ROWS[0])
    assert features["subject"].type == schema_pb2.BYTES and not features["subject"].HasField("string_domain")
    assert features["subject"].presence.min_fraction == 1
    assert list(features["orientation"].string_domain.value) == ["RAS"]
    assert list(features["labels"].string_domain.value) == ["femur", "tibia", "patella"]
    size = features["shape_x"].int_domain
    assert (size.min, size.max) == (32, 60)  # 40 / 1.25 and 48 * 1.25
    spacing = features["spacing_x"].float_domain
    assert (spacing.min, spacing.max) == pytest.approx((1 / 1.02, 1.02), rel=1e-6)
    volume = features["volume_ml/tibia"]
    assert (volume.float_domain.min, volume.float_domain.max) == pytest.approx((40, 135), rel=1e-6)
    assert list(volume.annotation.comment) == ["ml"]
    assert not features["intensity_max"].HasField("float_domain")  # MR has no scale of its own


def test_a_schema_is_read_back_and_finds_nothing_new(tmp_path):
    schema = infer_schema(ROWS)
    save_proto(tmp_path / "schema.pbtxt", schema)
    again = load_schema(tmp_path / "schema.pbtxt")
    assert again == schema and check_schema(ROWS, again) == []
    assert "min: 32" in (tmp_path / "schema.pbtxt").read_text()
    edited = (tmp_path / "schema.pbtxt").read_text().replace("min: 32", "min: 45")
    (tmp_path / "schema.pbtxt").write_text(edited)
    (found,) = check_schema(ROWS, load_schema(tmp_path / "schema.pbtxt"))
    assert (found.type, found.rows) == ("INT_TYPE_SMALL_INT", (0,))


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"spacing_x": [2.0]}, {("spacing_x", "FLOAT_TYPE_BIG_FLOAT")}),
        ({"spacing_x": [0.5]}, {("spacing_x", "FLOAT_TYPE_SMALL_FLOAT")}),
        ({"shape_x": [100]}, {("shape_x", "INT_TYPE_BIG_INT")}),
        ({"orientation": ["LPS"]}, {("orientation", "ENUM_TYPE_UNEXPECTED_STRING_VALUES")}),
        ({"labels": ["femur", "screw"]}, {("labels", "ENUM_TYPE_UNEXPECTED_STRING_VALUES")}),
        ({"volume_ml_screw": [3.0]}, {("volume_ml/screw", "SCHEMA_NEW_COLUMN")}),
        ({"volume_ml_tibia": None}, {("volume_ml/tibia", "FEATURE_TYPE_LOW_FRACTION_PRESENT")}),
        ({"intensity_max": [7e5]}, set()),
    ],
)
def test_violations_name_feature_and_row(changed, expected):
    found = check_schema([row(subject=["new"]), row(**changed)], infer_schema(ROWS))
    assert {(one.feature, one.type) for one in found} == expected
    assert all(one.rows == (1,) for one in found)


def test_a_bound_written_by_hand_holds_for_a_value_that_is_just_that():
    schema = infer_schema(ROWS)
    (spacing,) = [feature for feature in schema.feature if feature.name == "spacing_x"]
    spacing.float_domain.min = spacing.float_domain.max = 0.7
    assert check_schema([row(spacing_x=[0.7])], schema) == []
    assert check_schema([row(spacing_x=[float(np.float32(0.7))])], schema) == []
    assert len(check_schema([row(spacing_x=[0.701])], schema)) == 1


def test_a_column_that_nobody_has_is_missing():
    (found,) = check_schema([row(volume_ml_tibia=None)], infer_schema(ROWS))
    assert (found.feature, found.type, found.rows) == ("volume_ml/tibia", "SCHEMA_MISSING_COLUMN", ())
    (found,) = check_schema([row(shape_x=[1.5])], infer_schema(ROWS))
    assert found.type == "UNEXPECTED_DATA_TYPE"


def test_what_is_no_schema_says_so(tmp_path):
    with pytest.raises(MissingDataError, match="cannot read the schema"):
        load_schema(tmp_path / "absent.pbtxt")
    for text in ("subject,image\n", "", "\xff"):
        (tmp_path / "bad.pbtxt").write_bytes(text.encode("latin-1"))
        with pytest.raises(DataError, match="bad.pbtxt"):
            load_schema(tmp_path / "bad.pbtxt")


def test_names_in_any_script_are_readable(tmp_path):
    save_proto(tmp_path / "schema.pbtxt", infer_schema([{"labels": ["骨"]}]))
    text = (tmp_path / "schema.pbtxt").read_text(encoding="utf-8")
    assert "骨" in text and text_format.Parse(text, schema_pb2.Schema()).feature[0].string_domain.value[0] == "骨"
