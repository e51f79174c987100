"""The stage at the scans' own resolution: what it is appended to, what it is taught by, and a tiny training of it."""

import csv
import dataclasses
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

import deepatlas_tf
from deepatlas_tf import run
from deepatlas_tf.cli import main
from deepatlas_tf.datasets.copies import copy_in_use
from deepatlas_tf.keras_stack import tf
from deepatlas_tf.models.build import load_net
from deepatlas_tf.phantoms.knee import draw
from deepatlas_tf.runs.folder import RunFolder
from deepatlas_tf.runs.model import open_model
from deepatlas_tf.scans.components import classes_without_specks
from deepatlas_tf.scans.grid import GridTransform
from deepatlas_tf.streams.pseudo_masks import read_mask, with_teacher_labels
from deepatlas_tf.training.full_resolution import fine_label, with_full_resolution
from deepatlas_tf.training.loop import train_experiment
from deepatlas_tf.training.settings import settings_dict
from deepatlas_tf.training.unlabelled import without_pairs
from deepatlas_tf.types import DataError, SettingError

ON = ["data.full_resolution=True"]


@pytest.mark.parametrize(
    ("method", "teachers"),
    [
        ("deepatlas", {"registration": "deepatlas", "segmentation": "deepatlas"}),
        ("semi_deepatlas", {task: f"semi_deepatlas_{task}" for task in ("registration", "segmentation")}),
        ("mean_teacher", {}),
        ("segmentation", {}),
        ("voxelmorph", {}),
    ],
)
def test_it_follows_any_recipe(method, teachers):
    stages = run.make_experiment("brains", method, settings=ON).stages
    before = run.make_experiment("brains", method).stages
    assert stages[:-1] == before and stages[-1].name == "full_resolution"
    assert stages[-1].pseudo_from == teachers and stages[-1].labelled_fraction[0] == (0.5 if teachers else 1.0)
    changed = run.make_experiment(
        "brains", method, settings=[*ON, "stages.full_resolution.patches.shape=(96, 96, 96)"], tiny=True
    )
    assert changed.stages[-1].patches.shape == (96, 96, 96) and changed.stages[-1].steps == 8


def test_it_is_read_from_a_file_and_added_to_one(tmp_path):
    made = run.make_experiment("brains", settings=[*ON, "stages.full_resolution.patches.shape=(96, 96, 96)"])
    path = tmp_path / "experiment.json"
    path.write_text(json.dumps({"experiment": settings_dict(made)}))
    assert run.experiment_from(path) == run.experiment_from(path, settings=ON) == made
    path.write_text(json.dumps(settings_dict(run.make_experiment("brains"))))
    asked = [*ON, "stages.full_resolution.patches.shape=(96, 96, 96)"]
    assert run.experiment_from(path, settings=asked) == made


def test_two_domains_are_refused():
    with pytest.raises(SettingError, match="leave out data.domains"):
        run.make_experiment("nifti", settings=[*ON, "data.domains=('a', 'b')"])


def test_patches_are_of_single_scans():
    stage = run.make_experiment("brains", settings=ON).stages[-1]
    with pytest.raises(SettingError, match="voxelmorph draws pairs"):
        dataclasses.replace(stage, method="voxelmorph", weights={}, turns={}, learning_rates={}, settings={})


def test_without_pairs_it_learns_from_labels_alone():
    kept, left_out = without_pairs(run.make_experiment("brains", settings=ON))
    assert "deepatlas" in left_out and kept.stages[-1].name == "full_resolution"
    assert kept.stages[-1].pseudo_from == {} and kept.stages[-1].labelled_fraction == (1.0, None)


def test_a_command_without_the_scans_says_so(tmp_path):
    experiment = run.make_experiment("phantom_knee", settings=[*ON, "data.shape=(16, 16)", "data.spacing=(7.5, 7.5)"])
    dataset = run.load_data(experiment.data, data_dir=tmp_path)
    with pytest.raises(DataError, match="stage full_resolution needs the scans at their own resolution"):
        train_experiment(experiment, dataset, tmp_path / "work")


