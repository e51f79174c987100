import gzip
import struct

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from deepatlas_tf.scans import nifti
from deepatlas_tf.types import DataError

AFFINE = np.array([[0, 0, -2.0, 10], [1.5, 0, 0, -20], [0, -1.0, 0, 30], [0, 0, 0, 1]])


@pytest.fixture
def volume():
    return np.random.default_rng(0).normal(0, 1, (9, 8, 7)).astype(np.float32)


def test_read_image(tmp_path, write_nifti, volume):
    found = nifti.read_image(write_nifti(tmp_path / "a.nii.gz", volume, AFFINE), "a")
    np.testing.assert_array_equal(found.volume, volume)
    np.testing.assert_allclose(found.affine, AFFINE)
    assert found.volume.dtype == np.float32 and found.affine.dtype == np.float64


def test_fourth_axis_of_one_is_dropped(tmp_path, write_nifti, volume):
    assert nifti.read_image(write_nifti(tmp_path / "a.nii", volume[..., None]), "a").volume.shape == volume.shape
    assert nifti.read_image(write_nifti(tmp_path / "c.nii", volume[..., None, None]), "c").volume.shape == volume.shape
    two = write_nifti(tmp_path / "b.nii", np.stack([volume, volume], -1))
    with pytest.raises(DataError, match="subject b: .*shape.*split it"):
        nifti.read_image(two, "b")


@pytest.mark.parametrize("size", [0.0, -2.0])
@pytest.mark.parametrize("kind", ["NIfTI-1", "NIfTI-2"])
@pytest.mark.parametrize(("qform", "sform"), [(0, 0), (1, 0), (1, 1)])
def test_voxel_size_that_nibabel_would_replace(tmp_path, volume, capfd, size, kind, qform, sform):
    path = tmp_path / "a.nii"
    make = nib.Nifti1Image if kind == "NIfTI-1" else nib.Nifti2Image
    nib.save(make(volume, np.diag([2.0, 2.0, 2.0, 1.0])), path)
    data = bytearray(path.read_bytes())
    # where the two standards keep pixdim[1] and the codes of qform and sform
    for (code, at), value in zip(
        [("<f", 80), ("<h", 252), ("<h", 254)] if kind == "NIfTI-1" else [("<d", 112), ("<i", 344), ("<i", 348)],
        (size, qform, sform),
        strict=True,
    ):
        struct.pack_into(code, data, at, value)
    path.write_bytes(data)
    if sform:  # the affine is stored whole
        np.testing.assert_allclose(nifti.read_image(path, "a").affine, np.diag([2.0, 2.0, 2.0, 1.0]))
        return
    with pytest.raises(DataError) as error:
        nifti.read_image(path, "a")
    assert str(error.value).startswith(f"subject a: {path} has voxels of {size:g} x 2 x 2 mm")
    assert capfd.readouterr() == ("", "")  # one line, without nibabel's own


def test_scale_factors_are_applied(tmp_path):
    image = nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.eye(4))
    image.header.set_slope_inter(0.5, -3)
    nib.save(image, tmp_path / "a.nii.gz")
    header = nib.load(tmp_path / "a.nii.gz")
    np.testing.assert_allclose(nifti.read_image(tmp_path / "a.nii.gz", "a").volume, header.get_fdata())


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_label_may_be_stored_as_any_type(tmp_path, write_nifti, dtype):
    label = np.random.default_rng(0).integers(0, 208, (5, 6, 7))
    found = nifti.read_label(write_nifti(tmp_path / "a.nii.gz", label.astype(dtype)), "a").volume
    np.testing.assert_array_equal(found, label)
    assert found.dtype == np.int32


