"""The variants of both phantoms, prepared by TFDS: contrasts, domains, true deformations, partial labels."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from deepatlas_tf.datasets.load import load_dataset
from deepatlas_tf.datasets.phantom_brain.phantom_brain_dataset_builder import Builder as BrainBuilder
from deepatlas_tf.datasets.phantom_knee.phantom_knee_dataset_builder import Builder as KneeBuilder
from deepatlas_tf.keras_stack import tfds
from deepatlas_tf.phantoms import brain, knee
from deepatlas_tf.types import DataError, SettingError

VOLUME = {"shape": (12, 14, 12), "spacing": (10.0, 10.0, 10.0), "n_subjects": 7}
SLICE = {"shape": (24, 24), "spacing": (5.5, 5.0), "n_subjects": 7}
SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    return lambda name, grid: load_dataset(name, data_dir=folder, **grid)


def records(data):
    return {
        record["subject"].decode(): record
        for split in SPLITS
        for record in data.builder.as_dataset(split=split).as_numpy_iterator()
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "grid", "contrasts"),
    [
        ("phantom_knee/t1_deformed", SLICE, ("t1",)),
        ("phantom_knee/t2", VOLUME, ("t2",)),
        ("phantom_knee/t1_t2", VOLUME, ("t1", "t2")),
        ("phantom_knee/xray_dxa", SLICE, ("xray", "dxa")),
        ("phantom_brain", SLICE, ("t1",)),
        ("phantom_brain/t2", VOLUME, ("t2",)),
        ("phantom_brain/t1_t2", VOLUME, ("t1", "t2")),
    ],
)
def test_a_record_is_the_subject_drawn_from_its_number(load, name, grid, contrasts):
    module = knee if "knee" in name else brain
    data = load(name, grid)
    assert data.synthetic and data.class_names == module.CLASS_NAMES and len(records(data)) == 7
    for subject, record in records(data).items():
        contrast = data.domains[subject] or contrasts[0]
        drawn = module.draw(int(subject[-4:]), grid["shape"], grid["spacing"], contrast)
        np.testing.assert_array_equal(record["image"][..., 0], drawn.image)
        np.testing.assert_array_equal(record["label"], drawn.label)
        np.testing.assert_array_equal(record["deformation"], drawn.deformation)
        assert record["labelled"].all() and record["domain"].decode() == data.domains[subject]
        np.testing.assert_array_equal(record["spacing"], grid["spacing"])
    assert set(data.domains.values()) == (set(contrasts) if len(contrasts) > 1 else {""})


def test_every_split_holds_both_domains_in_equal_parts(load):
    data = load("phantom_brain/t1_t2", VOLUME | {"n_subjects": 16})
    for split in SPLITS:
        there = [data.domains[subject] for subject in data.subjects[split]]
        assert abs(there.count("t1") - there.count("t2")) <= 1


def test_the_other_contrast_of_a_subject_is_in_the_other_variant(load):
    """So a registration between contrasts can be measured by the truth in both."""
    mixed, plain = records(load("phantom_knee/t1_t2", VOLUME)), records(load("phantom_knee/t2", VOLUME))
    for subject, record in mixed.items():
        np.testing.assert_array_equal(record["label"], plain[subject]["label"])
        np.testing.assert_array_equal(record["deformation"], plain[subject]["deformation"])
        same = np.array_equal(record["image"], plain[subject]["image"])
        assert same == (record["domain"] == b"t2")


@pytest.mark.slow
@pytest.mark.parametrize("grid", [SLICE | {"n_subjects": 20}, VOLUME | {"n_subjects": 20}], ids=["2D", "3D"])
def test_partial_labels_are_missing_where_it_says_and_only_in_training(load, grid):
    whole, partial = load("phantom_knee", grid), load("phantom_knee/partial", grid)
    complete = records(whole)
    assert whole.subjects == partial.subjects
    train = partial.subjects["train"]
    none, bones = set(train[4::5]), set(train[2::3]) - set(train[4::5])
    assert none and bones
    for subject, record in records(partial).items():
        full = complete[subject]
        np.testing.assert_array_equal(record["image"], full["image"])
        if subject in none:
            assert not record["label"].any() and not record["labelled"].any()
        elif subject in bones:
            assert record["labelled"].tolist() == [False, True, True, False, False]
            np.testing.assert_array_equal(record["label"], np.where(full["label"] > 2, 0, full["label"]))
        else:
            assert record["labelled"].all()
            np.testing.assert_array_equal(record["label"], full["label"])
    assert set(partial.labelled["train"]) == set(train) - none
    assert partial.partial_labels and not whole.partial_labels
    assert partial.labelled["test"] == partial.subjects["test"]


@pytest.mark.parametrize("name", ["phantom_knee", "phantom_brain"])
def test_unknown_variants_and_projections_of_volumes_are_refused(tmp_path, name):
    with pytest.raises(SettingError, match=f"{name} has no variant 'ct'; there are t1"):
        load_dataset(f"{name}/ct", data_dir=tmp_path)
    if name == "phantom_knee":
        for variant in ("xray", "dxa", "xray_dxa"):
            with pytest.raises(DataError, match=f"phantom_knee/{variant} is a projection.*two axes"):
                load_dataset(f"{name}/{variant}", data_dir=tmp_path, **VOLUME)
    assert not list(tmp_path.rglob("*.tfrecord*"))


def test_the_prepared_brains_say_that_they_are_synthetic(load):
    data = load("phantom_brain", SLICE)
    assert "Synthetic" in data.builder.info.description and "deepatlas" in data.builder.info.citation
    assert data.builder.builder_config.name == "t1_24x24_5.5x5mm_7subjects"
    assert {split: len(ids) for split, ids in data.subjects.items()} == {"train": 3, "validation": 2, "test": 2}
    assert dataclasses.asdict(data.builder.builder_config)["variant"] == "t1"


@pytest.mark.slow
class PhantomBrain(tfds.testing.DatasetBuilderTestCase):
    """TFDS's own checks; the default grids are too large for a test."""

    DATASET_CLASS = BrainBuilder
    SPLITS = {"train": 2, "validation": 2, "test": 2}
    BUILDER_CONFIG_NAMES_TO_TEST = [BrainBuilder.config_for((8, 9, 8), (15, 15, 15), 6, variant="t1_t2")]
    EXAMPLE_DIR = Path(__file__).parent  # nothing is read


@pytest.mark.slow
class PhantomKnee(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = KneeBuilder
    SPLITS = {"train": 8, "validation": 2, "test": 2}
    BUILDER_CONFIG_NAMES_TO_TEST = [KneeBuilder.config_for((16, 16), (8, 8), 12, variant="partial")]
    EXAMPLE_DIR = Path(__file__).parent