@pytest.mark.parametrize("n_axes", [2, 3])
def test_a_fine_label_map_of_coarse_probabilities(n_axes):
    """Against SciPy, at the places in mm where the voxels of both grids lie."""
    affine = np.diag([-1.2, 1.0, 1.5, 1.0][:n_axes] + [1.0])
    coarse = GridTransform(affine, (30, 33, 18)[:n_axes], (10, 9, 8)[:n_axes], (3.5,) * n_axes)
    fine = GridTransform(affine, (30, 33, 18)[:n_axes], (32, 40, 24)[:n_axes], (1.2, 1.0, 1.5)[:n_axes])
    mask = np.random.default_rng(0).dirichlet(np.full(3, 0.3), coarse.shape)
    mask = np.round(mask * 255).astype(np.uint8)
    found = fine_label(mask, coarse, fine, sure=0.6)
    between = np.linalg.inv(coarse.affine) @ fine.affine
    voxels = np.stack(np.meshgrid(*map(np.arange, fine.shape), indexing="ij"), axis=-1)
    places = np.moveaxis(voxels @ between[:-1, :-1].T + between[:-1, -1], -1, 0)
    shares = np.stack([map_coordinates(mask[..., c].astype(float), places, order=1, mode="nearest") for c in range(3)])
    ends = np.array(coarse.shape).reshape(-1, *[1] * n_axes) - 0.5
    outside = ((places <= -0.5) | (places >= ends)).any(axis=0)
    expected = np.where(outside | (shares.max(axis=0) < 0.6 * 255), 3, shares.argmax(axis=0))
    assert 0.05 < (expected == 3).mean() < 0.95 and set(np.unique(expected)) == {0, 1, 2, 3}
    doubtful = np.isclose(shares.max(axis=0), 0.6 * 255, atol=1e-3)  # or two equal ones
    doubtful |= np.diff(np.sort(shares, axis=0)[-2:], axis=0)[0] < 1e-3
    np.testing.assert_array_equal(found[~doubtful], expected[~doubtful])