def broken_checksum(data):
    return data[:-8] + bytes([data[-8] ^ 0xFF]) + data[-7:]


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("a.nii.gz", lambda data: data[: len(data) // 2]),
        ("a.nii.gz", broken_checksum),
        ("a.nii.gz", lambda data: b"<html>not found</html>"),
        ("a.nii.gz", lambda data: gzip.compress(gzip.decompress(data)[:-100])),
        ("a.nii.gz", lambda data: b""),
        ("a.nii", lambda data: data[:-100]),
        ("a.nii", lambda data: data[:200]),
    ],
    ids=[
        "gzip truncated",
        "gzip checksum",
        "not gzip",
        "volume truncated",
        "empty",
        "nii truncated",
        "header truncated",
    ],
)
def test_damaged_file_is_one_line_with_subject_and_file(tmp_path, write_nifti, volume, name, damage):
    path = write_nifti(tmp_path / name, volume)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError) as error:
        nifti.read_image(path, "a7")
    message = str(error.value)
    assert "subject a7" in message and str(path) in message and "\n" not in message


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match="subject a: cannot read"):
        nifti.read_label(tmp_path / "a.nii.gz", "a")


@pytest.mark.parametrize(
    ("dtype", "reason"),
    [(np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]), "colours"), (np.complex64, "complex64")],
)
def test_colours_and_complex_numbers_are_refused(tmp_path, write_nifti, dtype, reason):
    path = write_nifti(tmp_path / "a.nii.gz", np.zeros((4, 5, 6), dtype))
    with pytest.raises(DataError, match=f"subject a: {path} holds {reason}"):
        nifti.read_image(path, "a")


def test_file_that_may_not_be_read(tmp_path, write_nifti, volume, monkeypatch):
    """As for another user than root."""
    path = write_nifti(tmp_path / "a.nii.gz", volume)

    def refuse(*_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(gzip, "open", refuse)
    with pytest.raises(DataError, match="subject a: cannot read .*Permission denied.*check path and permissions"):
        nifti.read_image(path, "a")


def test_link_that_leads_to_itself(tmp_path):
    (tmp_path / "a.nii.gz").symlink_to(tmp_path / "a.nii.gz")
    with pytest.raises(DataError, match="subject a: cannot read .*a.nii.gz .*symbolic links"):
        nifti.read_image(tmp_path / "a.nii.gz", "a")


def test_image_and_label_checks_run(tmp_path, write_nifti, volume):
    with pytest.raises(DataError, match="not integers"):
        nifti.read_label(write_nifti(tmp_path / "a.nii", volume), "a")
    with pytest.raises(DataError, match="constant"):
        nifti.read_image(write_nifti(tmp_path / "b.nii", np.ones((3, 3, 3), np.float32)), "b")


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32])
def test_saved_file_has_values_affine_and_header(tmp_path, dtype):
    header = nib.Nifti1Header()
    header.set_xyzt_units("mm", "sec")
    header.set_slope_inter(0.01, 5)  # of the scan; must not be applied to the labels
    header["descrip"] = b"scanner"
    volume = np.arange(120).reshape(4, 5, 6).astype(dtype)
    nifti.save(tmp_path / "out.nii.gz", volume, AFFINE, header)
    found = nib.load(tmp_path / "out.nii.gz")
    np.testing.assert_array_equal(np.asarray(found.dataobj), volume)
    np.testing.assert_allclose(found.affine, AFFINE)
    assert found.header["descrip"].item() == b"scanner" and found.header.get_xyzt_units() == ("mm", "sec")
    assert found.get_data_dtype() == (np.int32 if dtype == np.int64 else dtype)


def test_displacement_field_is_saved_with_its_components(tmp_path):
    field = np.random.default_rng(0).normal(0, 1, (4, 5, 6, 3)).astype(np.float32)
    nifti.save(tmp_path / "u.nii.gz", field, AFFINE)
    np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / "u.nii.gz").dataobj), field)


