"""Each recipe is trained once on the command line in its tiny form, to the table of the evaluation.

``semi_deepatlas`` here, in 3D. The others: ``deepatlas`` in tests/notebooks, in 2D and, from NIfTI files, in 3D;
``one_shot`` there, too; ``uniseg_reg`` in tests/training/test_pseudo_masks.py; ``seg_guided`` in tests/test_run.py;
``mean_teacher`` in tests/reliability; ``voxelmorph`` in tests/datasets/test_own_nifti.py. Each method is trained in 2D
and in 3D in tests/conformance.
"""

import csv

import pytest

from deepatlas_tf.cli import main
from deepatlas_tf.experiments import get_experiment
from deepatlas_tf.methods import method_names
from deepatlas_tf.recipes import get_recipe, recipe_names

# recipes that have the methods that the default has not -> a data set for each
TRAINED = {
    "mean_teacher": "phantom_knee",
    "seg_guided": "phantom_knee/xray_dxa",
    "semi_deepatlas": "phantom_knee",
    "uniseg_reg": "phantom_knee",
}


def methods_in(path):
    """The methods of a CSV file of the evaluation."""
    with path.open() as file:
        return {row["method"] for row in csv.DictReader(file)}


def test_every_method_is_a_stage_of_what_is_trained():
    trained = {stage.method for stage in get_experiment("phantom_knee", tiny=True).stages}
    for name, dataset in TRAINED.items():
        trained |= {stage.method for stage in get_recipe(name)(get_experiment(dataset, tiny=True), tiny=True).stages}
    assert trained == set(method_names())
    assert set(recipe_names()) - set(TRAINED) == {"deepatlas_paper", "one_shot", "voxelmorph"}  # of the same methods


@pytest.mark.long
def test_semi_deepatlas(tmp_path, capsys):
    command = ["train", "--tiny", "--method", "semi_deepatlas", "--set", "data.shape=(16, 16, 16)"]
    command += ["--set", "data.spacing=(7.5, 9, 7.5)", "--data-dir", str(tmp_path / "data")]
    assert main([*command, "--workdir", str(tmp_path / "run")]) == 0
    segmentation = {"segmentation_baseline", "semi_deepatlas_segmentation"}
    registration = {"registration_unsupervised", "semi_deepatlas_registration"}
    found = [methods_in(tmp_path / "run" / "evaluation" / f"{task}.csv") for task in ("segmentation", "registration")]
    assert found == [segmentation, {"identity", *registration}]
    table = capsys.readouterr().out
    assert all(f"\n{row}" in table for row in segmentation | registration) and "(synthetic)" in table
