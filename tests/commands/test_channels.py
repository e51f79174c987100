"""Runs and exports whose scans have two channels, from the command line and from Python."""

import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from deepatlas_tf.apply.fields import warp_volume
from deepatlas_tf.apply.register import register_scans
from deepatlas_tf.cli import main
from deepatlas_tf.keras_stack import keras
from deepatlas_tf.runs.model import open_model
from deepatlas_tf.scans.channels import read_channels
from deepatlas_tf.scans.intensity import rescale
from deepatlas_tf.trained import Run
from deepatlas_tf.types import DataError

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
from scan_grid import read_channels as read_for_serving  # noqa: E402
from scan_grid import to_batch, to_model_grid  # noqa: E402

pytestmark = pytest.mark.long  # networks are saved, loaded and exported
SHAPE, SPACING = (24, 24, 24), (2.0, 2.5, 2.0)


@pytest.fixture
def numbered(tmp_path, write_nifti):
    """The folder of the scans a and b, of two channels each, on the grid of the networks."""
    for seed, name in enumerate(("a_0000", "a_0001", "b_0000", "b_0001")):
        volume = np.random.default_rng(seed).gamma(3, 10.0 ** (seed % 2), SHAPE).astype(np.float32)
        write_nifti(tmp_path / "scans" / f"{name}.nii.gz", volume, np.diag([*SPACING, 1.0]))
    return tmp_path / "scans"


def images(folder, name):
    return [nib.load(folder / f"{name}_000{k}.nii.gz") for k in range(2)]


def expected_labels(run, folder, name):
    net = keras.models.load_model(run / "deepatlas" / "nets" / "segmentation.keras", compile=False)
    channels = [rescale(np.asarray(image.dataobj)) for image in images(folder, name)]
    return np.asarray(net(np.stack(channels, axis=-1)[None])).argmax(-1)[0]


def test_segment(two_channel_run, numbered, tmp_path, capsys):
    assert main(["segment", str(numbered), "--model", str(two_channel_run), "-o", str(tmp_path / "out"), "-q"]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *("a.nii.gz", "b.nii.gz", "labels.csv", "volumes.csv"),
    ]
    run = Run(two_channel_run)
    assert run.channel_names == ("t1", "t2")
    for name in "ab":
        expected = expected_labels(two_channel_run, numbered, name)
        paths = [numbered / f"{name}_000{k}.nii.gz" for k in range(2)]
        given = (paths, paths[0], images(numbered, name), [str(paths[0]), nib.load(paths[1])])
        for found in (nib.load(tmp_path / "out" / f"{name}.nii.gz"), *map(run.segment, given)):
            np.testing.assert_array_equal(np.asarray(found.dataobj), expected)
    swapped = run.segment(images(numbered, "a")[::-1])
    assert (np.asarray(swapped.dataobj) != expected_labels(two_channel_run, numbered, "a")).any()
    command = ["segment", str(numbered / "a_0000.nii.gz"), "--model", str(two_channel_run), "-o", str(tmp_path / "no")]
    (numbered / "a_0001.nii.gz").unlink()
    assert main(command) == 1 and "channel t2 is missing: there is no a_0001.nii.gz" in capsys.readouterr().err
    for scan in (images(numbered, "b")[0], images(numbered, "b") * 2, []):
        with pytest.raises(DataError, match=r"the model takes 2 channels \(t1, t2\)"):
            run.segment(scan)
    assert not (tmp_path / "no").exists()


def test_register(two_channel_run, numbered, tmp_path):
    a, b = (",".join(str(numbered / f"{name}_000{k}.nii.gz") for k in range(2)) for name in "ab")
    out = tmp_path / "out"
    assert main(["register", a, b, "--model", str(two_channel_run), "-o", str(out), "-q"]) == 0
    opened = open_model(two_channel_run)
    moving, fixed = (read_channels([Path(p) for p in text.split(",")], ("t1", "t2"), "s") for text in (a, b))
    field = register_scans(opened.registrar(), opened.grid, moving, fixed).field
    run = Run(two_channel_run).register(images(numbered, "a"), numbered / "b_0000.nii.gz")
    assert run.warped.shape == (*SHAPE, 2)
    for k, volume in enumerate(moving.channels):
        expected = warp_volume(volume, moving.affine, field)
        np.testing.assert_allclose(nib.load(out / f"warped_t{k + 1}.nii.gz").get_fdata(), expected, rtol=1e-5)
        np.testing.assert_allclose(run.warped.get_fdata()[..., k], expected, rtol=1e-5)
    assert not (out / "warped.nii.gz").exists()
    alone = [m._replace(others=(m.volume,)) for m in (moving, fixed)]
    other = register_scans(opened.registrar(), opened.grid, *alone).field
    assert np.abs(other.vectors - field.vectors).max() > 0.1  # the second channel is looked at


def test_export(two_channel_run, numbered, tmp_path):
    assert main(["export", str(two_channel_run), "-o", str(tmp_path / "served"), "-q"]) == 0
    about = json.loads((tmp_path / "served" / "1" / "assets" / "metadata.json").read_text())
    assert about["channel_names"] == ["t1", "t2"]
    card = (tmp_path / "served" / "1" / "MODEL_CARD.md").read_text()
    assert "2 channels on the last axis, t1, t2 in this order" in card
    exported = open_model(tmp_path / "served")
    raw = np.stack([np.asarray(image.dataobj) for image in images(numbered, "a")], axis=-1)[None]
    labels = exported.signatures["segment"](image=raw)["labels"].numpy()[0]
    assert np.mean(labels != expected_labels(two_channel_run, numbered, "a")) < 1e-3  # percentiles are rounded
    answer = exported.signatures["register"](moving=raw, fixed=raw[:, ::-1].copy())
    assert answer["warped"].shape == raw.shape
    found = np.asarray(Run(tmp_path / "served").segment(numbered / "a_0001.nii.gz").dataobj)
    assert np.mean(found != labels) < 1e-3
    text = ",".join(str(numbered / f"a_000{k}.nii.gz") for k in range(2))
    first, *others = read_for_serving(text, about)
    batch = to_batch(to_model_grid(first, about, others))
    expected = [rescale(raw[0, ..., k]) for k in range(2)]
    np.testing.assert_allclose(batch[0], np.stack(expected, axis=-1), atol=1e-5)
    with pytest.raises(SystemExit, match="the model takes 2 channel.*t1, t2"):
        read_for_serving(text.split(",")[0], about)
