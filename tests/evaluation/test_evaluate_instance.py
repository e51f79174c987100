"""The evaluation with instance optimisation: a row more for each registration, on synthetic knees in 2D."""

import numpy as np
import pytest

from deepatlas_tf.evaluation.draw import draw
from deepatlas_tf.evaluation.evaluate import evaluate
from deepatlas_tf.phantoms.knee import CLASS_NAMES
from deepatlas_tf.runs import predict
from deepatlas_tf.runs.predict import AtTestTime
from deepatlas_tf.training.experiment import Stage
from deepatlas_tf.types import DataError, SettingError

SEGMENTATION = Stage("segmentation_baseline", "segmentation", steps=1)
WEIGHTS = {"registration": {"similarity": 1.0, "smoothness": 0.1}}
REGISTRATION = Stage("registration_unsupervised", "voxelmorph", steps=1, weights=WEIGHTS)


@pytest.mark.long
def test_each_registration_is_measured_refined_too(tmp_path, write_run, made_up_dataset):
    write_run(tmp_path, SEGMENTATION, REGISTRATION)
    evaluation = evaluate(tmp_path, made_up_dataset(), at=AtTestTime(instance_steps=60))
    methods = ["identity", "registration_unsupervised", "registration_unsupervised_instance"]
    assert [name for name, tasks in evaluation.summary.items() if "registration" in tasks] == methods
    assert list(dict.fromkeys(row["method"] for row in evaluation.registration_rows)) == methods
    assert {row["method"] for row in evaluation.segmentation_rows} == {"segmentation_baseline"}
    scores = {name: evaluation.summary[name]["registration"]["dice"]["mean"] for name in methods}
    np.testing.assert_allclose(scores[methods[1]], scores["identity"], atol=0.02)
    assert scores[methods[2]] > scores[methods[1]] + 0.01
    text = (tmp_path / "evaluation" / "registration.csv").read_text()
    assert "registration_unsupervised_instance,knee0,knee1" in text
    assert any("registration" in path.name for path in draw(tmp_path, evaluation, made_up_dataset(), "test"))


def test_without_the_option_nothing_is_refined(tmp_path, write_run, made_up_dataset):
    write_run(tmp_path, REGISTRATION)
    summary = evaluate(tmp_path, made_up_dataset()).summary
    assert set(summary) == {"identity", "registration_unsupervised"}


@pytest.mark.slow
def test_anatomies_that_the_segmentation_network_predicts_are_aligned_too(
    tmp_path, write_run, made_up_dataset, monkeypatch
):
    """With a segmentation that is right, a registration is better than one by the images alone."""
    write_run(tmp_path, SEGMENTATION, REGISTRATION)
    dataset = made_up_dataset()
    known = {
        s["image"].tobytes(): np.eye(len(CLASS_NAMES), dtype=np.float32)[s["label"]] for s in dataset.measured("test")
    }
    used = []

    def perfect(net):
        used.append(net.name)
        return lambda image: known[image.tobytes()]

    monkeypatch.setattr(predict, "segmenter", perfect)
    evaluation = evaluate(tmp_path, dataset, at=AtTestTime(instance_steps=60, anatomy=True))
    means = {
        name: tasks["registration"]["dice"]["mean"]
        for name, tasks in evaluation.summary.items()
        if name != SEGMENTATION.name
    }
    assert list(means) == ["identity", *(f"{REGISTRATION.name}{kind}" for kind in ("", "_instance", "_anatomy"))]
    assert used == ["segmentation"]
    assert means[f"{REGISTRATION.name}_anatomy"] > means[f"{REGISTRATION.name}_instance"] + 0.05


def test_an_anatomy_needs_steps_and_a_segmentation_network(tmp_path, write_run, made_up_dataset):
    write_run(tmp_path, REGISTRATION)
    with pytest.raises(SettingError, match="--anatomy is a part of the refinement for each pair: add --instance-steps"):
        evaluate(tmp_path, made_up_dataset(), at=AtTestTime(anatomy=True))
    with pytest.raises(SettingError, match="--anatomy needs a segmentation network, and .* has none that is finished"):
        evaluate(tmp_path, made_up_dataset(), at=AtTestTime(instance_steps=5, anatomy=True))


def test_where_nothing_can_be_compared_a_cross_validation_is_named(tmp_path, write_run, made_up_dataset):
    write_run(tmp_path, SEGMENTATION)
    dataset = made_up_dataset(train=2, test=0)
    dataset.alignment = "none"
    with pytest.raises(DataError, match="compare with; train --folds 2 tests each labelled scan once$"):
        evaluate(tmp_path, dataset)
    settings = (tmp_path / "experiment.json").read_text()
    (tmp_path / "experiment.json").write_text(settings.replace('"folds": 0', '"folds": 2'))
    with pytest.raises(DataError, match="has a label map to compare with$"):
        evaluate(tmp_path, dataset)


def test_a_run_without_a_registration_of_images_is_refused(tmp_path, write_run, made_up_dataset):
    write_run(tmp_path, SEGMENTATION)
    with pytest.raises(SettingError, match="--instance-steps: no finished stage of"):
        evaluate(tmp_path, made_up_dataset(), at=AtTestTime(instance_steps=5))
