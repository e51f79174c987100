"""Images of floating-point numbers: compressed otherwise, but the same NIfTI in one valid gzip stream."""

import gzip
import subprocess

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from deepatlas_tf.apply import files
from deepatlas_tf.types import DataError


def volume(kind=np.float32):
    return (
        np.where(np.arange(30 * 20 * 10) % 7, np.random.default_rng(0).normal(size=6000), 0)
        .reshape(30, 20, 10)
        .astype(kind)
    )


@pytest.mark.parametrize("chunk", [2**22, 1000, 24352])  # 24352 is the size of the file
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_it_is_one_gzip_stream_of_the_plain_file(kind, chunk, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "GZIP_CHUNK", chunk)
    for name in ("a.nii", "a.nii.gz"):
        files.save(tmp_path / name, volume(kind), np.diag([1.0, 2, 3, 1]), None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nii", "a.nii.gz"]
    plain, packed = ((tmp_path / name).read_bytes() for name in ("a.nii", "a.nii.gz"))
    # Python's reader checks length and checksum, and takes any number of streams; one object of zlib takes one
    assert gzip.decompress(packed) == plain
    assert files.zlib.decompress(packed, wbits=31) == plain
    subprocess.run(["gzip", "--test", tmp_path / "a.nii.gz"], check=True)
    np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / "a.nii.gz").dataobj), volume(kind))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.nii.gz"))).T, volume(kind))


def test_it_is_about_as_large_as_with_nibabel(tmp_path):
    nib.save(nib.Nifti1Image(volume(), np.eye(4)), tmp_path / "theirs.nii.gz")
    files.save(tmp_path / "ours.nii.gz", volume(), np.eye(4), None)
    sizes = [(tmp_path / f"{name}.nii.gz").stat().st_size for name in ("ours", "theirs")]
    assert sizes[0] < 1.02 * sizes[1]


def test_a_disk_that_is_full_leaves_nothing(tmp_path, monkeypatch):
    (tmp_path / "x.nii.gz").write_bytes(b"old")

    def fail(source, target):
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "_gzip", fail)
    with pytest.raises(DataError, match="No space left"):
        files.save(tmp_path / "x.nii.gz", volume(), np.eye(4), None)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("x.nii.gz", b"old")]
