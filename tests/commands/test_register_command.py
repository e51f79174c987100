"""``deepatlas register``, ``warp`` and ``jacobian``; SimpleITK is the reference that reads what they write."""

import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from deepatlas_tf.apply import register as register_module
from deepatlas_tf.apply.fields import Field, write_field
from deepatlas_tf.apply.register import register_files, warped_names
from deepatlas_tf.cli import main
from deepatlas_tf.runs.model import TrainedModel
from deepatlas_tf.types import DataError

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
    path = scans["flipped"].with_name("far.nii")
    scans["far_away"] = write_nifti(path, values(scans["flipped"]), turned @ image.affine)


@pytest.mark.slow
@pytest.mark.usefixtures("far_away")
@pytest.mark.parametrize(
    ("fixed", "options"),
    [("permuted", []), ("far_away", ["--affine", "--instance-steps", "2", "--format", "itk"])],
)
def test_itk_reads_our_results(fixed, options, run_folder, scans, labels, tmp_path, capsys):
    moving, fixed, out = scans["flipped"], scans[fixed], tmp_path / "out"
    call = ["register", moving, fixed, "--model", run_folder, "--moving-labels", labels, "-o", out]
    assert run(*call, *options) == 0
    assert "folds in" in capsys.readouterr().out
    composite = ["transform.h5"] if "itk" in options else []
    assert {p.name for p in out.iterdir()} == {*FILES, "warped_labels.nii.gz", *composite}
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
    for name in composite:
        images = [sitk.ReadImage(str(path)) for path in (moving, fixed)]
        by_itk = sitk.Resample(*images, sitk.ReadTransform(str(out / name)), sitk.sitkLinear, 0.0, sitk.sitkFloat32)
        np.testing.assert_allclose(np.median(np.abs(sitk.GetArrayFromImage(by_itk).T - warped)), 0, atol=0.1)


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


def with_border(path, name, mode, write_nifti):
    """The scan without the black planes of the fixture, and the same with 8 voxels before and 5 behind."""
    image = nib.load(path)
    plain, affine = np.asarray(image.dataobj)[2:], image.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ [8, 8, 8]
    border = np.pad(plain, (8, 5), mode=mode)
    return (
        write_nifti(path.parent / f"plain_{name}.nii.gz", plain, image.affine),
        write_nifti(path.parent / f"border_{name}.nii.gz", border, affine),
    )


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["constant", "edge"])
def test_a_border_of_either_scan_changes_nothing(mode, run_folder, scans, tmp_path, write_nifti):
    """Inside of the plain scan the field is the same; beyond, its border is continued."""
    pairs = [with_border(scans[name], name, mode, write_nifti) for name in ("flipped", "permuted")]
    for index, (moving, fixed) in enumerate(zip(*pairs, strict=True)):
        assert run("register", moving, fixed, "--model", run_folder, "-o", tmp_path / str(index), "-q") == 0
    fields = [values(tmp_path / str(index) / "displacement_field.nii.gz") for index in (0, 1)]
    inside = (slice(8, -5),) * 3
    assert np.abs(fields[0]).max() > 0.5
    np.testing.assert_allclose(fields[1][inside], fields[0], atol=1e-3)


def with_forms(path, name, qform, sform, codes):
    """The scan with these forms: (4, 4) each, codes of qform and sform."""
    image = nib.Nifti1Image(values(path), None)
    image.header.set_zooms(np.linalg.norm(sform[:3, :3], axis=0))
    image.set_qform(qform, codes[0])
    image.set_sform(sform, codes[1])
    nib.save(image, path.parent / f"{name}.nii.gz")
    return path.parent / f"{name}.nii.gz"


@pytest.mark.long
def test_results_lie_at_one_place_for_every_program(run_folder, scans, tmp_path, capsys):
    """A sform in a template's space and a qform in the scanner's; no form at all; and only a qform."""
    affine, turned = nib.load(scans["flipped"]).affine, np.eye(4)
    turned[:3, :3] = Rotation.from_euler("zx", [12, -8], degrees=True).as_matrix()
    turned[:3, 3] = 7, -11, 5
    cases = {
        "differ": (affine, turned @ affine, (1, 4)),
        "none": (affine, affine, (0, 0)),
        "q": (affine, affine, (1, 0)),
    }
    files = {name: with_forms(scans["flipped"], name, *case) for name, case in cases.items()}
    for fixed in files:
        out = tmp_path / fixed
        call = ["register", scans["permuted"], files[fixed], "--model", run_folder, "-o", out, "-q"]
        assert run(*call) == 0 and run("segment", files[fixed], "--model", run_folder, "-o", out, "-q") == 0
        told = capsys.readouterr().err
        assert told.count("warning: ") == (fixed != "q") and told.count(f"{fixed}.nii.gz") == (fixed != "q")
        used = nib.load(files[fixed]).affine
        for result in (f"{fixed}.nii.gz", *FILES - {"inverse_displacement_field.nii.gz"}):
            image, by_itk = nib.load(out / result), sitk.ReadImage(str(out / result))
            np.testing.assert_allclose(image.get_qform(), used, atol=1e-4)
            np.testing.assert_allclose(image.get_sform(), used, atol=1e-4)
            assert image.header["qform_code"] == image.header["sform_code"] > 0
            corner = [n - 1 for n in image.shape[:3]]
            seen = np.array(by_itk.TransformIndexToPhysicalPoint(corner)) * [-1, -1, 1]
            np.testing.assert_allclose(seen, (used @ [*corner, 1])[:3], atol=1e-3)


