"""Recipes make their stages from those of any data set."""

import dataclasses

import pytest

from deepatlas_tf.experiments import experiment_names, get_experiment
from deepatlas_tf.models.registration.cascade import Cascade
from deepatlas_tf.models.registration.pyramid import Pyramid
from deepatlas_tf.models.registration.voxelmorph import VoxelMorphRegistration
from deepatlas_tf.recipes import get_recipe, recipe_names
from deepatlas_tf.run import make_experiment
from deepatlas_tf.runs.predict import trained_nets
from deepatlas_tf.training.experiment import Stage
from deepatlas_tf.types import SettingError


def made_by(method, **changes):
    return make_experiment(**{"dataset": "phantom_knee", "method": method, **changes})


@pytest.mark.parametrize("dataset", experiment_names())
def test_mean_teacher_and_uniseg_reg_for_every_data_set(dataset):
    assert {"mean_teacher", "uniseg_reg"} <= set(recipe_names())
    base = get_experiment(dataset)
    teacher = get_recipe("mean_teacher")(base)
    assert [stage.method for stage in teacher.stages] == ["segmentation", "mean_teacher"]
    assert teacher.networks == base.networks and teacher.data == base.data
    rounds = [stage for stage in get_recipe("uniseg_reg")(base).stages if stage.pseudo_from]
    assert [stage.name for stage in rounds] == [*(f"uniseg_reg_{i}" for i in range(1, 10)), "uniseg_reg"]
    assert dict(rounds[0].pseudo_from) == {
        "segmentation": "segmentation_baseline",
        "registration": "registration_pretrained",
    }
    for before, stage in zip(rounds, rounds[1:], strict=False):
        assert set(stage.pseudo_from.values()) == set(stage.start_from.values()) == {before.name}
        assert dict(stage.turns) == {"registration": 1, "segmentation": 1}


def test_uniseg_reg_has_the_published_networks_and_losses():
    made = made_by("uniseg_reg")
    assert made.networks.registration == Pyramid() and made.networks.segmentation.dropout > 0
    assert made.networks.segmentation.widths == (16, 32, 64, 128, 256)
    for stage in made.stages:
        if stage.turns.get("segmentation"):
            weights = stage.weights["segmentation"]
            assert weights["supervised"] == weights["supervised_cross_entropy"] == 0.5
    assert [stage.method for stage in made.stages][:3] == ["segmentation", "uniseg_reg", "mean_teacher"]


@pytest.mark.parametrize("dataset", experiment_names())
def test_semi_deepatlas_goes_both_ways_from_the_two_baselines(dataset):
    made = get_recipe("semi_deepatlas")(get_experiment(dataset))
    baselines = {"registration": "registration_unsupervised", "segmentation": "segmentation_baseline"}
    assert [stage.name for stage in made.stages[:2]] == [baselines["segmentation"], baselines["registration"]]
    for stage, net in zip(made.stages[2:], ("segmentation", "registration"), strict=True):
        assert stage.name == f"semi_deepatlas_{net}" and stage.method == "deepatlas"
        assert dict(stage.start_from) == baselines and trained_nets(dataclasses.asdict(stage)) == {net}
        assert stage.weights[net]["anatomy"] > 0


@pytest.mark.parametrize(
    ("changes", "pretraining", "rounds"),
    [
        ({}, 3e-4, 3e-4),
        ({"dataset": "hippocampus"}, 3e-4, 3e-4),
        ({"dataset": "oasis/seg35"}, 3e-4, 3e-4),
        ({"dataset": "hippocampus", "settings": ["data.shape=(64, 64)"]}, 1e-3, 5e-4),
        ({"dataset": "oasis/seg4_2d"}, 1e-3, 5e-4),
    ],
)
def test_the_pyramid_learns_slower_in_volumes(changes, pretraining, rounds):
    made = made_by("uniseg_reg", **changes)
    baseline, pretrained, teacher, *others = made.stages
    assert pretrained.learning_rates["registration"] == pretraining
    assert {stage.learning_rates["registration"] for stage in others} == {rounds}
    assert {stage.learning_rates["segmentation"] for stage in others} == {5e-4}
    assert dict(teacher.learning_rates) == dict(baseline.learning_rates) == {"segmentation": baseline_rate(made)}


def baseline_rate(experiment):
    (stage,) = [stage for stage in get_experiment(experiment.name).stages if stage.method == "segmentation"]
    return stage.learning_rates["segmentation"]


@pytest.mark.parametrize("dataset", ["hippocampus", "brains"])
def test_semi_deepatlas_and_one_shot_have_the_joint_stage_without_masks(dataset):
    joint = get_experiment(dataset).stages[-1]
    assert joint.pseudo_from
    stages = get_recipe("semi_deepatlas")(get_experiment(dataset)).stages[2:]
    stages += get_recipe("one_shot")(get_experiment(dataset)).stages[2:]
    for stage in stages:
        assert not stage.pseudo_from and stage.similarity == joint.similarity


