"""SegGuidedMMReg's stages on two domains: whose labels are used, what is measured on what."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from deepatlas_tf.evaluation.evaluate import _Pairs
from deepatlas_tf.experiments import get_experiment
from deepatlas_tf.recipes.seg_guided import recipe
from deepatlas_tf.streams.subjects import in_domain, registration_pairs
from deepatlas_tf.training.build_stream import used_labels
from deepatlas_tf.training.experiment import Stage
from deepatlas_tf.training.loop import selects
from deepatlas_tf.types import SettingError

SUBJECTS = tuple(f"s{i}" for i in range(8))
DOMAINS = {subject: ("t1", "t2")[i % 2] for i, subject in enumerate(SUBJECTS)}


@pytest.mark.parametrize("tiny", [False, True])
def test_no_label_of_the_second_domain_is_used(tiny):
    experiment = recipe(get_experiment("phantom_knee/t1_t2", tiny=tiny), tiny)
    dataset = SimpleNamespace(labelled={"train": SUBJECTS}, domains=DOMAINS)
    assert set(used_labels(dataset, experiment)) <= {"s0", "s2", "s4", "s6"}
    assert len(used_labels(dataset, experiment)) == (2 if tiny else 3)
    chosen = {stage.name: selects(stage, experiment) for stage in experiment.stages}
    assert {name for name, by_labels in chosen.items() if by_labels} == {"registration_a", "segmentation_a"}
    assert all(stage.domains in (("t1", "t1"), ("t1", "t2")) for stage in experiment.stages)


@pytest.mark.parametrize(
    ("dataset", "grid", "weight"),
    [
        ("phantom_knee/xray_dxa", {}, 0.75),
        ("phantom_knee/t1_t2", {}, 0.5),
        ("phantom_knee/t1_t2", {"spacing": (5.0, 5.0)}, 0.75),
        ("nifti", {}, 0.5),
        ("nifti", {"shape": (32, 32)}, 0.75),
    ],
)
def test_the_published_penalty_is_divided_by_the_number_of_axes(dataset, grid, weight):
    base = get_experiment(dataset)
    data = dataclasses.replace(base.data, domains=base.data.domains or ("mr", "ct"), **grid)
    stages = recipe(dataclasses.replace(base, data=data)).stages
    found = [stage.weights.get("registration", {}).get("gradient_inverse_consistency") for stage in stages]
    assert [x for x in found if x] == [weight] * 5  # the four registrations of images, and the last stage


def test_the_variants_have_their_own_grids():
    assert get_experiment("phantom_knee/xray_dxa", tiny=True).data.shape == (32, 32)
    assert get_experiment("phantom_knee/xray_dxa").data.domains == ("xray", "dxa")
    assert get_experiment("phantom_knee/t1_deformed").data.domains == ()


def test_two_domains_are_needed():
    with pytest.raises(SettingError, match="data.domains="):
        recipe(get_experiment("phantom_knee"))
    with pytest.raises(SettingError, match="domains are two names"):
        Stage(name="s", method="voxelmorph", steps=1, domains=("t1", None))
    with pytest.raises(SettingError, match="no subject is of the domain 'ct'; there are 't1', 't2'"):
        in_domain(SUBJECTS, DOMAINS, "ct")


@pytest.mark.parametrize("n", [1, 2, 3, 9])
@pytest.mark.parametrize("domains", [(None, None), ("t1", "t1"), ("t1", "t2"), ("t2", "t1")])
def test_every_fixed_subject_gets_so_many_moving_ones_of_the_other_domain(n, domains):
    moving, fixed = (in_domain(SUBJECTS, DOMAINS, domain) for domain in domains)
    pairs, found = _Pairs(moving, fixed, n), []
    for subject in SUBJECTS:
        found += pairs.add({"subject": subject.encode()})
    found += pairs.rest()
    found = [(m["subject"].decode(), f["subject"].decode()) for m, f in found]
    expected = min(n, len(set(moving)) - (moving == fixed))
    assert len(set(found)) == len(found) and all(m in moving and f in fixed and m != f for m, f in found)
    assert [sum(f == subject for _, f in found) for subject in fixed] == [expected] * len(fixed)


def test_pairs_for_validation_are_between_the_domains():
    assert registration_pairs(("a", "b", "c"), 1) == [("a", "b"), ("b", "c"), ("c", "a")]
    assert registration_pairs(("a", "b"), 1, ("x",)) == [("a", "x"), ("b", "x")]
    found = registration_pairs(("a", "b", "c"), 2, ("x", "y"))
    assert len(found) == 6 and np.all([m in "abc" and f in "xy" for m, f in found])
    assert registration_pairs(("a",), 1, ("a",)) == []
