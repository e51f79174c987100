"""``deepatlas register``, ``warp`` and ``jacobian``; SimpleITK is the reference that reads what they write."""

import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from deepatlas_tf.cli import main
from deepatlas_tf.runs import predict

FILES = {"warped.nii.gz", "displacement_field.nii.gz", "inverse_displacement_field.nii.gz", "jacobian.nii.gz"}


def run(*arguments):
    return main(list(map(str, arguments)))


def values(path):
    return np.asarray(nib.load(path).dataobj)


def transform_of(path):
    return sitk.DisplacementFieldTransform(sitk.ReadImage(str(path), sitk.sitkVectorFloat64))


def resampled(moving, fixed, field, way=sitk.sitkLinear):
    """SimpleITK applies the field: (X, Y, Z)."""
    image = sitk.ReadImage(str(moving), sitk.sitkFloat32)
    return sitk.GetArrayFromImage(sitk.Resample(image, sitk.ReadImage(str(fixed)), transform_of(field), way, 0.0)).T


@pytest.fixture
def labels(scans, write_nifti):
    image = nib.load(scans["flipped"])
    label = 300 * (values(scans["flipped"]) > 1500) + 7 * (values(scans["flipped"]) > 3000)
    return write_nifti(scans["flipped"].with_name("flipped_labels.nii.gz"), label.astype(np.int16), image.affine)


@pytest.fixture
def far_away(scans, write_nifti):
    """The moving scan, turned by 20 degrees and 150 mm away: only an affine registration brings them together."""
    image, turned = nib.load(scans["flipped"]), np.eye(4)
    turned[:3, :3] = Rotation.from_euler("z", 20, degrees=True).as_matrix()
    turned[0, 3] = 150
    scans["far_away"] = write_nifti(
        scans["flipped"].with_name("far.nii"), values(scans["flipped"]), turned @ image.affine
    )


@pytest.mark.usefixtures("far_away")
@pytest.mark.parametrize(("fixed", "options"), [("permuted", []), ("far_away", ["--affine", "--instance-steps", "2"])])
def test_itk_reads_our_results(fixed, options, run_folder, scans, labels, tmp_path, capsys):
    moving, fixed, out = scans["flipped"], scans[fixed], tmp_path / "out"
    call = ["register", moving, fixed, "--model", run_folder, "--moving-labels", labels, "-o", out]
    assert run(*call, *options) == 0
    assert "folds in" in capsys.readouterr().out
    assert {p.name for p in out.iterdir()} == {*FILES, "warped_labels.nii.gz"}
    for name in FILES - {"inverse_displacement_field.nii.gz"}:
        assert nib.load(out / name).shape[:3] == nib.load(fixed).shape
        np.testing.assert_array_equal(nib.load(out / name).affine, nib.load(fixed).affine)
    field = out / "displacement_field.nii.gz"
    assert nib.load(field).header.get_intent()[0] == "vector" and nib.load(field).shape[3:] == (1, 3)
    warped = values(out / "warped.nii.gz")
    apart = np.abs(resampled(moving, fixed, field) - warped)
    assert (warped != 0).mean() > 0.3 and warped.std() > 300
    assert np.median(apart) < 0.05 and (apart > 5).mean() < 2e-3  # grey values up to 10,000; the rest is on the border
    found, expected = values(out / "warped_labels.nii.gz"), resampled(labels, fixed, field, sitk.sitkNearestNeighbor)
    assert found.dtype == np.int16 and set(np.unique(found)) == {0, 300, 307} and (found != expected).mean() < 2e-3
    _check_inverse(out, moving, fixed)


