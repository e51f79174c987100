"""The evaluation with atlases: a row more for each segmentation, on synthetic knees in 2D."""

import dataclasses

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

import deepatlas_tf.runs.atlases
from deepatlas_tf import run
from deepatlas_tf.cli import main
from deepatlas_tf.evaluation.evaluate import evaluate
from deepatlas_tf.metrics.overlap import dice
from deepatlas_tf.models.build import load_net
from deepatlas_tf.phantoms.knee import CLASS_NAMES
from deepatlas_tf.runs.atlases import Atlas, remembering, with_templates
from deepatlas_tf.runs.files import write_json
from deepatlas_tf.runs.folder import RunFolder, net_path
from deepatlas_tf.runs.predict import AtTestTime, load_task_net, registration_beside, segmentation_beside, segmenter
from deepatlas_tf.training.experiment import Stage
from deepatlas_tf.types import DataError, SettingError

WEIGHTS = {"registration": {"similarity": 1.0, "smoothness": 0.1}}
SEGMENTATION = Stage("segmentation_baseline", "segmentation", steps=1)
JOINT = Stage("deepatlas", "deepatlas", steps=1, weights={**WEIGHTS, "segmentation": {"supervised": 1.0}})
REGISTRATION = Stage("last", "voxelmorph", steps=1, weights=WEIGHTS)
LABEL_MAPS = dataclasses.replace(REGISTRATION, name="of_labels", weights={"registration": {"anatomy": 1.0}})
SHIFTS = {JOINT.name: (2.0, -1.0), REGISTRATION.name: (-1.5, 0.5)}  # voxels, of the registrations
USED = ("knee0", "knee1", "knee2")


@pytest.fixture
def dataset(made_up_dataset):
    return made_up_dataset(train=4, test=2)


@pytest.fixture
def finished(write_run, tmp_path):
    """finished(*stages): the folder of a run whose registrations shift by ``SHIFTS``, which used three label maps."""

    def make(*stages, used=USED):
        write_run(tmp_path, *stages)
        for name, shift in SHIFTS.items():
            path = net_path(tmp_path, name, "registration")
            if path.exists():
                net = load_net(path)
                flow = net.get_layer("flow")
                flow.set_weights([flow.get_weights()[0], np.array(shift, np.float32)])
                net.save(path)
        subjects = {"train": dict.fromkeys([*USED, "knee3"], "0"), "validation": {}, "test": {}}
        grid = {"class_names": list(CLASS_NAMES), "shape": [32, 32], "spacing": [4.0, 4.0]}
        write_json(tmp_path / "data.json", {**grid, "subjects": subjects, "used_labels": list(used)})
        return tmp_path

    return make


def fused_dice(sample, atlases, segment, register):
    """The Dice of each class, by hand."""
    votes = []
    for atlas in atlases:
        u, anatomy = register(atlas["image"], sample["image"]), np.eye(len(CLASS_NAMES))[atlas["label"]]
        places = np.stack(np.meshgrid(*map(np.arange, u.shape[:-1]), indexing="ij")) + np.moveaxis(u, -1, 0)
        moved = [map_coordinates(a, places, order=1, mode="nearest") for a in np.moveaxis(anatomy, -1, 0)]
        votes.append(np.stack(moved, axis=-1))
    both = segment(sample["image"]) + (np.mean(votes, axis=0) if votes else 0)
    return dice(both.argmax(axis=-1), sample["label"], len(CLASS_NAMES))


@pytest.mark.long
@pytest.mark.parametrize(("split", "steps"), [("test", 0), ("train", 0), ("test", 2)])
def test_each_segmentation_is_measured_with_atlases_too(split, steps, finished, dataset):
    """By the stage's own registration, or the last one; in training no subject is its own atlas."""
    folder = finished(SEGMENTATION, JOINT, REGISTRATION)
    evaluation = evaluate(folder, dataset, split, at=AtTestTime(instance_steps=steps, atlases=2))
    used = list(dataset.measured("train"))[:2]
    for name, beside in ((SEGMENTATION.name, REGISTRATION.name), (JOINT.name, JOINT.name)):
        register = evaluation.predictors.registrars[f"{beside}_instance" if steps else beside]
        segment = segmenter(load_task_net(RunFolder(folder), name, "segmentation"))
        for sample in dataset.measured(split):
            atlases = [atlas for atlas in used if atlas["subject"] != sample["subject"]]
            case = (f"{name}_atlases", sample["subject"].decode())
            rows = [row for row in evaluation.segmentation_rows if (row["method"], row["subject"]) == case]
            expected = fused_dice(sample, atlases, segment, register)
            np.testing.assert_allclose([row["dice"] for row in rows], expected, atol=0.02, equal_nan=True)
    tasks = {name: found["segmentation"] for name, found in evaluation.summary.items() if "segmentation" in found}
    means = {name: measures["dice"]["mean"] for name, measures in tasks.items()}
    assert list(means) == [f"{name}{kind}" for name in (SEGMENTATION.name, JOINT.name) for kind in ("", "_atlases")]
    assert means[f"{JOINT.name}_atlases"] > means[JOINT.name] + 0.1
    assert f"{JOINT.name}_atlases,knee" in (folder / "evaluation" / "segmentation.csv").read_text()


