import json

import numpy as np
import pytest

from deepatlas_tf.datasets.phantom_knee.phantom_knee_dataset_builder import Builder
from deepatlas_tf.phantoms import knee
from deepatlas_tf.types import DataError

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module", params=[((16, 12), (8.0, 10.0)), ((12, 10, 8), (10.0, 12.0, 15.0))], ids=["2D", "3D"])
def builder(request, tmp_path_factory):
    shape, spacing = request.param
    config = Builder.config_for(shape, spacing, n_subjects=10)
    builder = Builder(data_dir=tmp_path_factory.mktemp("tfds"), config=config)
    builder.download_and_prepare()
    return builder


def test_every_record_is_the_subject_drawn_from_its_number_in_split_order(builder):
    shape, spacing = builder.builder_config.shape, builder.builder_config.spacing
    for split in SPLITS:
        records = list(builder.as_dataset(split=split).as_numpy_iterator())
        assert [r["subject"].decode() for r in records] == builder.info.metadata["subjects"][split]
        for record in records:
            image, label = knee.knee(int(record["subject"][-4:]), shape, spacing)
            np.testing.assert_array_equal(record["image"][..., 0], image)
            np.testing.assert_array_equal(record["label"], label)
            assert record["labelled"].tolist() == [True] * 5 and "deformation" not in record


def test_affine_puts_the_middle_of_the_grid_at_the_origin(builder):
    shape, spacing = np.array(builder.builder_config.shape), builder.builder_config.spacing
    record = next(builder.as_dataset(split="test").as_numpy_iterator())
    np.testing.assert_allclose(record["affine"] @ [*(shape - 1) / 2, 1], [0] * len(shape) + [1], atol=1e-12)
    np.testing.assert_allclose(np.diag(record["affine"])[:-1], spacing)
    np.testing.assert_array_equal(record["source_affine"], record["affine"])
    np.testing.assert_array_equal(record["source_shape"], shape)


def test_splits_are_disjoint_and_complete(builder):
    subjects = builder.info.metadata["subjects"]
    assert {s for split in SPLITS for s in subjects[split]} == {f"knee_{i:04d}" for i in range(10)}
    assert [len(subjects[split]) for split in SPLITS] == [6, 2, 2]


def test_prepared_folder_says_that_the_data_are_synthetic_and_what_the_classes_are(builder):
    metadata = json.loads((builder.data_path / "metadata.json").read_text())
    assert metadata["synthetic"] is True
    assert metadata["class_names"] == ["background", "femur", "tibia", "femoral_cartilage", "tibial_cartilage"]
    assert metadata["labelled"] == metadata["subjects"]
    assert "Synthetic" in builder.info.description and "DeepAtlas" in builder.info.citation


def test_configurations_split_as_the_demo_needs(tmp_path):
    sizes = {}
    for config in Builder.BUILDER_CONFIGS:
        splits, labelled = Builder(data_dir=tmp_path, config=config).find_subjects(None)
        sizes[config.name] = [len(splits[split]) for split in SPLITS]
        assert len(labelled) == sum(sizes[config.name]) - 8 * (config.variant == "partial")
    assert sizes == {
        "t1_40x48x40_3mm_60subjects": [44, 8, 8],
        "t1_24x24x16_5x5.5x7mm_12subjects": [8, 2, 2],
        "t1_64x64_2mm_60subjects": [44, 8, 8],
        "t1_deformed_40x48x40_3mm_60subjects": [44, 8, 8],
        "t2_40x48x40_3mm_60subjects": [44, 8, 8],
        "t1_t2_40x48x40_3mm_60subjects": [44, 8, 8],
        "xray_64x64_2mm_60subjects": [44, 8, 8],
        "dxa_64x64_2mm_60subjects": [44, 8, 8],
        "xray_dxa_64x64_2mm_60subjects": [44, 8, 8],
        "partial_40x48x40_3mm_60subjects": [44, 8, 8],
    }
    assert Builder.config_for().name == Builder.BUILDER_CONFIGS[0].name  # the one that was measured


def test_too_few_subjects_to_make_pairs_of_are_refused(tmp_path):
    builder = Builder(data_dir=tmp_path, config=Builder.config_for(n_subjects=5))
    with pytest.raises(DataError, match="phantom_knee with 5 subjects: at least 6 are needed"):
        builder.download_and_prepare()
    assert not list(tmp_path.rglob("*.tfrecord*"))
