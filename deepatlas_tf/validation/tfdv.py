"""TensorFlow Data Validation of the subjects' table, with the extra ``[tfx]`` (Python 3.10 and 3.11)."""

from pathlib import Path
from typing import Any

from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from deepatlas_tf.types import SettingError
from deepatlas_tf.validation.statistics import Table


def write_examples(path: Path, rows: Table) -> Path:
    """The table as TFRecords of ``tf.train.Example``, uncompressed; its floats are 32-bit."""
    from deepatlas_tf.keras_stack import tf

    with tf.io.TFRecordWriter(str(path)) as writer:
        for row in rows:
            features = {name: _feature(tf, values) for name, values in row.items() if values}
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString())
    return path


def statistics(path: Path) -> statistics_pb2.DatasetFeatureStatisticsList:
    """Statistics of the examples in a file that ``write_examples`` wrote."""
    return package().generate_statistics_from_tfrecord(str(path))


def infer_schema(found: statistics_pb2.DatasetFeatureStatisticsList) -> schema_pb2.Schema:
    """The schema that TensorFlow Data Validation infers: without ranges, and strings of few values as their domain."""
    return package().infer_schema(found)


def validate(found: statistics_pb2.DatasetFeatureStatisticsList, schema: schema_pb2.Schema) -> anomalies_pb2.Anomalies:
    """The statistics against any schema, such as the one that ``schema.infer_schema`` makes."""
    return package().validate_statistics(found, schema)


def _feature(tf: Any, values: list) -> Any:
    if isinstance(values[0], str):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode() for value in values]))
    if isinstance(values[0], float):
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def package() -> Any:
    """The package tensorflow_data_validation. Raises SettingError where the extra is not installed."""
    try:
        import tensorflow_data_validation
    except ImportError as error:
        raise SettingError(
            f"tensorflow-data-validation is missing ({error}): pip install -e '.[tfx]' on Python 3.10 or 3.11"
        ) from error
    return tensorflow_data_validation
