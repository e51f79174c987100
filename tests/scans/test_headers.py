"""Files whose header declares what they do not hold, or what no scan is; and the two forms of a NIfTI header."""

import gzip
import itertools
import struct
import time
import tracemalloc

import nibabel as nib
import numpy as np
import pytest

from deepatlas_tf import messages
from deepatlas_tf.scans import headers, nifti
from deepatlas_tf.types import DataError

sitk = pytest.importorskip("SimpleITK")
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
# oblique, of three voxel sizes
AFFINE = np.array([[1.9, 0.3, 0, -20], [-0.6, 0.95, 0, 30], [0, 0, 1.5, -5], [0, 0, 0, 1.0]])
VOLUME = np.random.default_rng(0).integers(0, 200, (7, 6, 5)).astype(np.uint8)


def patched(path, values, volume=VOLUME, affine=AFFINE):
    """``path``, a NIfTI-1 file whose header is overwritten: (format, place) -> value."""
    plain = path.with_name(path.name.removesuffix(".gz"))
    nib.save(nib.Nifti1Image(volume, affine), plain)
    data = bytearray(plain.read_bytes())
    for (form, at), value in values.items():
        struct.pack_into(form, data, at, *np.atleast_1d(value).tolist())
    path.write_bytes(gzip.compress(bytes(data)) if path.name.endswith(".gz") else bytes(data))
    return path


def refusal(path, read=nifti.read_image):
    """The message of the refusal, which is one line, comes without a hang and takes little memory."""
    tracemalloc.start()
    start = time.process_time()
    with pytest.raises(DataError) as error:
        read(path, "s1")
    assert time.process_time() - start < 10
    assert tracemalloc.get_traced_memory()[1] < 2**26
    tracemalloc.stop()
    message = str(error.value)
    assert message.startswith("subject s1: ") and str(path) in message and "\n" not in message
    return message


DIM, PIXDIM, UNITS, SFORM, DATATYPE = ("<4h", 40), ("<3f", 80), ("<B", 123), ("<12f", 280), ("<2h", 70)


@pytest.mark.parametrize("read", [nifti.read_image, nifti.read_label])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize(("shape", "reason"), [((2000,) * 3, "more than 536870912"), ((700, 700, 700), "too short")])
def test_header_that_declares_more_than_the_file_holds(tmp_path, name, shape, reason, read):
    path = patched(tmp_path / name, {DIM: (3, *shape)}, affine=np.diag([0.1, 0.1, 0.1, 1]))
    assert reason in refusal(path, read) and " x ".join(map(str, shape)) in refusal(path, read)


def test_compressed_file_that_is_a_little_too_short(tmp_path):
    path = patched(tmp_path / "a.nii.gz", {DIM: (3, 8, 6, 5)})
    assert "too short for the 8 x 6 x 5 voxels" in refusal(path)


def test_compressed_stream_that_does_not_end(tmp_path):
    """A small header before hundreds of megabytes: decompressed in parts, and only as far as the header allows."""
    path = patched(tmp_path / "a.nii", {})
    zeros = gzip.compress(bytes(2**26))  # members of a gzip file follow one another
    path = path.rename(tmp_path / "b.nii.gz")
    path.write_bytes(gzip.compress(path.read_bytes()) + 8 * zeros)
    assert "far more than its header declares" in refusal(path)


def test_what_follows_the_last_voxel_is_left_alone(tmp_path):
    path = patched(tmp_path / "a.nii", {})
    path.write_bytes(path.read_bytes() + bytes(1000))
    np.testing.assert_array_equal(nifti.read_image(path, "s1").volume, VOLUME)


def test_compressed_file_with_nothing_in_it(tmp_path):
    """As many voxels as a large scan, of which a few kilobytes are left: memory is not taken for them."""
    path = patched(tmp_path / "a.nii", {DIM: (3, 750, 750, 750)}, affine=np.diag([0.1, 0.1, 0.1, 1]))
    head, zeros = path.read_bytes(), gzip.compress(bytes(2**24))
    path = path.rename(tmp_path / "b.nii.gz")
    path.write_bytes(gzip.compress(head) + zeros * (750**3 // 2**24 + 1))
    assert "next to nothing" in refusal(path, nifti.read_label)


def rows(affine):
    return np.asarray(affine, np.float32)[:3].ravel()


@pytest.mark.parametrize(
    ("affine", "reason"),
    [
        (np.diag([1e-6, 1e-6, 1e-6, 1]), "1e-06 x 1e-06 x 1e-06 mm"),
        (np.diag([100, 100, 100, 1]), "100 x 100 x 100 mm"),
        (np.diag([1000, 1, 1, 1]), "1e+03 x 1 x 1 mm"),
        (np.diag([1e38, 1e38, 1e38, 1]), "1e+38"),
        (np.diag([np.nan, 1, 1, 1]), "without a valid voxel size"),
        (AFFINE + np.pad([[0, 0, 0, 1e38]], [(0, 3), (0, 0)]), "first voxel at 1e+38"),
        (AFFINE + np.pad([[0, 0, 0, np.inf]], [(0, 3), (0, 0)]), "without a valid voxel size"),
    ],
)
def test_affine_that_no_scan_has(tmp_path, affine, reason):
    path = patched(tmp_path / "a.nii", {SFORM: rows(affine)})
    assert reason in refusal(path)
    assert "repair its header" in refusal(path, nifti.read_label)


def test_voxels_that_cover_a_room(tmp_path):
    path = patched(tmp_path / "a.nii", {}, np.zeros((60, 60, 60), np.uint8), np.diag([40.0, 40, 40, 1]))
    assert "cover 2.4e+03 x 2.4e+03 x 2.4e+03 mm" in refusal(path)


@pytest.mark.parametrize(("code", "unit"), [(1, "metres"), (3, "microns"), (1 + 8, "metres")])
def test_other_units_than_mm(tmp_path, code, unit):
    assert f"voxel size in {unit}; write it in mm" in refusal(patched(tmp_path / "a.nii", {UNITS: code}))


@pytest.mark.parametrize("code", [0, 2, 2 + 8])
def test_mm_or_no_unit(tmp_path, code):
    nifti.read_image(patched(tmp_path / "a.nii", {UNITS: code}), "s1")


def test_volumes_of_several_times_are_refused_before_they_are_read(tmp_path):
    path = patched(tmp_path / "a.nii", {("<5h", 40): (4, 300, 300, 300, 300)})
    assert "split it into one file for each" in refusal(path)


def test_pipe_is_not_waited_for(tmp_path):
    import os

    os.mkfifo(tmp_path / "a.nii")
    assert "is not a file" in refusal(tmp_path / "a.nii")


def moved(degrees, *shift):
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]) @ AFFINE + np.pad(
        np.reshape([*shift, 0], (4, 1)), [(0, 0), (3, 0)]
    )