@pytest.mark.slow
def test_the_only_atlas_is_segmented_by_the_network_alone(finished, dataset):
    rows = evaluate(finished(JOINT), dataset, "train", at=AtTestTime(atlases=1)).segmentation_rows
    found = {}
    for row in rows:
        found.setdefault((row["subject"], row["method"]), []).append(row["dice"])
    same = {
        subject: np.array_equal(scores, found[subject, f"{JOINT.name}_atlases"], equal_nan=True)
        for (subject, method), scores in found.items()
        if method == JOINT.name
    }
    assert same == {"knee0": True, "knee1": False, "knee2": False, "knee3": False}


@pytest.mark.slow
def test_the_command_measures_and_draws_with_atlases(finished, dataset, monkeypatch, capsys):
    monkeypatch.setattr(run, "dataset_of_run", lambda *args: dataset)
    folder = finished(JOINT)
    assert main(["evaluate", str(folder), "--atlases", "1"]) == 0
    printed = capsys.readouterr().out
    assert f"\n{JOINT.name}_atlases  " in printed and str(folder / "figures" / "segmentation.png") in printed
    assert main(["evaluate", str(folder), "--atlases", "-1"]) == 2
    assert capsys.readouterr().err == "error: --atlases takes a number of scans, not -1\n"


@pytest.mark.slow
def test_the_registration_beside_a_segmentation(finished):
    folder = RunFolder(finished(SEGMENTATION, JOINT, REGISTRATION, LABEL_MAPS))
    assert registration_beside(folder, JOINT.name) == JOINT.name
    for stage in (SEGMENTATION, LABEL_MAPS):  # one that registers label maps has nothing to go by at test time
        assert registration_beside(folder, stage.name) == REGISTRATION.name


@pytest.mark.slow
def test_without_the_option_there_are_no_atlases(finished, dataset):
    summary = evaluate(finished(JOINT), dataset).summary
    assert set(summary) == {"identity", JOINT.name}


@pytest.mark.parametrize(
    ("stages", "n", "error", "message"),
    [
        ((JOINT,), -1, SettingError, "--atlases takes a number of scans, not -1"),
        ((JOINT,), 4, SettingError, "--atlases 4: .* was trained with 3 label maps only"),
        ((SEGMENTATION,), 1, SettingError, "--atlases: no finished stage of .* has learned to register images"),
        ((SEGMENTATION, LABEL_MAPS), 1, SettingError, "--atlases: no finished stage of .* to register images"),
        ((REGISTRATION,), 1, SettingError, "--atlases: no finished stage of .* has learned to segment"),
    ],
)
def test_what_cannot_be_measured_is_refused(stages, n, error, message, finished, dataset):
    with pytest.raises(error, match=message) as caught:
        evaluate(finished(*stages), dataset, at=AtTestTime(atlases=n))
    assert "\n" not in str(caught.value)


def test_atlases_are_the_label_maps_of_training(finished, dataset):
    folder = finished(JOINT, used=["knee9"])
    with pytest.raises(DataError, match="knee9 is no training subject any more: give the splits of training"):
        evaluate(folder, dataset, at=AtTestTime(atlases=1))
    (folder / "data.json").unlink()
    with pytest.raises(DataError, match="has no data.json: run its training command again, which adds it"):
        evaluate(folder, dataset, at=AtTestTime(atlases=1))


@pytest.mark.parametrize("kind", ["atlases", "templates"])
def test_several_domains_are_refused(kind, finished, dataset):
    dataset.domains["knee0"] = "t2"
    with pytest.raises(SettingError, match=f"--{kind} takes scans of one domain, and phantom_knee has several"):
        evaluate(finished(JOINT), dataset, at=AtTestTime(**{kind: 1}))


