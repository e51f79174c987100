"""``deepatlas segment --template``: scans without a label map vote with the network."""

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import deepatlas_tf as da
from deepatlas_tf.cli import main
from deepatlas_tf.runs import model
from deepatlas_tf.runs.atlases import Atlas, with_templates
from deepatlas_tf.scans.intensity import rescale

SHAPE, AFFINE = (24, 24, 24), np.diag([2.0, 2.5, 2.0, 1.0])


def values(path):
    return np.asarray(nib.load(path).dataobj)


def segment(*arguments):
    return main(["segment", *map(str, arguments), "-q"])


@pytest.fixture
def templates(tmp_path, write_nifti):
    """Two smooth images on the grid of training."""
    found = []
    for seed in (5, 6):
        image = gaussian_filter(np.random.default_rng(seed).random(SHAPE), 2)
        volume = (3e4 * (image - image.min())).astype(np.int16)
        found.append(write_nifti(tmp_path / "templates" / f"image{seed}.nii.gz", volume, AFFINE))
    return found


@pytest.mark.long
@pytest.mark.parametrize("with_an_atlas", [False, True])
def test_templates_vote_with_the_network_and_the_atlases(
    with_an_atlas, run_folder, scans, templates, tmp_path, write_nifti
):
    label = np.zeros(SHAPE, np.int16)
    label[3:15, 4:20, 5:18], label[16:22, 2:12, 4:20] = 1, 2
    atlas = [scans["training"].with_name("other.nii.gz"), tmp_path / "label.nii.gz"]
    write_nifti(atlas[0], values(scans["training"])[::-1], AFFINE)
    write_nifti(atlas[1], label, AFFINE)

    opened = model.open_model(run_folder)
    image, other, *images = (rescale(values(path))[..., None] for path in (scans["training"], atlas[0], *templates))
    labelled = [Atlas(other, label.astype(np.int32), np.ones(3, np.float32))] if with_an_atlas else []
    fused = with_templates(opened.segmenter(), opened.registrar("deepatlas"), labelled, images)
    expected = fused(image).argmax(axis=-1)

    more = ["--atlas", *atlas] if with_an_atlas else []
    call = (scans["training"], "--model", run_folder, "--template", templates[0].parent, *more)
    assert segment(*call, "-o", tmp_path / "out") == 0
    found = values(tmp_path / "out" / "training.nii.gz")
    assert (found != expected).mean() < 1e-3  # two ways to the same float32
    run = da.Run(run_folder)
    assert np.mean(np.asarray(run.segment(scans["training"]).dataobj) != found) > 0.01
    for given in (templates, [nib.Nifti1Image(values(path), AFFINE) for path in templates]):
        again = run.segment(scans["training"], templates=given, atlases=[atlas] if with_an_atlas else [])
        np.testing.assert_array_equal(np.asarray(again.dataobj), found)


def test_a_bad_template_is_one_line_and_a_result_never_replaces_one(run_folder, scans, templates, tmp_path, capsys):
    call = (scans["training"], "--model", run_folder, "--template")
    assert segment(*call, tmp_path / "nowhere.nii.gz", "-o", tmp_path / "out") == 1
    error = capsys.readouterr().err.strip()
    assert "there is no file" in error and "nowhere" in error and "\n" not in error
    image = templates[0].rename(templates[0].with_name("training.nii.gz"))
    assert segment(*call, image, "--overwrite", "-o", image.parent) == 1
    assert "is an input" in capsys.readouterr().err
