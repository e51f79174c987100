"""``deepatlas export``: the SavedModel alone, and what lies beside it."""

import json
import shutil
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest

from deepatlas_tf.cli import main
from deepatlas_tf.keras_stack import tf
from deepatlas_tf.ops.warp import warp
from deepatlas_tf.runs.model import TrainedModel, open_model
from deepatlas_tf.scans.intensity import rescale

pytestmark = pytest.mark.long  # an export takes ten seconds
RELOAD = """
import sys
import numpy as np
import tensorflow as tf

folder, inputs, outputs = sys.argv[1:]
signatures, given, found = tf.saved_model.load(folder).signatures, np.load(inputs), {}
for name, keys in (("segment", ["image"]), ("register", ["moving", "fixed"])):
    for key, value in signatures[name](**{key: tf.constant(given[key]) for key in keys}).items():
        found[f"{name}_{key}"] = value.numpy()
assert sorted(signatures["serving_default"].structured_outputs) == ["labels", "probabilities"]
assert not {"deepatlas_tf", "voxelmorph", "neurite"} & set(sys.modules)
np.savez(outputs, **found)
"""


def test_it_gives_the_same_numbers_without_the_package(exported, run_folder, tmp_path):
    """Two images of another size than in training, with intensities of their own, in a process of its own."""
    rng = np.random.default_rng(1)
    given = {name: rng.gamma(2, 300, (2, 19, 26, 23, 1)).astype(np.float32) for name in ("image", "moving", "fixed")}
    np.savez(tmp_path / "in.npz", **given)
    call = [sys.executable, "-c", RELOAD, exported / "1", tmp_path / "in.npz", tmp_path / "out.npz"]
    result = subprocess.run(call, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    found, run = np.load(tmp_path / "out.npz"), TrainedModel(run_folder)
    scaled = {name: np.stack([rescale(image) for image in images]) for name, images in given.items()}
    probabilities = _compiled(run.net("segmentation"), scaled["image"])
    u = _compiled(run.net("registration"), scaled["moving"], scaled["fixed"])
    np.testing.assert_allclose(found["segment_probabilities"], probabilities, atol=1e-5)
    np.testing.assert_array_equal(found["segment_labels"], found["segment_probabilities"].argmax(axis=-1))
    assert np.abs(u).max() > 0.5
    np.testing.assert_allclose(found["register_displacement"], u, atol=1e-5)
    warped = warp(given["moving"], found["register_displacement"]).numpy()
    np.testing.assert_allclose(found["register_warped"], warped, rtol=1e-5, atol=1e-3)


def _compiled(net, *images):
    """The network's result; as in the export, the number of images is left open."""
    specs = [tf.TensorSpec((None, None, None, None, 1)) for _ in images]
    function = tf.function(lambda *x: net(x[0] if len(x) == 1 else list(x), training=False), input_signature=specs)
    return function(*map(tf.constant, images)).numpy()


def test_commands_take_it_as_they_take_the_run(exported, run_folder, scans, tmp_path, capsys):
    for name, model in (("run", run_folder), ("exported", exported)):
        assert main(["segment", str(scans["oblique"]), "--model", str(model), "-o", str(tmp_path / name)]) == 0
    one, two = (np.asarray(nib.load(tmp_path / name / "oblique.nii.gz").dataobj) for name in ("run", "exported"))
    assert (one != two).mean() < 1e-3
    assert open_model(exported / "1").path == open_model(exported).path == exported / "1"
    pair = [str(scans["flipped"]), str(scans["permuted"])]
    for name, model in (("run", run_folder), ("exported", exported)):
        assert main(["register", *pair, "--model", str(model), "-o", str(tmp_path / name), "-q"]) == 0
    field = "displacement_field.nii.gz"
    one, two = (np.asarray(nib.load(tmp_path / name / field).dataobj) for name in ("run", "exported"))
    np.testing.assert_allclose(one, two, atol=1e-3)
    for option in (["--stage", "deepatlas"], ["--instance-steps", "2"]):
        call = ["register", *pair, "--model", str(exported), "-o", str(tmp_path / "x"), *option]
        assert main(call) == 2
        assert "needs the folder of" in capsys.readouterr().err


def test_what_lies_beside_it(exported):
    about = json.loads((exported / "1" / "assets" / "metadata.json").read_text())
    expected = {
        "class_names": ["background", "femur", "tibia"],
        "shape": [24, 24, 24],
        "spacing": [2.0, 2.5, 2.0],
        "orientation": "RAS",
        "dataset": "phantom_knee",
        "synthetic": True,
        "training_labels": 3,
        "labels_used": "3",
        "trial": False,
        "model_version": 1,
    }
    assert expected.items() <= about.items()
    assert about["measured"]["segmentation"]["dice"]["per_class"]["femur"] == 0.7
    assert "| femur | 0.700 | 0.700 |" in (exported / "1" / "MODEL_CARD.md").read_text()
    assert {p.name for p in exported.iterdir()} == {"1"}  # nothing temporary is left
    graph = (exported / "1" / "saved_model.pb").read_bytes()
    assert b"XlaMustCompile\x12\x02(\x01" not in graph  # not every server has XLA


def test_label_maps_of_an_export_have_the_numbers_of_the_training_files(run_folder, exported, scans, tmp_path):
    """The export of a run that recorded them; one of an earlier version gives 1, 2, ..."""
    run = tmp_path / "run"
    shutil.copytree(run_folder, run)
    about = json.loads((run / "model.json").read_text())
    (run / "model.json").write_text(json.dumps({**about, "class_numbers": [0, 17, 4]}))
    assert main(["export", str(run), "-o", str(tmp_path / "exported"), "-q"]) == 0
    found = {}
    for model in (exported, tmp_path / "exported"):
        out = tmp_path / f"of_{model.parent.name}"
        assert main(["segment", str(scans["training"]), "--model", str(model), "-o", str(out), "-q"]) == 0
        found[model] = np.asarray(nib.load(out / "training.nii.gz").dataobj)
    before, now = found.values()
    np.testing.assert_array_equal(now, np.select([before == 1, before == 2], [17, 4]))
    assert len(np.unique(before)) == 3 and "17 femur, 4 tibia" in (tmp_path / "exported/1/MODEL_CARD.md").read_text()


def test_a_run_with_one_network_and_versions(exported_registration, tmp_path, capsys):
    run, out = exported_registration.parent / "run", exported_registration
    assert {p.name for p in out.iterdir()} == {"1", "2"}
    signatures = tf.saved_model.load(str(out / "2")).signatures
    assert set(signatures) == {"register", "register_rescaled", "serving_default"}
    assert sorted(signatures["serving_default"].structured_outputs) == ["displacement", "warped"]
    before = (out / "2" / "assets" / "metadata.json").stat().st_mtime_ns
    for options, status, hint in (
        (["--version", "2"], 1, "pass --overwrite"),
        (["--version", "0"], 2, "from 1"),
        (["--stage", "x"], 2, "there are: registration"),
    ):
        assert main(["export", str(run), "-o", str(out), *options]) == status
        assert hint in capsys.readouterr().err
    assert (out / "2" / "assets" / "metadata.json").stat().st_mtime_ns == before
    assert main(["export", str(out / "2"), "-o", str(tmp_path / "again")]) == 1
    assert "already an exported model" in capsys.readouterr().err
    scan = tmp_path / "scan.nii"
    scan.touch()
    assert main(["segment", str(scan), "--model", str(out), "-o", str(tmp_path / "x")]) == 1
    assert "exported without a network to segment" in capsys.readouterr().err