@pytest.mark.parametrize("axis", [None, 0, 1, 2])
def test_slice(tmp_path, write_nifti, axis):
    """Stored as (X, Y), or with an axis of one voxel anywhere."""
    values = np.random.default_rng(0).normal(0, 1, (9, 7)).astype(np.float32)
    path = write_nifti(tmp_path / "a.nii.gz", values if axis is None else np.expand_dims(values, axis), AFFINE)
    assert nifti.count_axes(path, "a") == 2
    found = nifti.read_image(path, "a", 2)
    np.testing.assert_array_equal(found.volume, values)
    kept = [k for k in range(3) if k != (2 if axis is None else axis)]
    rows = [k for k in range(3) if AFFINE[k, kept].any()]  # AFFINE runs along the world axes
    np.testing.assert_allclose(found.affine[:2, :2], AFFINE[np.ix_(rows, kept)], atol=1e-6)
    np.testing.assert_allclose(found.affine[:2, 2], AFFINE[rows, 3])
    np.testing.assert_array_equal(found.affine[2], [0, 0, 1])


def test_oblique_slice_keeps_its_voxel_sizes(tmp_path, write_nifti):
    affine = np.eye(4)
    turn = Rotation.from_euler("xyz", [25, -15, 10], degrees=True).as_matrix()
    affine[:3, :3] = turn * [0.5, 0.8, 4.0]
    values = np.random.default_rng(0).normal(0, 1, (9, 7, 1)).astype(np.float32)
    found = nifti.read_image(write_nifti(tmp_path / "a.nii", values, affine), "a", 2).affine[:2, :2]
    np.testing.assert_allclose(np.linalg.norm(found, axis=0), [0.5, 0.8], rtol=1e-6)
    assert abs(found[:, 0] @ found[:, 1]) < 1e-6  # still at right angles
    assert abs(np.degrees(np.arctan2(found[1, 0], found[0, 0])) - 10) < 5


def test_slice_of_unknown_thickness(tmp_path):
    """2D files need not say how thick the slice is: pixdim[3] is 0."""
    path = tmp_path / "a.nii"
    image = nib.Nifti1Image(np.arange(12, dtype=np.float32).reshape(4, 3), None)
    image.header.set_zooms((0.5, 2.0))
    image.header["pixdim"][3] = 0
    nib.save(image, path)
    np.testing.assert_allclose(np.abs(nifti.read_image(path, "a", 2).affine[:2, :2]), np.diag([0.5, 2.0]))


def test_slice_where_a_volume_is_needed_and_the_reverse(tmp_path, write_nifti, volume):
    flat, deep = write_nifti(tmp_path / "flat.nii", volume[0]), write_nifti(tmp_path / "deep.nii", volume)
    assert nifti.count_axes(deep, "b") == 3
    with pytest.raises(DataError, match="subject a: .*one 3D volume"):
        nifti.read_image(flat, "a")
    with pytest.raises(DataError, match="subject b: .*one 2D slice"):
        nifti.read_label(write_nifti(deep, np.zeros((4, 4, 4), np.uint8)), "b", 2)
    with pytest.raises(DataError, match="subject c: cannot read"):
        nifti.count_axes(tmp_path / "c.nii", "c")


@pytest.mark.parametrize("axis", [None, 0, 2])
def test_saved_slice_lies_where_the_scan_was(tmp_path, write_nifti, axis):
    values = np.random.default_rng(0).integers(0, 4, (9, 7)).astype(np.uint8)
    path = write_nifti(tmp_path / "a.nii", values if axis is None else np.expand_dims(values, axis), AFFINE)
    slice_, scan = nifti.read_label(path, "a", 2), nib.load(path)
    nifti.save(tmp_path / "b.nii", slice_.volume.astype(np.uint8), slice_.affine, scan.header)
    found = nib.load(tmp_path / "b.nii")
    np.testing.assert_array_equal(found.get_fdata().squeeze(), values)
    np.testing.assert_allclose(found.affine, AFFINE)
    nifti.save(tmp_path / "c.nii", values, np.diag([2.0, 3.0, 1.0]))
    np.testing.assert_allclose(nib.load(tmp_path / "c.nii").affine, np.diag([2.0, 3.0, 1.0, 1.0]))