ROTATED = np.linalg.qr(AFFINE[:3, :3])[0]
ROTATED = np.block([[ROTATED @ np.diag([2, 1, 1.5]), AFFINE[:3, 3:]], [np.zeros((1, 3)), 1]])  # without shears


@pytest.mark.parametrize(
    ("qform", "sform", "codes", "problem"),
    [
        (ROTATED, ROTATED, (1, 1), None),
        (ROTATED, ROTATED, (1, 2), None),
        (ROTATED, ROTATED + 1e-4, (1, 1), None),  # text with a few decimals
        (ROTATED, None, (1, 0), None),
        (None, ROTATED, (0, 4), None),
        (ROTATED, ROTATED + np.pad([[7.0]], [(0, 3), (3, 0)]), (1, 4), "7 mm apart (not the codes)"),
        (ROTATED, np.diag([-1, 1, 1, 1]) @ ROTATED, (1, 2), "apart"),
        (ROTATED, ROTATED, (0, 0), "neither a qform nor an sform"),
    ],
)
def test_forms_that_leave_the_place_in_doubt(tmp_path, qform, sform, codes, problem):
    image = nib.Nifti1Image(VOLUME, None)
    image.header.set_zooms((2, 1, 1.5))
    image.set_qform(qform, codes[0])
    image.set_sform(sform, codes[1])
    nib.save(image, tmp_path / "a.nii.gz")
    said = []
    found = nifti.read_image(tmp_path / "a.nii.gz", "s1", warn=said.append)
    np.testing.assert_allclose(found.affine, nib.load(tmp_path / "a.nii.gz").affine)
    if problem is None:
        assert said == [] and nifti.form_problem(tmp_path / "a.nii.gz") is None
        return
    (line,) = said
    assert problem.partition(" (not")[0] in line and line.startswith(f"subject s1: {tmp_path / 'a.nii.gz'} has ")
    assert "\n" not in line and (("is used" in line) or ("is read with" in line))


def test_a_doubtful_file_is_named_once(tmp_path, capsys):
    image = nib.Nifti1Image(VOLUME, ROTATED)
    image.set_sform(None, 0)
    nib.save(image, tmp_path / "a.nii")
    for _ in range(2):
        nifti.read_image(tmp_path / "a.nii", "s1")
        nifti.read_label(tmp_path / "a.nii", "s1")
    out, err = capsys.readouterr()
    assert out == "" and err.count("neither a qform nor an sform") == 1 and err.startswith("warning: subject s1: ")
    messages.warn("something else")
    assert "something else" in capsys.readouterr().err


def itk_affine(path):
    """The affine as ITK reads it, in NIfTI's directions."""
    image = sitk.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return LPS @ affine


@pytest.mark.parametrize("codes", [(0, 0), (1, 0), (0, 4), (1, 2), None])
def test_what_is_saved_lies_in_one_place_for_every_program(tmp_path, codes):
    """Whatever the forms of the scan were: nibabel and ITK read the affine that was used."""
    header = None
    if codes is not None:
        image = nib.Nifti1Image(VOLUME, None)
        image.set_qform(np.diag([3.0, 3, 3, 1]), codes[0])
        image.set_sform(np.diag([-2.0, 2, 2, 1]), codes[1])
        header = image.header
    for flip in itertools.product([1, -1], repeat=3):
        affine = ROTATED @ np.diag([*flip, 1.0])
        nifti.save(tmp_path / "a.nii.gz", VOLUME, affine, header)
        stored = nib.load(tmp_path / "a.nii.gz")
        expected = next((code for code in (codes or (0, 0))[::-1] if code), 2)
        assert (stored.header["qform_code"], stored.header["sform_code"]) == (expected, expected)
        np.testing.assert_allclose(stored.get_qform(), affine, atol=1e-4)
        np.testing.assert_allclose(stored.get_sform(), affine, atol=1e-5)
        np.testing.assert_allclose(itk_affine(tmp_path / "a.nii.gz"), affine, atol=1e-4)
        assert headers.form_problem(stored) is None
