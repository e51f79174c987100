"""The package from Python: what it gives is what the commands write."""

import json

import nibabel as nib
import numpy as np
import pytest

import deepatlas_tf as da
from deepatlas_tf.cli import main
from deepatlas_tf.keras_stack import keras
from deepatlas_tf.models.segmentation.light import light_unet
from deepatlas_tf.types import DataError


def values(image):
    return np.asarray((nib.load(image) if not hasattr(image, "dataobj") else image).dataobj)


@pytest.fixture
def in_memory(scans):
    """The scan of a file as a nibabel image that no file knows."""

    def load(name):
        image = nib.load(scans[name])
        return nib.Nifti1Image(values(scans[name]), image.affine)

    return load


@pytest.mark.slow
def test_a_label_map_is_that_of_the_command(run_folder, scans, in_memory, tmp_path):
    assert main(["segment", str(scans["oblique"]), "--model", str(run_folder), "-o", str(tmp_path / "out"), "-q"]) == 0
    written = nib.load(tmp_path / "out" / scans["oblique"].name)
    run = da.Run(run_folder)
    assert run.class_names == ("background", "femur", "tibia")
    for scan in (scans["oblique"], str(scans["oblique"]), in_memory("oblique")):
        found = run.segment(scan)
        np.testing.assert_array_equal(values(found), values(written))
        np.testing.assert_allclose(found.affine, written.affine, atol=1e-5)
        assert found.get_data_dtype() == written.get_data_dtype()


@pytest.mark.slow
def test_a_registration_is_that_of_the_command(run_folder, scans, in_memory, tmp_path):
    moving, fixed, out = str(scans["flipped"]), str(scans["permuted"]), tmp_path / "out"
    assert main(["register", moving, fixed, "--model", str(run_folder), "-o", str(out), "-q"]) == 0
    warped, field = da.Run(run_folder).register(moving, in_memory("permuted"))
    for found, name in ((warped, "warped.nii.gz"), (field, "displacement_field.nii.gz")):
        written = nib.load(out / name)
        np.testing.assert_allclose(values(found), values(written), atol=1e-3)
        np.testing.assert_allclose(found.affine, written.affine, atol=1e-5)
        assert found.shape == written.shape and found.header["intent_code"] == written.header["intent_code"]


@pytest.mark.long
def test_an_exported_model_is_opened_likewise(exported, scans, run_folder):
    one, other = (da.Run(path).segment(scans["training"]) for path in (exported, run_folder))
    # two programs round differently where two classes are as likely
    assert np.mean(values(one) != values(other)) < 1e-3 < np.mean(values(one) > 0)


@pytest.mark.slow
def test_networks_are_loaded_once(run_folder, scans, monkeypatch):
    run, loaded = da.Run(run_folder), []
    load = run.model.net
    monkeypatch.setattr(run.model, "net", lambda *args: loaded.append(args) or load(*args))
    for _ in range(2):
        run.segment(scans["training"])
    assert len(loaded) == 1


@pytest.mark.slow
def test_a_slice_keeps_its_place(tmp_path):
    """Of a model of slices: one in the middle of a volume, from a file and from memory, as the command writes it."""
    keras.utils.set_random_seed(0)
    model = {"class_names": ["background", "bone"], "shape": [16, 16], "spacing": [2.0, 2.0], "dataset": "made up"}
    stage = {"name": "only", "method": "segmentation", "turns": {"segmentation": 1}, "weights": {}, "steps": 80}
    settings = {"data": {"dataset": "made up"}, "stages": [{**stage, "epochs": 1}]}
    for name, content in (("experiment.json", {"experiment": settings}), ("model.json", model)):
        (tmp_path / name).write_text(json.dumps(content))
    (tmp_path / "only" / "nets").mkdir(parents=True)
    light_unet((16, 16), 2, (4, 4)).save(tmp_path / "only" / "nets" / "segmentation.keras")
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    affine[:3, 3] = 5, -7, 41
    noise = np.random.default_rng(0).normal(100, 9, (20, 18, 1)).astype(np.float32)
    path = tmp_path / "slice.nii.gz"
    nib.save(nib.Nifti1Image(noise, affine), path)
    assert main(["segment", str(path), "--model", str(tmp_path), "-o", str(tmp_path / "out"), "-q"]) == 0
    written, run = nib.load(tmp_path / "out" / path.name), da.Run(tmp_path)
    for scan in (path, nib.Nifti1Image(noise, affine)):
        found = run.segment(scan)
        np.testing.assert_allclose(found.affine, written.affine, atol=1e-5)
        np.testing.assert_allclose(found.affine, affine, atol=1e-5)
        np.testing.assert_array_equal(values(found), values(written))
    with pytest.raises(DataError, match="is a model of slices: deepatlas register takes volumes"):
        run.register(path, path)


def test_bad_images_are_named(run_folder, tmp_path):
    run = da.Run(run_folder)
    with pytest.raises(DataError, match="constant"):
        run.segment(nib.Nifti1Image(np.zeros((20, 20, 20), np.float32), np.eye(4)))
    with pytest.raises(DataError, match="one slice"):
        run.register(*[nib.Nifti1Image(np.random.default_rng(0).normal(9, 1, (20, 20, 1)), np.eye(4))] * 2)
    with pytest.raises(DataError, match="nowhere.nii"):
        run.segment(tmp_path / "nowhere.nii")
    with pytest.raises(DataError, match="neither the folder of a run"):
        da.Run(tmp_path)


def test_an_option_that_train_has_not_is_refused_by_its_near_ones():
    with pytest.raises(TypeError, match="^train has no option 'stepscale'; near: steps_scale$"):
        da.train("scans.csv", stepscale=0.5)
    with pytest.raises(TypeError, match="near: scans, labels, .*, init_from$"):
        da.train("scans.csv", xyz=3)


@pytest.mark.long
def test_training_and_going_on(tmp_path, capsys):
    """Synthetic slices, in the tiny form; the second call finds everything trained."""
    call = {"dataset": "phantom_knee", "method": "segmentation", "tiny": True, "workdir": tmp_path / "run"}
    settings = ["data.shape=(16,16)", "data.spacing=(7.5,7.5)"]
    run = da.train(labels=2, settings=settings, **call)
    noise = np.random.default_rng(0).normal(100, 9, (20, 20, 1)).astype(np.float32)
    image = nib.Nifti1Image(noise, np.diag([7, 7, 7, 1]))
    label = run.segment(image)
    assert label.shape == image.shape and set(np.unique(values(label))) <= set(range(len(run.class_names)))
    assert da.train(labels=2, settings=settings, **call).path == tmp_path / "run"
    assert "already trained" in capsys.readouterr().out