def test_semi_deepatlas_takes_the_tuned_stage_where_there_is_one():
    base = {name: get_experiment(name) for name in ("hippocampus", "brains")}
    made = {name: get_recipe("semi_deepatlas")(experiment).stages[2:] for name, experiment in base.items()}
    segmentation, registration = made["hippocampus"]
    assert registration.steps == base["hippocampus"].stages[3].steps == 800
    assert segmentation.steps == base["hippocampus"].stages[4].steps == 1200
    for stage in made["brains"]:  # which has the joint stage alone
        assert stage.steps == base["brains"].stages[2].steps and stage.weights == base["brains"].stages[2].weights


@pytest.mark.parametrize("dataset", experiment_names())
def test_one_shot_has_the_chain_of_the_paper(dataset):
    made = get_recipe("one_shot")(get_experiment(dataset))
    assert made.data.labels == 1
    names = ["segmentation_baseline", "registration_unsupervised", "semi_deepatlas", "deepatlas"]
    assert [stage.name for stage in made.stages] == names
    _, registration, semi, joint = made.stages
    assert not registration.weights["registration"]["anatomy"] and not registration.start_from
    assert dict(semi.start_from) == {"registration": "registration_unsupervised"}  # segmentation: from scratch
    assert trained_nets(dataclasses.asdict(semi)) == {"segmentation"}
    assert dict(joint.start_from) == {"registration": "registration_unsupervised", "segmentation": "semi_deepatlas"}
    assert trained_nets(dataclasses.asdict(joint)) == {"registration", "segmentation"}


@pytest.mark.parametrize("dataset", experiment_names())
def test_voxelmorph_is_its_u_net_under_the_losses_of_the_experiment(dataset):
    base, made = get_experiment(dataset), made_by("voxelmorph", dataset=dataset)
    own = [stage for stage in base.stages if stage.method == "voxelmorph"]
    assert made.networks == dataclasses.replace(base.networks, registration="voxelmorph")
    assert made.stages == (dataclasses.replace(own[0], steps=10 * own[0].steps, learning_rates={}), *own[1:])
    assert dict(made.stages[0].learning_rates) == {"registration": 1e-3}


@pytest.mark.parametrize("dataset", experiment_names())
def test_deepatlas_paper_has_the_published_network_losses_and_turns(dataset):
    base, made = get_experiment(dataset), made_by("deepatlas_paper", dataset=dataset)
    segmentation, registration, joint = made.stages
    assert [stage.name for stage in (registration, joint)] == ["registration_paper", "deepatlas_paper"]
    assert segmentation == base.stages[0] and made.networks.registration == VoxelMorphRegistration()
    assert not registration.start_from and not registration.weights["registration"]["anatomy"]
    assert dict(joint.start_from) == {"registration": registration.name, "segmentation": segmentation.name}
    assert dict(joint.turns) == {"registration": 20, "segmentation": 1}
    assert joint.steps == sum(stage.steps for stage in base.stages if stage.method == "deepatlas")
    assert joint.settings["segmentation_pairs"] == "paper" and not joint.settings["registration_confidence"]
    for stage in (registration, joint):
        assert stage.similarity == "ncc" and stage.weights["registration"]["smoothness"] == 1


def test_what_is_asked_for_counts_more_than_the_recipe():
    assert made_by("voxelmorph", settings=["networks.registration=cascade"]).networks.registration == Cascade()
    assert made_by("one_shot").data.labels == 1
    assert made_by("one_shot", labels=2).data.labels == 2
    assert made_by("one_shot", settings=["data.labels=3"]).data.labels == 3
    tiny = made_by("semi_deepatlas", tiny=True, settings=["stages.semi_deepatlas_registration.steps=5"])
    assert [stage.steps for stage in tiny.stages] == [8, 8, 8, 5]


def test_tiny_and_settings_reach_the_stages():
    tiny = made_by("uniseg_reg", tiny=True, settings=["stages.uniseg_reg.pseudo_gate=0.7", "data.labels=2"])
    assert [stage.steps for stage in tiny.stages] == [8] * 5 and tiny.networks.registration == Pyramid((8, 8, 8))
    assert tiny.stages[-1].pseudo_gate == 0.7 and tiny.data.labels == 2
    changed = made_by("mean_teacher", settings=["stages.mean_teacher.settings.decay=0.5"], steps_scale=0.5)
    assert dict(changed.stages[-1].settings) == {"decay": 0.5, "ramp": 0.3, "noise": 0.03}
    assert changed.stages[-1].steps == made_by("mean_teacher").stages[-1].steps / 2


def test_what_does_not_fit_is_named():
    with pytest.raises(SettingError, match="no setting decai"):
        Stage(name="s", method="mean_teacher", steps=1, settings={"decai": 0.5})
    with pytest.raises(SettingError, match="a stage for each of registration and segmentation"):
        Stage(name="s", method="uniseg_reg", steps=1, pseudo_from={"segmentation": "t"})
    with pytest.raises(SettingError, match="no earlier stage"):
        base = get_experiment("phantom_knee")
        both = {"segmentation": "later", "registration": "later"}
        type(base)("e", base.data, (Stage(name="s", method="uniseg_reg", steps=1, pseudo_from=both),))
    with pytest.raises(SettingError, match="no method 'nothing'"):
        made_by("nothing")