def test_teacher_labels_are_for_those_without_a_label_map(tmp_path):
    label = np.random.default_rng(0).integers(0, 4, (4, 5)).astype(np.uint8)
    np.savez(tmp_path / "b.npz", label=label)
    samples = tf.data.Dataset.from_tensor_slices(
        {
            "label": np.ones((2, 4, 5), np.int32),
            "label_weight": np.array([[0, 1, 0], [0, 0, 0]], np.float32),
            "subject": ["a", "b"],
        }
    )
    own, taught = with_teacher_labels(samples, tmp_path, 3, ("a",)).as_numpy_iterator()
    assert np.all(own["label"] == 1) and own["label_weight"].tolist() == [0, 1, 0]
    np.testing.assert_array_equal(taught["label"], label)
    assert taught["label_weight"].tolist() == [1, 1, 1]
    np.savez(tmp_path / "b.npz", label=label[:2])
    with pytest.raises(tf.errors.OpError, match="has the shape"):
        list(with_teacher_labels(samples, tmp_path, 3, ("a",)))


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """The list of eight phantom knees on a scanner's grid of 4 mm, of which one training subject has no label map."""
    folder = tmp_path_factory.mktemp("knees")
    rows, affine = [["subject", "image", "label", "split"]], np.diag([-4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = 50, -60, -70
    for k, split in enumerate(["train"] * 3 + ["validation", "test"]):
        phantom = draw(k, (24, 24, 32), (4.0, 4.0, 4.0), "t1")
        nib.save(nib.Nifti1Image((1000 * phantom.image).astype(np.int16), affine), folder / f"k{k}.nii.gz")
        nib.save(nib.Nifti1Image(phantom.label.astype(np.uint8), affine), folder / f"k{k}_label.nii.gz")
        rows.append([f"k{k}", f"k{k}.nii.gz", "" if k == 2 else f"k{k}_label.nii.gz", split])
    with open(folder / "scans.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder / "scans.csv"


@pytest.mark.long
def test_a_tiny_training(scans, tmp_path, capsys):
    """Both baselines teach. A run that was killed before it wrote its networks is finished from its checkpoints."""
    grid = ["data.shape=(8, 8, 16)", "data.spacing=(12, 12, 8)"]
    experiment = run.make_experiment("nifti", settings=grid, tiny=True)
    baselines = dataclasses.replace(experiment, stages=experiment.stages[:2])
    experiment = with_full_resolution(baselines, experiment.stages[0])
    stage = dataclasses.replace(experiment.stages[-1], pseudo_gate=0.3)  # for networks that have learned nothing
    experiment = dataclasses.replace(experiment, stages=(*baselines.stages, stage))
    work, folder = tmp_path / "work", RunFolder(tmp_path / "work").stage("full_resolution")
    dataset = run.load_data(experiment.data, work, scans)
    fine = run.load_fine(dataset, work, data_dir=scans)
    train_experiment(experiment, dataset, work, fine=fine)
    trained = load_net(folder.net("segmentation")).get_weights()
    shutil.rmtree(folder.nets)
    assert open_model(work).full_resolution() is None  # the other stages can be used meanwhile
    run.train(experiment, work, data_dir=scans)
    for before, after in zip(trained, load_net(folder.net("segmentation")).get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)

    printed = capsys.readouterr().out
    assert "scans of 24 x 24 x 32 voxels of 4 x 4 x 4 mm, in patches of 8 x 8 x 16; 3 of 3 training" in printed
    assert "scans without a label map: 1, of which" in printed and "on the scans' own grids" in printed
    assert copy_in_use(folder.path / "data") == Path(fine.builder.data_dir)
    labels = [np.asarray(nib.load(scans.with_name(f"k{k}_label.nii.gz")).dataobj) for k in (0, 1)]
    specks = list(classes_without_specks(labels))
    assert specks and folder.grid() == {"shape": [8, 8, 16], "spacing": [4.0, 4.0, 4.0], "without_specks": specks}
    assert read_mask(folder.teacher_labels, "k2", "label").shape == (24, 24, 32)
    assert [set(row) >= {"segmentation/loss", "val_segmentation_dice"} for row in folder.metrics()] == [True, True]
    check_the_measured_label_maps(work, scans.parent / "k4.nii.gz")
    check_its_export(work, scans.parent / "k4.nii.gz", tmp_path)


def check_the_measured_label_maps(work, scan):
    """What is measured is the label map that a user gets, on the scanner's grid."""
    model = deepatlas_tf.Run(work)
    label = nib.load(scan.with_name("k4_label.nii.gz"))
    reference = np.asarray(label.dataobj)
    rows = RunFolder(work).table("segmentation_own_grid")
    assert {row["method"] for row in rows} == {"segmentation_baseline", "full_resolution"}
    for stage in (None, "segmentation_baseline"):
        found = model.segment(scan, stage=stage)
        assert found.shape == label.shape and np.array_equal(found.affine, label.affine)
        prediction = np.asarray(found.dataobj)
        own = [row for row in rows if row["method"] == (stage or "full_resolution") and row["dice"] is not None]
        for row in own:
            number = model.class_names.index(row["class"])
            both = np.sum((prediction == number) & (reference == number))
            sizes = np.sum(prediction == number) + np.sum(reference == number)
            assert row["dice"] == pytest.approx(2 * both / sizes, abs=1e-5)


def check_its_export(work, scan, folder):
    assert main(["export", str(work), "-o", str(folder / "out"), "--stage", "full_resolution", "-q"]) == 0
    about = open_model(folder / "out").about
    assert about["shape"] == [8, 8, 16] and about["spacing"] == [4.0] * 3 and about["stages"]["registration"] is None
    assert about["without_specks"] == RunFolder(work).stage("full_resolution").grid()["without_specks"]
    found = [deepatlas_tf.Run(path).segment(scan) for path in (work, folder / "out")]
    np.testing.assert_array_equal(*(np.asarray(image.dataobj) for image in found))
