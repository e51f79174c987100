"""Stages and subjects where there are few labels or none."""

import dataclasses
from types import SimpleNamespace

import pytest

from deepatlas_tf.experiments import experiment_names, get_experiment
from deepatlas_tf.recipes import get_recipe
from deepatlas_tf.training.unlabelled import (
    first_labelled,
    needs_labels,
    registered_subjects,
    say_not_measured,
    say_unlabelled,
    without_labels,
    without_pairs,
)
from deepatlas_tf.types import DataError

# sorted by domain, as a list of scans often is; of ct nobody has a label map
SUBJECTS = ("m0", "m1", "m2", "m3", "p0", "p1", "p2", "c0", "c1")
DOMAINS = {subject: {"m": "mr", "p": "pet", "c": "ct"}[subject[0]] for subject in SUBJECTS}
DATASET = SimpleNamespace(subjects={"test": SUBJECTS}, labelled={"test": SUBJECTS[:7]}, domains=DOMAINS)


@pytest.mark.parametrize("name", experiment_names())
def test_only_unsupervised_stages_are_left_without_labels(name):
    experiment = get_experiment(name)
    kept, left_out = without_labels(experiment)
    assert [stage.name for stage in kept.stages] == ["registration_unsupervised"]
    assert left_out == tuple(s.name for s in experiment.stages if s.name != "registration_unsupervised")
    with pytest.raises(DataError, match="segmentation_baseline cannot be trained without.*--labels"):
        without_labels(experiment.only_method("segmentation"))


def test_what_starts_from_a_stage_that_is_left_out_is_left_out_too():
    experiment = get_recipe("seg_guided")(get_experiment("phantom_knee/t1_t2"))
    adaptation = next(stage for stage in experiment.stages if stage.name == "domain_adaptation")
    assert not needs_labels(adaptation)
    kept, left_out = without_labels(experiment)
    assert left_out == ("segmentation_a", "domain_adaptation", "seg_guided")
    assert {"registration_a", "registration_mi"} <= {stage.name for stage in kept.stages}
    assert needs_labels(get_recipe("uniseg_reg")(get_experiment("phantom_knee")).stages[-1])


@pytest.mark.parametrize("name", experiment_names())
def test_one_subject_leaves_the_segmentation_baseline(name):
    kept, left_out = without_pairs(get_experiment(name))
    assert [stage.name for stage in kept.stages] == ["segmentation_baseline"]
    assert len(left_out) == len(get_experiment(name).stages) - 1
    with pytest.raises(DataError, match="one training subject, and registration_unsupervised.* cannot.*add scans"):
        without_pairs(get_experiment(name).only_method("voxelmorph"))


def split_like(labelled, subjects=None, alignment="none"):
    """A data set with so many labelled subjects, and subjects, to (train, validate, test)."""

    def of(numbers):
        return {split: tuple("abcdefgh"[:n]) for split, n in zip(("train", "validation", "test"), numbers, strict=True)}

    subjects = subjects or labelled
    return SimpleNamespace(labelled=of(labelled), subjects=of(subjects), domains={}, alignment=alignment)


TOO_FEW = "too few label maps to"


@pytest.mark.parametrize(
    ("labelled", "said"),
    [
        ((4, 2, 2), ""),
        ((4, 1, 2), f"{TOO_FEW} choose the best networks: the last registration network is kept"),
        ((4, 0, 2), f"{TOO_FEW} choose the best networks: the last networks are kept"),
        ((0, 2, 0), f"{TOO_FEW} measure; train --folds 2 tests each labelled scan once"),
        (
            (3, 0, 1),
            f"{TOO_FEW} measure registration: the last networks are kept; train --folds 2 tests each",
        ),
        (
            (5, 1, 1),
            f"{TOO_FEW} measure registration: the last registration network is kept; train --folds 3 tests",
        ),
        ((3, 0, 0), f"{TOO_FEW} measure: the last networks are kept; train --folds 3 tests each labelled scan once"),
        ((2, 0, 0), f"{TOO_FEW} measure: the last networks are kept; train --folds 2 tests each labelled scan once"),
        ((1, 0, 0), f"{TOO_FEW} measure: the last networks are kept\n"),
    ],
)
def test_what_is_not_measured_is_said_in_one_line(labelled, said, capsys):
    say_not_measured(split_like(labelled), [None])
    found = capsys.readouterr().out
    assert found.count("\n") == bool(said) and found.startswith(said) and len(found) < 130
    say_not_measured(split_like(labelled), [None], in_fold=True)
    assert capsys.readouterr().out == found.split(";")[0].rstrip("\n") + ("\n" if said else "")


def test_a_cross_validation_is_not_recommended_where_it_is_refused(capsys):
    say_not_measured(split_like((2, 0, 0), (2, 2, 2)), [None])
    assert capsys.readouterr().out == f"{TOO_FEW} measure more than the folds of fields: the last networks are kept\n"
    say_not_measured(split_like((2, 0, 0), alignment="affine"), [None])
    assert capsys.readouterr().out == f"{TOO_FEW} measure: the last networks are kept\n"


def test_supervised_terms_count_where_they_are_weighted_and_trained():
    stage = next(stage for stage in get_experiment("brains").stages if stage.name == "deepatlas")
    stage = dataclasses.replace(stage, labelled_fraction=(None, None), pseudo_from={})
    assert needs_labels(stage)
    assert not needs_labels(dataclasses.replace(stage, turns={"registration": 1, "segmentation": 0}))
    assert not needs_labels(dataclasses.replace(stage, weights={"segmentation": {"anatomy": 1.0}}))


@pytest.mark.parametrize(
    ("domains", "n", "expected"),
    [
        ([None], 3, ("m0", "m1", "m2")),
        (["mr", "pet"], 3, ("m0", "m1", "p0", "p1")),
        (["mr", "mr", "ct"], 2, ("m0",)),
        (["ct"], 3, ()),
        ([], 3, ()),
        ([None, "mr"], 4, ("m0", "m1")),
    ],
)
def test_the_first_labelled_ones_are_of_every_domain(domains, n, expected):
    assert first_labelled(DATASET, "test", domains, n) == expected


def test_registration_is_measured_on_all_where_nobody_has_a_label():
    assert registered_subjects(DATASET, "test", "pet") == ("p0", "p1", "p2")
    assert registered_subjects(DATASET, "test", "ct") == ("c0", "c1")
    assert registered_subjects(DATASET, "test", None) == SUBJECTS[:7]


def test_missing_labels_are_said_in_one_line(capsys):
    say_unlabelled(DATASET, "test", [None, "mr", "pet"])
    assert capsys.readouterr().out == ""
    say_unlabelled(DATASET, "test", ["mr", "ct", "ct"])
    line = "no test subject of the domain 'ct' has a label map: what needs one is not measured\n"
    assert capsys.readouterr().out == line
    say_unlabelled(SimpleNamespace(labelled={"test": ()}, domains={}), "test", [None, None])
    assert capsys.readouterr().out == "no test subject has a label map: what needs one is not measured\n"
