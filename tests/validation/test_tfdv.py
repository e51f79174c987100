"""Our statistics, schema and violations against TensorFlow Data Validation's; skipped without the extra [tfx]."""

import importlib.util

import numpy as np
import pytest
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2
from tensorflow_metadata.proto.v0 import statistics_pb2 as pb

from deepatlas_tf.cli import main
from deepatlas_tf.types import SettingError
from deepatlas_tf.validation import tfdv
from deepatlas_tf.validation.readers import open_files
from deepatlas_tf.validation.scan_summary import collect
from deepatlas_tf.validation.schema import check_schema, infer_schema
from deepatlas_tf.validation.statistics import statistics, table

INSTALLED = importlib.util.find_spec("tensorflow_data_validation") is not None
needs_tfdv = pytest.mark.skipif(not INSTALLED, reason="tensorflow-data-validation (extra [tfx]) is not installed")


@pytest.fixture
def rows(new_cohort):
    """Ten subjects, of which one has no label map and one lacks a class, in two domains."""
    cohort = new_cohort()
    for i in range(10):
        changed = {"label": None} if i == 4 else {}
        cohort.add(f"s{i:02d}", split="test" if i > 7 else "train", domain="t2" if i > 5 else "t1", **changed)
    source = open_files(cohort.save())
    found = table(collect(source.items, source.load))
    del found[2]["volume_ml/midline"]
    found[2]["labels"].remove("midline")
    return found


def by_name(dataset):
    return {feature.path.step[0]: feature for feature in dataset.features}


def numbers(stats):
    common = stats.common_stats
    values = [stats.mean, stats.std_dev, stats.min, stats.median, stats.max, stats.num_zeros]
    return [*values, common.num_non_missing, common.num_missing, common.min_num_values, common.max_num_values]


@needs_tfdv
def test_statistics_agree(rows, tmp_path):
    ours = statistics(rows).datasets[0]
    theirs = tfdv.statistics(tfdv.write_examples(tmp_path / "subjects.tfrecord", rows)).datasets[0]
    assert ours.num_examples == theirs.num_examples == 10
    ours, theirs = by_name(ours), by_name(theirs)
    assert set(ours) == set(theirs) and len(ours) > 15
    for name, mine in ours.items():
        other = theirs[name]
        assert mine.type == other.type, name
        if mine.type == pb.FeatureNameStatistics.STRING:
            mine, other = mine.string_stats, other.string_stats
            assert mine.unique == other.unique
            assert mine.avg_length == pytest.approx(other.avg_length, rel=1e-6)
            found, expected = ({top.value: top.frequency for top in one.top_values} for one in (mine, other))
            assert found == expected
            assert mine.common_stats.num_missing == other.common_stats.num_missing
            assert mine.common_stats.tot_num_values == other.common_stats.tot_num_values
        else:
            # examples hold 32-bit floats; their median is of a sketch, which for an even number takes either neighbour
            mine, other = numbers(mine.num_stats), numbers(other.num_stats)
            np.testing.assert_allclose(np.delete(mine, 3), np.delete(other, 3), rtol=1e-5, atol=1e-9, err_msg=name)


@needs_tfdv
def test_inferred_schemas_agree(rows, tmp_path):
    """Type, presence, shape, and the values of strings; only ours has ranges, and leaves the subjects' names free."""
    theirs = tfdv.infer_schema(tfdv.statistics(tfdv.write_examples(tmp_path / "subjects.tfrecord", rows)))
    ours = {feature.name: feature for feature in infer_schema(rows).feature}
    domains = {domain.name: set(domain.value) for domain in theirs.string_domain}
    theirs = {feature.name: feature for feature in theirs.feature}
    assert set(ours) == set(theirs)
    for name, mine in ours.items():
        other = theirs[name]
        assert mine.type == other.type, name
        assert mine.presence == other.presence, name
        assert mine.shape == other.shape and mine.value_count == other.value_count, name
        if name in ("orientation", "split", "domain", "labels"):
            assert set(mine.string_domain.value) == domains[other.domain], name


