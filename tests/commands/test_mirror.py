"""``--mirror``: left scans for a model of right ones; each result is the mirror image of that of the mirrored scans."""

import csv
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

from deepatlas_tf.apply.grids import mirrored
from deepatlas_tf.cli import main
from deepatlas_tf.runs.model import note_on_sides
from deepatlas_tf.scans.nifti import Nifti

MIRROR = np.diag([-1.0, 1.0, 1.0, 1.0])


@pytest.fixture
def left(scans, tmp_path, write_nifti):
    """Two scans as mirror images of themselves: the same voxels, the affine mirrored."""
    found = {}
    for name in ("flipped", "oblique"):
        image = nib.load(scans[name])
        path = tmp_path / "left" / f"{name}.nii.gz"
        found[name] = write_nifti(path, np.asarray(image.dataobj), MIRROR @ image.affine)
    return found


def values(path):
    return np.asarray(nib.load(path).dataobj)


@pytest.mark.slow
def test_a_left_scan_is_segmented_as_its_mirror_image(run_folder, scans, left, tmp_path, capsys):
    for scan, options in ((scans["oblique"], []), (left["oblique"], ["--mirror"])):
        out = tmp_path / f"out{len(options)}"
        assert main(["segment", str(scan), "--model", str(run_folder), "-o", str(out), *options]) == 0
    found, expected = (nib.load(tmp_path / out / "oblique.nii.gz") for out in ("out1", "out0"))
    np.testing.assert_array_equal(np.asarray(found.dataobj), np.asarray(expected.dataobj))
    np.testing.assert_array_equal(found.affine, nib.load(left["oblique"]).affine)
    tables = [list(csv.reader((tmp_path / out / "volumes.csv").open())) for out in ("out1", "out0")]
    assert tables[0] == tables[1]
    assert "--mirror" not in capsys.readouterr().out  # nothing was mirrored in training


@pytest.mark.slow
def test_left_scans_are_registered_as_their_mirror_images(run_folder, scans, left, tmp_path):
    for out, pair, options in (("right", scans, []), ("left", left, ["--mirror", "-q"])):
        arguments = ["register", str(pair["flipped"]), str(pair["oblique"]), "--model", str(run_folder)]
        assert main([*arguments, "-o", str(tmp_path / "out" / out), *options]) == 0
    right, mirror = tmp_path / "out" / "right", tmp_path / "out" / "left"
    field, expected = (values(folder / "displacement_field.nii.gz") for folder in (mirror, right))
    np.testing.assert_allclose(field, expected * [-1, 1, 1], atol=1e-4)
    inverse, expected = (values(folder / "inverse_displacement_field.nii.gz") for folder in (mirror, right))
    assert np.quantile(np.abs(inverse - expected * [-1, 1, 1]), 0.999) < 0.05  # found to a hundredth of a voxel
    np.testing.assert_allclose(values(mirror / "jacobian.nii.gz"), values(right / "jacobian.nii.gz"), atol=1e-3)
    same = values(mirror / "warped.nii.gz") == values(right / "warped.nii.gz")
    assert same.mean() > 0.99  # int16, rounded from nearly the same


@pytest.mark.parametrize(
    ("about", "mirror", "told"),
    [({"left_mirrored": True}, False, True), ({"left_mirrored": True}, True, False), ({}, False, False)],
)
def test_a_model_of_right_sides_says_so(about, mirror, told, capsys):
    note_on_sides(SimpleNamespace(about=about), mirror)
    assert ("pass --mirror" in capsys.readouterr().out) == told


@pytest.mark.parametrize("n_axes", [2, 3])
def test_the_mirror_is_the_scanners_sagittal_plane(n_axes):
    rng = np.random.default_rng(0)
    scan = Nifti(rng.random((4,) * n_axes), np.eye(n_axes + 1) + np.triu(rng.random((n_axes + 1,) * 2)))
    found, point = mirrored(scan), [*rng.random(n_axes), 1]
    x, *others = (scan.affine @ point)[:-1]
    np.testing.assert_allclose((found.affine @ point)[:-1], [-x, *others])
    assert found.volume is scan.volume