def test_all_files_are_written_or_none(run_folder, scans, tmp_path, monkeypatch, capsys):
    def fail(path, *_):
        if path.name == "jacobian.nii.gz":
            raise OSError(28, "No space left on device")
        return save(path, *_)

    save = register_module.save
    monkeypatch.setattr(register_module, "save", fail)
    call = ["register", scans["flipped"], scans["permuted"], "--model", run_folder, "-o", tmp_path / "out", "-q"]
    assert run(*call) == 1
    assert "No space left" in capsys.readouterr().err and not list((tmp_path / "out").iterdir())


@pytest.mark.slow
def test_what_cannot_be_registered_is_refused_before_anything_is_written(
    run_folder, scans, tmp_path, write_nifti, capsys, monkeypatch
):
    volume = values(scans["flipped"]).astype(np.float32)
    slice_ = write_nifti(tmp_path / "slice.nii.gz", volume[:, :, 9:10])
    bad = write_nifti(tmp_path / "bad.nii.gz", np.where(volume == volume[5, 5, 5], np.nan, volume))
    far = write_nifti(tmp_path / "far.nii.gz", volume, np.diag([1e38, 1e38, 1e38, 1]))
    for pair, hint in (
        ((slice_, scans["permuted"]), "slice.nii.gz"),
        ((scans["permuted"], slice_), "slice.nii.gz"),
        ((bad, scans["permuted"]), "NaN"),
        ((far, scans["permuted"]), ""),
        ((scans["permuted"], far), ""),
    ):
        assert run("register", *pair, "--model", run_folder, "-o", tmp_path / "out", "-q") == 1
        error = capsys.readouterr().err.strip()
        assert hint in error and error.startswith("error: ") and "\n" not in error
        assert not (tmp_path / "out").exists()


def test_a_result_that_is_not_finite_is_not_written(run_folder, scans, tmp_path, monkeypatch):
    def broken(moving, fixed):
        return np.full((*fixed.shape[:-1], 3), np.inf, np.float32)

    monkeypatch.setattr(TrainedModel, "registrar", lambda *_: broken)
    with pytest.raises(DataError, match="not finite"):
        register_files(scans["flipped"], scans["permuted"], run_folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def shift(tmp_path):
    """A field of 2 mm to the left on a grid of 10 x 12 x 9 voxels of 2 mm: a voxel's value comes from its neighbour."""
    field = Field(np.broadcast_to(np.array([2, 0, 0], np.float32), (10, 12, 9, 3)).copy(), np.diag([2.0, 2, 2, 1]))
    write_field(tmp_path / "field.nii.gz", field)
    return tmp_path / "field.nii.gz"


def test_maps_with_missing_values_and_constant_images_are_warped(shift, tmp_path, write_nifti):
    volume = np.random.default_rng(0).normal(size=(10, 12, 9)).astype(np.float32)
    volume[:, :5] = np.nan
    constant = np.full((10, 12, 9), 3, np.float32)
    for name, given in (("statistics", volume), ("constant", constant)):
        image = write_nifti(tmp_path / f"{name}.nii.gz", given, np.diag([2.0, 2, 2, 1]))
        assert run("warp", image, "--field", shift, "-o", tmp_path / f"{name}_warped.nii.gz") == 0
        found = values(tmp_path / f"{name}_warped.nii.gz")
        np.testing.assert_allclose(found[:-1], given[1:], atol=1e-5)  # NaN where the map has none
        np.testing.assert_array_equal(found[-1], 0)


def test_a_label_map_without_the_option_is_pointed_out(shift, tmp_path, write_nifti, capsys):
    rng = np.random.default_rng(0)
    label = write_nifti(tmp_path / "l.nii", rng.integers(0, 4, (10, 12, 9)).astype(np.uint8), np.diag([2.0, 2, 2, 1]))
    image = write_nifti(tmp_path / "i.nii", rng.integers(0, 900, (10, 12, 9)).astype(np.int16), np.diag([2.0, 2, 2, 1]))
    for path, options, told in ((label, [], True), (label, ["--labels"], False), (image, [], False)):
        assert run("warp", path, "--field", shift, "-o", tmp_path / "out.nii", "--overwrite", *options) == 0
        assert ("pass --labels" in capsys.readouterr().err) == told


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
    assert not list(tmp_path.glob("[wj].*")) and not (tmp_path / "out").exists()


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


def test_each_channel_has_a_file_of_its_own():
    assert warped_names(("image",)) == ["warped.nii.gz"]
    assert warped_names(("t1", "t2 (fat)")) == ["warped_t1.nii.gz", "warped_t2_fat_.nii.gz"]
    assert warped_names(("t(1)", "t[1]", "T 1 ")) == [f"warped_000{k}.nii.gz" for k in range(3)]
