"""Methods trained on the command line in their tiny form, in 3D, to the table of the evaluation.

In this way every method is trained once in 2D and once in 3D. What is not here:

- in 2D ``segmentation``, ``voxelmorph`` and ``deepatlas`` (tests/test_cli.py, tests/test_run.py); ``uniseg_reg``, of
  which ``mean_teacher`` is a stage (tests/training/test_pseudo_masks.py); ``seg_guided``, of which
  ``domain_adaptation`` and ``registration_augmentation`` are stages (tests/test_run.py); ``one_shot``
  (tests/notebooks);
- in 3D ``segmentation``, ``voxelmorph`` and ``deepatlas``, from NIfTI files (tests/notebooks).
"""

import csv

import pytest

from deepatlas_tf.cli import main
from deepatlas_tf.experiments import get_experiment
from deepatlas_tf.methods import method_names
from deepatlas_tf.recipes import get_recipe, recipe_names

PHANTOM, TWO_DOMAINS = "phantom_knee", "phantom_knee/t1_t2"
# name -> the data set, and what the table has of segmentation and of registration, besides the identity
TRAINED = {
    "seg_guided": (
        TWO_DOMAINS,
        {"segmentation_a", "domain_adaptation"},
        {"registration_a", "seg_guided"},
    ),
    "semi_deepatlas": (
        PHANTOM,
        {"segmentation_baseline", "semi_deepatlas_segmentation"},
        {"registration_unsupervised", "semi_deepatlas_registration"},
    ),
    "uniseg_reg": (
        PHANTOM,
        {"segmentation_baseline", "mean_teacher", "uniseg_reg_1", "uniseg_reg"},
        {"registration_pretrained", "uniseg_reg_1", "uniseg_reg"},
    ),
}


def methods_in(path):
    """The methods of a CSV file of the evaluation, without the domains that they were measured on."""
    with path.open() as file:
        return {row["method"].partition(" (")[0] for row in csv.DictReader(file)}


def test_every_method_is_a_stage_of_what_is_trained():
    trained = {stage.method for stage in get_experiment(PHANTOM, tiny=True).stages}
    for name, (dataset, *_) in TRAINED.items():
        trained |= {stage.method for stage in get_recipe(name)(get_experiment(dataset, tiny=True), tiny=True).stages}
    assert trained == set(method_names())
    assert set(recipe_names()) - set(TRAINED) == {"deepatlas_paper", "mean_teacher", "one_shot", "voxelmorph"}


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_tiny(name, tmp_path, capsys):
    dataset, segmentation, registration = TRAINED[name]
    command = ["train", "--tiny", "--method", name, "--dataset", dataset, "--set", "data.shape=(16, 16, 16)"]
    command += ["--set", "data.spacing=(7.5, 9, 7.5)", "--data-dir", str(tmp_path / "data")]
    assert main([*command, "--workdir", str(tmp_path / "run")]) == 0
    found = [methods_in(tmp_path / "run" / "evaluation" / f"{task}.csv") for task in ("segmentation", "registration")]
    assert found == [segmentation, {"identity", *registration}]
    table = capsys.readouterr().out
    assert all(f"\n{row}" in table for row in segmentation | registration) and "(synthetic)" in table
