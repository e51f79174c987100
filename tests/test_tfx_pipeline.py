"""The pipeline from records to a pushed SavedModel; skipped where TFX is not installed."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from deepatlas_tf import tfx_pipeline
from deepatlas_tf.datasets.load import load_dataset
from deepatlas_tf.keras_stack import tf
from deepatlas_tf.models.build import load_net
from deepatlas_tf.runs.model import open_model

INSTALLED = importlib.util.find_spec("tfx") is not None
SMALL = ["--tiny", "--method", "segmentation", "--set", "data.shape=(16, 16)", "--set", "data.spacing=(8, 8)"]


@pytest.mark.slow
@pytest.mark.skipif(not INSTALLED, reason="tfx (extra [tfx-full]) is not installed")
def test_the_pipeline_trains_on_a_tiny_phantom_and_pushes_the_model(tmp_path):
    arguments = ["--data-dir", str(tmp_path / "data"), "--workdir", str(tmp_path / "run"), *SMALL]
    assert tfx_pipeline.main([*arguments, "--serving-dir", str(tmp_path / "serving")]) == 0
    artifacts = tmp_path / "run" / "artifacts"
    made = {path.name for path in artifacts.iterdir()}
    assert made == {"ImportExampleGen", "StatisticsGen", "SchemaGen", "ExampleValidator", "Trainer", "Pusher"}

    (schema,) = artifacts.glob("SchemaGen/schema/*/schema.pbtxt")
    names = {feature.name for feature in text_format.Parse(schema.read_text(), schema_pb2.Schema()).feature}
    assert names == set(tfx_pipeline.FEATURES)
    (stats,) = artifacts.glob("StatisticsGen/statistics/*/Split-train/FeatureStats.pb")
    found = statistics_pb2.DatasetFeatureStatisticsList.FromString(stats.read_bytes())
    data = {"data_dir": tmp_path / "data", "shape": (16, 16), "spacing": (8, 8), "n_subjects": 12}
    dataset = load_dataset("phantom_knee", **data)
    assert found.datasets[0].num_examples == len(dataset.subjects["train"])
    validated = list(artifacts.glob("ExampleValidator/anomalies/*/*/SchemaDiff.pb"))
    assert {path.parent.name for path in validated} == {"Split-train", "Split-validation", "Split-test"}
    for path in validated:
        assert not anomalies_pb2.Anomalies.FromString(path.read_bytes()).anomaly_info

    (version,) = (tmp_path / "serving").iterdir()
    assert version.name.isdigit()
    (run,) = artifacts.glob("Trainer/model_run/*")
    image = next(dataset.samples("test").as_numpy_iterator())["image"]
    answer = open_model(version).segmenter()(image)  # the pushed model, as the other commands open it
    expected = load_net(run / "segmentation_baseline" / "nets" / "segmentation.keras")(image[None]).numpy()[0]
    np.testing.assert_allclose(answer, expected, atol=1e-5)
    assert open_model(run).grid.class_names == dataset.class_names


@pytest.mark.slow
def test_imported_records_are_those_of_the_data_set_in_another_order(tmp_path):
    dataset = load_dataset("phantom_knee", data_dir=tmp_path, shape=(16, 16), spacing=(8, 8), n_subjects=12)
    (stored,) = Path(dataset.builder.data_dir).glob("*-train.tfrecord*")
    raw = list(tf.data.TFRecordDataset(str(stored)).as_numpy_iterator())
    for name, part in (("a", raw[3:]), ("b", raw[:3])):
        with tf.io.TFRecordWriter(str(tmp_path / f"{name}.gz"), "GZIP") as writer:
            for record in part:
                writer.write(record)
    shuffled = tfx_pipeline.imported(dataset, {"train": (str(tmp_path / "?.gz"),)})
    subjects = dataset.subjects["train"]
    assert shuffled.subjects["train"] == subjects[3:] + subjects[:3] == shuffled.labelled["train"]
    samples = {s["subject"]: s for s in dataset.samples("train").as_numpy_iterator()}
    assert shuffled.samples("train").element_spec == dataset.samples("train").element_spec
    for sample in shuffled.samples("train").as_numpy_iterator():
        for key, value in samples[sample["subject"]].items():
            np.testing.assert_array_equal(sample[key], value)


@pytest.mark.skipif(INSTALLED, reason="tfx is installed")
def test_without_tfx_it_says_what_to_install(tmp_path, capsys):
    assert tfx_pipeline.main(["--tiny", "--data-dir", str(tmp_path)]) == 2
    assert "[tfx-full]" in capsys.readouterr().err
