"""``deepatlas evaluate --learn2reg``: the fields, as SciPy's ``map_coordinates`` uses them in the challenge."""

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

from deepatlas_tf import run as of_run
from deepatlas_tf.apply.fields import warp_volume
from deepatlas_tf.apply.learn2reg import between_scans, case_numbers, preceding_pairs
from deepatlas_tf.apply.register import to_field
from deepatlas_tf.cli import main
from deepatlas_tf.scans.grid import GridTransform
from deepatlas_tf.scans.nifti import Nifti
from tests.commands.conftest import GRIDS, SHAPE, SPACING


def warped_by_scipy(moving: np.ndarray, d: np.ndarray, order: int = 1) -> np.ndarray:
    """As the challenge evaluates, but that a border is continued, as ours is for half a voxel."""
    identity = np.meshgrid(*map(np.arange, d.shape[:-1]), indexing="ij")
    return map_coordinates(moving, np.stack(identity) + np.moveaxis(d, -1, 0), order=order, mode="nearest")


@pytest.mark.parametrize("pair", [("flipped", "oblique"), ("permuted", "flipped"), ("training", "permuted")])
def test_the_field_warps_as_that_in_mm_does(pair):
    rng = np.random.default_rng(0)
    scans = [
        Nifti(gaussian_filter(rng.random(shape), 1.5).astype(np.float32), affine)
        for shape, affine in map(GRIDS.get, pair)
    ]
    moving, fixed = scans
    ways = [GridTransform(scan.affine, scan.volume.shape, SHAPE, SPACING) for scan in scans]
    u = gaussian_filter(rng.normal(size=(*SHAPE, 3)), (3, 3, 3, 0)).astype(np.float32) * 20
    to_scans = [np.linalg.inv(scan.affine) @ way.affine for scan, way in zip(scans, ways, strict=True)]
    found = between_scans(u, *to_scans, fixed.volume.shape)
    field = to_field(u, ways[1], fixed, ways[0].affine @ np.linalg.inv(ways[1].affine))
    expected = warp_volume(moving.volume, moving.affine, field)
    inside = expected != 0
    assert inside.mean() > 0.2 and found.dtype == np.float32
    np.testing.assert_allclose(warped_by_scipy(moving.volume, found)[inside], expected[inside], atol=2e-4)


@pytest.fixture
def evaluate(run_folder, cohort, monkeypatch, tmp_path):
    """The command, which does not measure."""
    monkeypatch.setattr(of_run, "dataset_of_run", lambda *args, **kwargs: cohort)
    monkeypatch.setattr(of_run, "evaluate", lambda *args, **kwargs: None)
    call = ["evaluate", str(run_folder), "--learn2reg", str(tmp_path / "out"), "-q"]
    return lambda *options: main([*call, *map(str, options)])


@pytest.mark.long
def test_a_field_for_each_pair_on_the_grid_of_its_fixed_scan(evaluate, cohort, tmp_path, capsys):
    train = cohort.subjects["train"]
    number = {subject: f"{int(subject[-3:]):04}" for subject in train}
    (tmp_path / "pairs.csv").write_text(
        f"fixed,moving\n{int(train[0][-3:])},{int(train[1][-3:])}\n{train[2]},{train[0]}\n"
    )
    assert evaluate("--split", "train", "--pairs", tmp_path / "pairs.csv") == 0
    pairs = [(train[0], train[1]), (train[2], train[0])]
    names = {f"disp_{number[fixed]}_{number[moving]}.nii.gz" for fixed, moving in pairs}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    records = {r["subject"].decode(): r for r in cohort.records("train").as_numpy_iterator()}
    for fixed, moving in pairs:
        file = nib.load(tmp_path / "out" / f"disp_{number[fixed]}_{number[moving]}.nii.gz")
        assert file.shape == (*records[fixed]["source_shape"], 3) and file.get_data_dtype() == np.float32
        np.testing.assert_allclose(file.affine, records[fixed]["source_affine"], atol=1e-5)
        assert np.abs(file.get_fdata()).max() > 0.1
    assert evaluate("--split", "train", "--pairs", tmp_path / "pairs.csv") == 1
    assert "--overwrite" in capsys.readouterr().err
    assert evaluate("--split", "train", "--pairs", tmp_path / "pairs.csv", "--overwrite") == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("moving\n1\n", "needs the columns fixed and moving"),
        ("fixed,moving\n", "a line for each pair"),
        ("fixed,moving\n1,77\n", "line 2: 1 and 77 are not two subjects"),
        ("fixed,moving\n1,1\n", "line 2"),
        (None, "there is no file"),
    ],
)
def test_pairs_that_cannot_be(evaluate, cohort, tmp_path, capsys, text, message):
    if text is not None:
        first = str(int(cohort.subjects["train"][0][-3:]))
        (tmp_path / "pairs.csv").write_text(text.replace("1", first))
        message = message.replace("1 and", f"{first} and")
    assert evaluate("--split", "train", "--pairs", tmp_path / "pairs.csv") == 1
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", [["--pairs", "pairs.csv"], ["--overwrite"]])
def test_options_of_no_fields(run_folder, capsys, option):
    assert main(["evaluate", str(run_folder), *option]) == 2
    assert "--learn2reg" in capsys.readouterr().err


def test_a_split_without_a_pair(evaluate, cohort, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(cohort.subjects, "test", cohort.subjects["test"][:1])
    assert evaluate("--split", "test") == 1
    assert "no two subjects of nifti make a pair" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_numbers_of_cases():
    assert case_numbers(["OASIS_0001", "b-12x"]) == {"OASIS_0001": 1, "b-12x": 12}
    with pytest.raises(ValueError, match="a1 and b1 have one number, 1"):
        case_numbers(["a1", "b1"])
    with pytest.raises(ValueError, match="name of left holds no number"):
        case_numbers(["left"])


def test_pairs_without_a_file():
    assert preceding_pairs(["a", "b", "c"], 1) == [("a", "c"), ("b", "a"), ("c", "b")]
    assert len(set(preceding_pairs(["a", "b", "c"], 9))) == 6
    assert preceding_pairs(["a"], 1) == []