@needs_tfdv
def test_the_same_violations_are_found(rows, tmp_path):
    schema = infer_schema(rows[:4] + rows[5:], ["left_ball", "right_ball", "midline"])
    broken = [{name: list(values) for name, values in row.items()} for row in rows]
    broken[0]["spacing_z"] = [4.0]
    broken[1]["spacing_x"] = [0.2]
    broken[2]["shape_y"] = [1600]
    broken[3]["orientation"] = ["LPS"]
    broken[5]["labels"].append("screw")
    broken[5]["volume_ml/screw"] = [1.0]
    for row in broken:
        row.pop("intensity_low", None)  # dropped by everybody
    stats = tfdv.statistics(tfdv.write_examples(tmp_path / "subjects.tfrecord", broken))
    theirs = tfdv.validate(stats, schema).anomaly_info
    names = anomalies_pb2.AnomalyInfo.Type.Name
    expected = {(info.path.step[0], names(reason.type)) for info in theirs.values() for reason in info.reason}
    found = {(one.feature, one.type) for one in check_schema(broken, schema)}
    # of a feature that some subjects lack it says a second time that its shape is not the same in all
    lacking = {name for name, kind in found if kind == "FEATURE_TYPE_LOW_FRACTION_PRESENT"}
    assert found == expected - {(name, "INVALID_FEATURE_SHAPE") for name in lacking}
    kinds = {kind for _, kind in found}
    assert len(kinds) == 7 and {"FLOAT_TYPE_BIG_FLOAT", "FEATURE_TYPE_LOW_FRACTION_PRESENT"} <= kinds


@needs_tfdv
def test_a_clean_set_is_clean_for_both(rows, tmp_path):
    schema = infer_schema(rows)
    stats = tfdv.statistics(tfdv.write_examples(tmp_path / "subjects.tfrecord", rows))
    assert not tfdv.validate(stats, schema).anomaly_info and not check_schema(rows, schema)
    assert not tfdv.validate(statistics(rows), schema).anomaly_info  # it reads our statistics as its own


@needs_tfdv
def test_the_command_writes_both(new_cohort, tmp_path):
    assert main(["data", "validate", str(new_cohort(6).save()), "-o", str(tmp_path / "out"), "--tfdv"]) == 0
    assert {path.name for path in (tmp_path / "out" / "tfdv").iterdir()} == {
        "subjects.tfrecord", "stats.pbtxt", "schema.pbtxt", "anomalies.pbtxt"
    }  # fmt: skip


@pytest.mark.skipif(INSTALLED, reason="tensorflow-data-validation is installed")
def test_without_the_extra_the_command_says_what_to_install(new_cohort, tmp_path, capsys):
    with pytest.raises(SettingError, match=r"pip install -e '.\[tfx\]"):
        tfdv.validate(pb.DatasetFeatureStatisticsList(), schema_pb2.Schema())
    assert main(["data", "validate", str(new_cohort(6).save()), "-o", str(tmp_path / "out"), "--tfdv"]) == 2
    assert "[tfx]" in capsys.readouterr().err


def test_examples_hold_the_table(rows, tmp_path):
    from deepatlas_tf.keras_stack import tf

    path = tfdv.write_examples(tmp_path / "subjects.tfrecord", rows)
    records = [tf.train.Example.FromString(raw) for raw in tf.data.TFRecordDataset(str(path)).as_numpy_iterator()]
    assert len(records) == 10
    feature = records[0].features.feature
    assert feature["subject"].bytes_list.value[0] == b"s00" and list(feature["shape_x"].int64_list.value) == [20]
    assert feature["spacing_y"].float_list.value[0] == 1.5
    assert list(feature["labels"].bytes_list.value) == [b"left_ball", b"right_ball", b"midline"]
    assert "labels" not in records[4].features.feature
