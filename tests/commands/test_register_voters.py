"""``deepatlas register --anatomy`` with atlases and templates, which vote for the anatomies that are aligned."""

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import deepatlas_tf as da
from deepatlas_tf.cli import main
from deepatlas_tf.runs import model
from deepatlas_tf.runs.atlases import Atlas, with_templates
from deepatlas_tf.runs.instance import InstanceOptimisation, refiner
from deepatlas_tf.scans.intensity import rescale

SHAPE, AFFINE = (24, 24, 24), np.diag([2.0, 2.5, 2.0, 1.0])
STEPS = 4


def values(path):
    return np.asarray(nib.load(path).dataobj)


def register(*arguments):
    return main(["register", *map(str, arguments), "-q"])


@pytest.fixture
def files(tmp_path, write_nifti):
    """Smooth images on the grid of training, and a label map of the last one."""
    found = {}
    for seed, name in enumerate(("moving", "fixed", "template", "atlas"), start=3):
        image = gaussian_filter(np.random.default_rng(seed).random(SHAPE), 2)
        found[name] = write_nifti(tmp_path / f"{name}.nii.gz", (3e4 * (image - image.min())).astype(np.int16), AFFINE)
    label = np.zeros(SHAPE, np.int16)
    label[3:15, 4:20, 5:18], label[16:22, 2:12, 4:20] = 1, 2
    return {**found, "label": write_nifti(tmp_path / "label.nii.gz", label, AFFINE)}


@pytest.mark.long  # it compiles four refinements
def test_the_anatomies_that_are_aligned_are_voted_for(run_folder, files, tmp_path):
    opened = model.open_model(run_folder)
    moving, fixed, template, image = (rescale(values(path))[..., None] for path in list(files.values())[:4])
    atlas = Atlas(image, values(files["label"]).astype(np.int32), np.ones(3, np.float32))
    segment = opened.segmenter()
    vote = with_templates(segment, opened.registrar("deepatlas", STEPS), [atlas], [template])
    stage = next(stage for stage in opened.settings["stages"] if stage["name"] == "deepatlas")
    refine = refiner(opened.net("registration"), InstanceOptimisation.of_stage(stage, steps=STEPS).with_anatomy())
    voted, predicted = (
        refine(moving, fixed, (anatomy(moving), anatomy(fixed))) * [-2, -2.5, 2]  # mm, in the directions of ITK
        for anatomy in (vote, segment)
    )
    assert np.abs(voted - predicted).max() > 0.01

    refined = ("--model", run_folder, "--instance-steps", STEPS, "--anatomy", "--template", files["template"])
    call = (files["moving"], files["fixed"], *refined, "--atlas", files["atlas"], files["label"])
    assert register(*call, "-o", tmp_path / "out") == 0
    found = values(tmp_path / "out" / "displacement_field.nii.gz")[..., 0, :]
    np.testing.assert_allclose(found, voted, atol=1e-3)
    given = {"atlases": [(files["atlas"], files["label"])], "templates": [files["template"]]}
    pair = (files["moving"], files["fixed"])
    again = da.Run(run_folder).register(*pair, instance_steps=STEPS, anatomy=True, **given)
    np.testing.assert_allclose(np.asarray(again.field.dataobj)[..., 0, :], found, atol=1e-5)


@pytest.mark.long
def test_what_cannot_vote_is_one_line(run_folder, files, tmp_path, write_nifti, capsys):
    large = write_nifti(tmp_path / "large.nii.gz", np.tile(values(files["fixed"]), (2, 1, 1)), AFFINE)
    refined = ("--instance-steps", STEPS, "--anatomy")
    atlas = ("--atlas", files["atlas"], files["label"])
    cases = [
        (files["fixed"], atlas, "--atlas and --template vote for the anatomies that are aligned: add --anatomy"),
        (files["fixed"], ("--instance-steps", STEPS, *atlas), "that are aligned: add --anatomy"),
        (files["fixed"], ("--anatomy", *atlas), "--anatomy is a part of the refinement for each pair"),
        (files["fixed"], (*refined, "--template", tmp_path / "nowhere.nii.gz"), "there is no file"),
        (files["fixed"], (*refined, "--template", large), "large.nii.gz, which is to vote: it takes"),
        (large, (*refined, *atlas), "large.nii.gz: it takes 48 x 24 x 24 voxels"),
    ]
    for fixed, options, message in cases:
        code = register(files["moving"], fixed, "--model", run_folder, *options, "-o", tmp_path / "out")
        error = capsys.readouterr().err.strip()
        assert code in (1, 2) and message in error and "\n" not in error, (message, error)
        assert not list((tmp_path / "out").glob("*"))