def _check_inverse(out, moving, fixed):
    """At voxels of the moving scan: to the fixed one and back, by SimpleITK, in mm; voxels are 1.2 mm and more."""
    forward = transform_of(out / "displacement_field.nii.gz")
    inverse = transform_of(out / "inverse_displacement_field.nii.gz")
    moving, fixed = sitk.ReadImage(str(moving)), sitk.ReadImage(str(fixed))
    folds = sitk.ReadImage(str(out / "jacobian.nii.gz"))
    errors = []
    for index in np.ndindex(*(n // 3 for n in moving.GetSize())):
        q = moving.TransformIndexToPhysicalPoint([3 * i for i in index])
        p = inverse.TransformPoint(q)
        at = fixed.TransformPhysicalPointToIndex(p)
        inside = all(1 <= i < n - 1 for i, n in zip(at, fixed.GetSize(), strict=True))
        if inside and folds[at] > 0.1:
            errors.append(np.linalg.norm(np.subtract(forward.TransformPoint(p), q)))
    assert len(errors) > 100 and np.mean(errors) < 0.02 and np.quantile(errors, 0.99) < 0.1


def test_instance_steps_reach_the_optimisation(run_folder, scans, tmp_path, monkeypatch):
    """What the steps do is tested with the optimisation."""
    seen = []

    def refiner(net, settings):
        seen.append(settings)
        return lambda moving, fixed: np.zeros((*fixed.shape[:-1], 3), np.float32)

    monkeypatch.setattr(predict, "refiner", refiner)
    call = ["register", scans["flipped"], scans["permuted"], "--model", run_folder, "-o", tmp_path / "out", "-q"]
    assert run(*call, "--instance-steps", 3) == 0
    assert [(s.steps, s.similarity, s.weights["smoothness"]) for s in seen] == [(3, "ncc", 1.0)]


def test_warp_and_jacobian_give_the_files_of_register(run_folder, scans, labels, tmp_path, capsys):
    out = tmp_path / "out"
    call = ["register", scans["flipped"], scans["oblique"], "--model", run_folder, "--moving-labels", labels, "-q"]
    assert run(*call, "-o", out) == 0
    field = out / "displacement_field.nii.gz"
    assert run("warp", scans["flipped"], "--field", field, "-o", tmp_path / "w.nii.gz") == 0
    assert run("warp", labels, "--field", field, "--labels", "-o", tmp_path / "l.nii") == 0
    assert run("jacobian", field, "-o", tmp_path / "j.nii.gz") == 0
    assert "determinant" in capsys.readouterr().out
    # affines pass through the float32 of the header
    np.testing.assert_allclose(values(tmp_path / "w.nii.gz"), values(out / "warped.nii.gz"), atol=0.1)
    assert (values(tmp_path / "l.nii") != values(out / "warped_labels.nii.gz")).mean() < 1e-3
    np.testing.assert_allclose(values(tmp_path / "j.nii.gz"), values(out / "jacobian.nii.gz"), atol=1e-3)
    for name in ("w.nii.gz", "l.nii", "j.nii.gz"):
        np.testing.assert_allclose(nib.load(tmp_path / name).affine, nib.load(scans["oblique"]).affine, atol=1e-5)
        assert nib.load(tmp_path / name).header.get_intent()[0] == "none"


@pytest.mark.parametrize(
    ("arguments", "status", "hint"),
    [
        (["register", "flipped", "nowhere"], 1, "there is no file"),
        (["register", "flipped", "oblique", "--stage", "x"], 2, "first, deepatlas"),
        (["register", "flipped", "oblique", "--instance-steps", "-1"], 2, "0 or more"),
        (["register", "flipped", "oblique", "--moving-labels", "oblique"], 1, "must be on one grid"),
        (["warp", "flipped", "--field", "oblique", "-o", "w.nii"], 1, "not a displacement field"),
        (["warp", "flipped", "--field", "oblique", "-o", "w.png"], 1, "must end in .nii"),
        (["jacobian", "flipped", "-o", "j.nii"], 1, "not a displacement field"),
    ],
)
def test_a_wrong_call_is_one_line(arguments, status, hint, run_folder, scans, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = [str(scans.get(word, word)) for word in arguments]
    extra = ["--model", str(run_folder), "-o", "out"] if arguments[0] == "register" else []
    assert main([*arguments, *extra]) == status
    error = capsys.readouterr().err.strip()
    assert hint in error and error.startswith("error: ") and "\n" not in error
    assert not list(tmp_path.glob("[wj].*")) and not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize("command", ["segment", "register", "warp", "jacobian", "export"])
def test_help_is_fast_and_has_examples(command):
    call = [sys.executable, "-X", "importtime", "-m", "deepatlas_tf", command, "--help"]
    result = subprocess.run(call, capture_output=True, text=True, check=False)
    assert result.returncode == 0 and f"examples:\n  deepatlas {command}" in result.stdout
    assert "--overwrite" in result.stdout and "tensorflow" not in result.stderr


def test_fields_need_no_tensorflow(tmp_path, write_nifti):
    """Warping and Jacobians start at once."""
    code = "import sys; from deepatlas_tf.apply import field_commands; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