@pytest.mark.slow
@pytest.mark.parametrize("n_atlases", [0, 1])
def test_each_segmentation_is_measured_with_templates_too(n_atlases, finished, dataset):
    """Those are training subjects whose label map was not used, in their order."""
    folder = finished(JOINT, used=USED[:2])
    evaluation = evaluate(folder, dataset, at=AtTestTime(atlases=n_atlases, templates=2))
    train = list(dataset.measured("train"))
    register = evaluation.predictors.registrars[JOINT.name]
    segment = segmenter(load_task_net(RunFolder(folder), JOINT.name, "segmentation"))
    atlases = [Atlas.of_sample(sample) for sample in train[:n_atlases]]
    expected = with_templates(segment, register, atlases, [sample["image"] for sample in train[2:]])
    for sample in dataset.measured("test"):
        scores = dice(expected(sample["image"]).argmax(axis=-1), sample["label"], len(CLASS_NAMES))
        case = (f"{JOINT.name}_templates", sample["subject"].decode())
        rows = [row for row in evaluation.segmentation_rows if (row["method"], row["subject"]) == case]
        np.testing.assert_allclose([row["dice"] for row in rows], scores, equal_nan=True)
    kinds = ("", *["_atlases"] * n_atlases, "_templates")
    assert [name for name in evaluation.summary if name != "identity"] == [f"{JOINT.name}{kind}" for kind in kinds]


@pytest.mark.parametrize(
    ("n", "message"),
    [
        (-1, "--templates takes a number of scans, not -1"),
        (2, "--templates 2: .* with 1 scans without a label map only"),
    ],
)
def test_as_many_templates_as_there_are(n, message, finished, dataset):
    with pytest.raises(SettingError, match=message):
        evaluate(finished(JOINT), dataset, at=AtTestTime(templates=n))


@pytest.mark.long
def test_registrations_are_refined_by_what_is_voted_for(finished, dataset, monkeypatch):
    """Atlases that know the anatomy of each scan correct a segmentation network that has learned nothing."""
    folder = finished(SEGMENTATION, REGISTRATION)
    known = {
        sample["image"].tobytes(): np.eye(len(CLASS_NAMES), dtype=np.float32)[sample["label"]]
        for sample in dataset.measured("test")
    }
    asked = []

    def perfect(segment, register, atlases, images):
        def vote(image):
            asked.append(image.tobytes())
            return known[image.tobytes()]

        return vote

    monkeypatch.setattr(deepatlas_tf.runs.atlases, "with_templates", perfect)
    at = AtTestTime(instance_steps=60, anatomy=True, atlases=1, templates=1)
    summary = evaluate(folder, dataset, at=at).summary
    means = {name: found["registration"]["dice"]["mean"] for name, found in summary.items() if "registration" in found}
    kinds = ("", "_instance", "_anatomy", "_anatomy_atlases", "_anatomy_templates")
    assert list(means) == ["identity", *(f"{REGISTRATION.name}{kind}" for kind in kinds)]
    assert means[f"{REGISTRATION.name}_anatomy_atlases"] > means[f"{REGISTRATION.name}_anatomy"] + 0.05
    assert means[f"{REGISTRATION.name}_anatomy_templates"] == means[f"{REGISTRATION.name}_anatomy_atlases"]
    assert len(asked) == 2 * len(known)  # each scan once by atlases and once by templates, whatever pairs it is in


def test_the_last_segmentations_are_remembered():
    asked = []
    segment = remembering(lambda image: asked.append(image) or 2 * image, n=2)
    for value in (1, 1, 2, 1, 3, 1):
        np.testing.assert_array_equal(segment(np.full((2, 2, 1), value)), np.full((2, 2, 1), 2 * value))
    assert [image.max() for image in asked] == [1, 2, 3, 1]


@pytest.mark.slow
def test_the_segmentation_beside_a_registration(finished):
    """A stage that only took its segmentation network over is guided by the stage that trained it, which has votes."""
    taken_over = dataclasses.replace(
        JOINT,
        name="semi_deepatlas",
        turns={"registration": 1, "segmentation": 0},
        start_from={"segmentation": SEGMENTATION.name},
    )
    folder = RunFolder(finished(SEGMENTATION, taken_over, JOINT, REGISTRATION))
    assert segmentation_beside(folder, taken_over.name) == SEGMENTATION.name
    assert segmentation_beside(folder, JOINT.name) == JOINT.name
    assert segmentation_beside(folder, REGISTRATION.name) == JOINT.name
