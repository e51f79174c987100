"""Every name of ``deepatlas methods``, trained on the command line in its tiny form, to its table.

Left out is what other tests train in this way: in 2D DeepAtlas and the baseline of segmentation (tests/test_cli.py),
UniSegReg (tests/training/test_pseudo_masks.py), voxelmorph and two domains (tests/test_run.py).
"""

import csv

import pytest

from deepatlas_tf.cli import main
from deepatlas_tf.methods import method_names
from deepatlas_tf.recipes import recipe_names

PHANTOM = {"2D": ("phantom_knee", (16, 16), (7.5, 7.5)), "3D": ("phantom_knee", (16, 16, 16), (7.5, 9.0, 7.5))}
TWO_DOMAINS = {
    "2D": ("phantom_knee/xray_dxa", (16, 16), (7.5, 7.5)),
    "3D": ("phantom_knee/t1_t2", (16, 16, 16), (7.5, 9.0, 7.5)),
}
ELSEWHERE = ("segmentation", "voxelmorph")
OF_TWO_DOMAINS = ("domain_adaptation", "registration_augmentation", "seg_guided")
# name -> what its table has of segmentation and of registration, besides the identity
ROWS = {
    "deepatlas": (
        {"segmentation_baseline", "deepatlas"},
        {"registration_unsupervised", "registration_weak", "semi_deepatlas", "deepatlas"},
    ),
    "domain_adaptation": ({"segmentation_a", "domain_adaptation"}, {"registration_a"}),
    "mean_teacher": ({"segmentation_baseline", "mean_teacher"}, set()),
    "one_shot": (
        {"segmentation_baseline", "semi_deepatlas", "deepatlas"},
        {"registration_unsupervised", "deepatlas"},
    ),
    "registration_augmentation": ({"segmentation_a"}, {"registration_a"}),
    "seg_guided": ({"segmentation_a", "domain_adaptation"}, {"registration_a", "seg_guided"}),
    "semi_deepatlas": (
        {"segmentation_baseline", "semi_deepatlas_segmentation"},
        {"registration_unsupervised", "semi_deepatlas_registration"},
    ),
    "uniseg_reg": (
        {"segmentation_baseline", "mean_teacher", "uniseg_reg_1", "uniseg_reg"},
        {"registration_pretrained", "uniseg_reg_1", "uniseg_reg"},
    ),
}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Where the phantoms are kept: each is prepared once."""
    return tmp_path_factory.mktemp("data")


def methods_in(path):
    """The methods of a CSV file of the evaluation, without the domains that they were measured on."""
    with path.open() as file:
        return {row["method"].partition(" (")[0] for row in csv.DictReader(file)}


def test_every_name_is_here():
    assert {*ROWS, *ELSEWHERE} == {*method_names(), *recipe_names()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "dimension"),
    [
        ("deepatlas", "3D"),
        ("domain_adaptation", "2D"),
        ("mean_teacher", "2D"),
        ("mean_teacher", "3D"),
        ("one_shot", "2D"),
        ("one_shot", "3D"),
        ("registration_augmentation", "2D"),
        ("seg_guided", "3D"),
        ("semi_deepatlas", "2D"),
        ("semi_deepatlas", "3D"),
        ("uniseg_reg", "3D"),
    ],
)
def test_tiny(name, dimension, data_dir, tmp_path, capsys):
    dataset, shape, spacing = (TWO_DOMAINS if name in OF_TWO_DOMAINS else PHANTOM)[dimension]
    command = ["train", "--tiny", "--method", name, "--dataset", dataset, "--set", f"data.shape={shape}"]
    command += ["--set", f"data.spacing={spacing}", "--data-dir", str(data_dir), "--workdir", str(tmp_path / "run")]
    assert main(command) == 0
    segmentation, registration = ROWS[name]
    found = [methods_in(tmp_path / "run" / "evaluation" / f"{task}.csv") for task in ("segmentation", "registration")]
    assert found == [segmentation, {"identity", *registration}]
    table = capsys.readouterr().out
    assert all(f"\n{row}" in table for row in segmentation | registration) and "(synthetic)" in table
