"""Settings: every one can be set, and what cannot be set is refused with a hint."""

import dataclasses

import numpy as np
import pytest

from deepatlas_tf.experiments import experiment_names, get_experiment
from deepatlas_tf.methods import method_class, method_names
from deepatlas_tf.models.segmentation.voxelmorph import VoxelMorphSegmentation
from deepatlas_tf.training.settings import set_value
from deepatlas_tf.types import SettingError


def test_settings_of_every_depth_can_be_set():
    experiment = get_experiment("phantom_knee")
    experiment = set_value(experiment, "stages.deepatlas.weights.registration.anatomy=2")
    experiment = set_value(experiment, "stages.deepatlas.turns.registration=20")
    experiment = set_value(experiment, "data.spacing=(2, 2.5, 3)")
    experiment = set_value(experiment, "networks.segmentation=voxelmorph")
    experiment = set_value(experiment, "stages.registration-weak.steps=7")
    stages = {stage.name: stage for stage in experiment.stages}
    assert stages["deepatlas"].weights["registration"] == {"similarity": 1.0, "smoothness": 0.05, "anatomy": 2.0}
    assert isinstance(stages["deepatlas"].weights["registration"]["anatomy"], float)
    assert stages["deepatlas"].turns == {"registration": 20, "segmentation": 1}
    assert stages["registration_weak"].steps == 7
    assert experiment.data.spacing == (2, 2.5, 3) and experiment.networks.segmentation == VoxelMorphSegmentation()
    assert get_experiment("phantom_knee").data.spacing is None  # the original is untouched


def test_another_similarity_takes_its_own_settings():
    experiment = get_experiment("phantom_knee")
    same = set_value(experiment, "stages.deepatlas.similarity=local_ncc")
    assert same == experiment and dict(same.stages[-1].similarity_settings) == {"window": 7}
    other = set_value(experiment, "stages.deepatlas.similarity=mind_ssc")
    assert other.stages[-1].similarity == "mind_ssc" and dict(other.stages[-1].similarity_settings) == {}
    assert other.stages[:-1] == experiment.stages[:-1]


def test_a_setting_of_all_stages():
    experiment = set_value(get_experiment("phantom_knee"), "stages.*.batch_size=4")
    assert {stage.batch_size for stage in experiment.stages} == {4} and len(experiment.stages) == 5
    experiment = set_value(experiment, "stages.deepatlas.batch_size=2")
    assert [stage.batch_size for stage in experiment.stages] == [4, 4, 4, 4, 2]


@pytest.mark.parametrize(
    ("assignment", "hint"),
    [
        ("stages.*.batch_sizes=3", "near: batch_size"),
        ("networks.*=3", "no '\\*' here"),
        ("stages.deepatls.steps=3", "near: deepatlas"),
        ("data.lables=3", "near: labels"),
        ("stages.deepatlas.weights.registration.anatomi=3", "near: anatomy"),
        ("stages.deepatlas.steps.more=3", "near: nothing"),
        ("stages.deepatlas.steps=many", "a int is needed"),
        ("stages.deepatlas.steps", "path=value"),
        ("stages.deepatlas.similarity=lncc", "ncc or local_ncc or mse"),
        ("stages.deepatlas.epochs=0", "at least 1"),
        ("data.spacing=2", "one value for each axis"),
        (
            "stages=",
            r"give stages.NAME.SETTING=VALUE, with a NAME of segmentation_baseline, .*deepatlas, or \* for all$",
        ),
        ("stages=[1]", "give stages.NAME.SETTING=VALUE"),
        ("evaluation=3", "give evaluation.SETTING=VALUE, with a SETTING of pairs_per_subject, validation_subjects$"),
        ("stages.deepatlas.weights=3", r"a dict is needed, such as \{'registration': .*\[...\]$"),
    ],
)
def test_what_does_not_exist_is_refused_with_the_near_ones(assignment, hint):
    with pytest.raises(SettingError, match=hint) as found:
        set_value(get_experiment("phantom_knee"), assignment)
    assert len(str(found.value)) < 250


@pytest.mark.parametrize("name", experiment_names())
@pytest.mark.parametrize("tiny", [False, True])
def test_experiments_are_consistent(name, tiny):
    experiment = get_experiment(name, tiny=tiny)
    assert experiment.name == experiment.data.dataset == name
    for stage in experiment.stages:
        cls = method_class(stage.method)
        for turn, terms in stage.weights.items():
            assert set(terms) <= set(cls.default_weights[turn]), stage.name
    trained = {stage.method for stage in experiment.stages}
    assert trained <= set(method_names()) and "deepatlas" in trained


def test_unknown_names_are_refused():
    with pytest.raises(SettingError, match="phantom_knee"):
        get_experiment("fantom_knee")
    with pytest.raises(SettingError, match="deepatlas, segmentation, voxelmorph"):
        get_experiment("phantom_knee").only_method("voxelmorf")
    with pytest.raises(ValueError, match="there is no method"):
        method_class("voxelmorf")
    stage = get_experiment("phantom_knee").stages[-1]
    with pytest.raises(SettingError, match="no earlier stage"):
        dataclasses.replace(get_experiment("phantom_knee"), stages=(stage,))


def test_one_method_keeps_what_it_starts_from():
    experiment = get_experiment("phantom_knee").only_method("voxelmorph")
    assert [stage.name for stage in experiment.stages] == ["registration_unsupervised", "registration_weak"]
    assert len(get_experiment("phantom_knee").only_method("deepatlas").stages) == 5


def test_steps_are_scaled():
    experiment = get_experiment("phantom_knee").scaled(0.1)
    assert [stage.steps for stage in experiment.stages] == [80, 6, 6, 24, 24]
    assert all(stage.steps >= stage.epochs for stage in get_experiment("phantom_knee").scaled(0).stages)


@pytest.mark.parametrize("name", [n for n in experiment_names() if n != "nifti"] + ["oasis/seg4_2d", "oasis/seg35"])
def test_tiny_is_of_a_tiny_grid(name):
    tiny, whole = get_experiment(name, tiny=True).data, get_experiment(name).data
    assert np.prod(tiny.shape) <= 2**17 and len(tiny.shape) == len(tiny.spacing) == (2 if "2d" in name else 3)
    assert (tiny.dataset, whole.shape) == (name, None)
    assert get_experiment("nifti", tiny=True).data.max_voxels == 2**14


@pytest.mark.parametrize(("name", "grid"), [("phantom_knee", (24, 24, 16)), ("phantom_brain", (24, 32, 24))])
def test_the_two_contrasts_of_a_variant_are_its_domains(name, grid):
    data = get_experiment(f"{name}/t1_t2").data
    assert (data.dataset, data.domains, data.labels, data.shape) == (f"{name}/t1_t2", ("t1", "t2"), 3, None)
    tiny = get_experiment(f"{name}/t1_t2", tiny=True).data
    assert (tiny.domains, tiny.labels, tiny.shape, tiny.n_subjects) == (("t1", "t2"), 2, grid, 32)
    assert get_experiment(f"{name}/t2").data.domains == ()