LARGE = [614454276, 614454277, 312782546, 312782548]  # structures of the Allen atlas, closer than float32 resolves


@pytest.mark.parametrize("dtype", [np.uint32, np.int32, np.int64, np.uint64, np.float64])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_large_label_numbers_are_not_rounded(tmp_path, dtype, name):
    label = np.resize([0, *LARGE], (5, 6, 7)).astype(dtype)
    nib.save(nib.Nifti1Image(label, np.eye(4), dtype=dtype), tmp_path / name)
    found = nifti.read_label(tmp_path / name, "a").volume
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, label)


@pytest.mark.parametrize(("dtype", "number"), [(np.uint32, 2**32 - 1), (np.int64, 2**53 + 1), (np.uint64, 2**63 - 1)])
def test_label_numbers_beyond_32_bits(tmp_path, dtype, number):
    label = np.resize(np.array([0, 1, number], dtype), (5, 6, 7))
    nib.save(nib.Nifti1Image(label, np.eye(4), dtype=dtype), tmp_path / "a.nii.gz")
    found = nifti.read_label(tmp_path / "a.nii.gz", "a").volume
    assert found.dtype == np.int64 and set(np.unique(found).tolist()) == {0, 1, number}
    nifti.save(tmp_path / "b.nii.gz", found, np.eye(4))
    assert set(np.unique(nifti.read_label(tmp_path / "b.nii.gz", "b").volume).tolist()) == {0, 1, number}


def test_label_number_that_no_integer_of_64_bits_is(tmp_path):
    label = np.full((5, 6, 7), 2**64 - 1, np.uint64)
    nib.save(nib.Nifti1Image(label, np.eye(4), dtype=np.uint64), tmp_path / "a.nii")
    with pytest.raises(DataError, match="subject a: label map .* number that is too large"):
        nifti.read_label(tmp_path / "a.nii", "a")


@pytest.mark.parametrize(("slope", "offset"), [(1, 0), (2, 0), (1, -1024), (3, 7)])
def test_scaled_label_numbers_are_not_rounded(tmp_path, slope, offset):
    stored = np.resize(np.array([0, *LARGE], np.int32), (5, 6, 7))
    image = nib.Nifti1Image(stored, np.eye(4))
    image.header.set_slope_inter(slope, offset)
    nib.save(image, tmp_path / "a.nii.gz")
    # nibabel scales what it is given when it saves; what is stored is compared
    proxy = nib.load(tmp_path / "a.nii.gz").dataobj
    expected = np.asarray(proxy.get_unscaled()).astype(object) * int(proxy.slope) + int(proxy.inter)
    assert (proxy.slope, proxy.inter) == (slope, offset)
    np.testing.assert_array_equal(nifti.read_label(tmp_path / "a.nii.gz", "a").volume.astype(object), expected)


def test_label_numbers_with_a_broken_scale_factor(tmp_path):
    image = nib.Nifti1Image(np.resize(np.arange(5, dtype=np.int16), (5, 6, 7)), np.eye(4))
    image.header.set_slope_inter(0.3, 0)  # a third of a class
    nib.save(image, tmp_path / "a.nii")
    struct_at = 112  # scl_slope; nibabel has divided the numbers by it
    data = bytearray((tmp_path / "a.nii").read_bytes())
    assert struct.unpack_from("<f", data, struct_at)[0] == np.float32(0.3)
    struct.pack_into("<f", data, struct_at, 0.5)
    (tmp_path / "a.nii").write_bytes(data)
    with pytest.raises(DataError, match="not integers"):
        nifti.read_label(tmp_path / "a.nii", "a")


@pytest.mark.parametrize("name", ["slice.png", "scan.mha"])
def test_another_format_is_to_be_converted(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x89PNG\r\n" * 100)
    for read in (nifti.read_image, nifti.read_label, nifti.count_axes):
        with pytest.raises(DataError, match=f"subject a: .*{name} is no NIfTI file; convert it to .nii.gz"):
            read(tmp_path / name, "a")
