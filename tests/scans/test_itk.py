import builtins

import nibabel as nib
import numpy as np
import pytest

from deepatlas_tf.datasets.oai_knee.make_dummy_data import scan_affine, write_series
from deepatlas_tf.scans import itk
from deepatlas_tf.types import DataError

sitk = pytest.importorskip("SimpleITK")

IMAGE = np.random.default_rng(0).integers(0, 900, (5, 6, 7)).astype(np.int16)  # left, posterior, superior
OBLIQUE = scan_affine("left", 9)


@pytest.fixture
def series(tmp_path):
    write_series(tmp_path / "9000001", IMAGE, OBLIQUE, {"0020|000e": "1.2.3", "0020|0060": "L"})
    return tmp_path / "9000001"


def at_points(volume, affine, grid_affine, shape):
    """``volume`` at the voxels of another grid, both of the same world."""
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    index = nib.affines.apply_affine(np.linalg.inv(affine) @ grid_affine, grid)
    np.testing.assert_allclose(index, np.rint(index), atol=1e-3)
    return volume[tuple(np.rint(index).astype(int).reshape(-1, 3).T)].reshape(shape)


def test_series_puts_each_voxel_where_the_standard_says(series):
    image = itk.read_series(series, "9000001")
    assert image.volume.dtype == np.float32 and sorted(image.volume.shape) == [5, 6, 7]
    # the affine the volume was written with: LPS tags, RAS result
    np.testing.assert_array_equal(at_points(image.volume, image.affine, OBLIQUE, IMAGE.shape), IMAGE)


def test_affine_follows_from_the_tags(series):
    image = itk.read_series(series, "9000001")
    expected = np.eye(4)  # DICOM PS3.3, C.7.6.2.1.1, from the tags as text
    first, last = _tags(series / "001"), _tags(series / "005")
    row, column = np.array(first["0020|0037"]).reshape(2, 3)
    down, across = first["0028|0030"]
    # the normal leads to the right, so that the last file is the first slice
    expected[:3, 0], expected[:3, 1] = row * across, column * down
    expected[:3, 2] = (np.array(first["0020|0032"]) - last["0020|0032"]) / (len(IMAGE) - 1)
    expected[:3, 3] = last["0020|0032"]
    np.testing.assert_allclose(image.affine, np.diag([-1, -1, 1, 1]) @ expected, atol=1e-4)


def _tags(path):
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    names = ("0020|0032", "0020|0037", "0028|0030")
    return {name: [float(value) for value in reader.GetMetaData(name).split("\\")] for name in names}


def test_same_grid_as_the_series_reader_of_itk(series):
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(series)))
    reference = reader.Execute()
    image = itk.read_series(series, "9000001")
    np.testing.assert_array_equal(image.volume, sitk.GetArrayFromImage(reference).T)
    for index in ((0, 0, 0), (3, 2, 4)):
        x, y, z = reference.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose(nib.affines.apply_affine(image.affine, index), (-x, -y, z), atol=1e-4)


def test_names_of_the_files_do_not_matter(series):
    before = itk.read_series(series, "s")
    (series / "001").rename(series / "zzz.dcm")
    (series / ".DS_Store").write_text("macOS")
    (series / "DICOMDIR").write_text("index")
    after = itk.read_series(series, "s")
    np.testing.assert_array_equal(after.volume, before.volume)
    np.testing.assert_array_equal(after.affine, before.affine)


def missing_slice(series):
    (series / "003").unlink()
    return "4 mm|8 mm.*missing", "002"


def slice_twice(series):
    (series / "copy").write_bytes((series / "003").read_bytes())
    return "twice", "003"


def two_series(series):
    other = series.parent / "other"
    write_series(other, IMAGE, OBLIQUE, {"0020|000e": "1.2.99"})
    for path in other.iterdir():
        path.rename(series / f"b{path.name}")
    return "two series", "b001"


def other_size(series):
    other = series.parent / "other"
    write_series(other, np.pad(IMAGE, ((0, 0), (0, 1), (0, 0))), OBLIQUE, {"0020|000e": "1.2.3"})
    (other / "004").replace(series / "004")
    return "has size", "004"


def other_orientation(series):
    other = series.parent / "other"
    write_series(other, IMAGE, scan_affine("left", 12), {"0020|000e": "1.2.3"})
    (other / "004").replace(series / "004")
    return "another orientation", "004"


def truncated(series):
    (series / "002").write_bytes((series / "002").read_bytes()[:-20])
    return "cannot read", "002"


def not_dicom(series):
    (series / "notes.txt").write_text("left knee")
    return "cannot read", "notes.txt"


def one_slice(series):
    for name in ("002", "003", "004", "005"):
        (series / name).unlink()
    return "1 slice", "9000001"


def empty(series):
    for path in series.iterdir():
        path.unlink()
    return "0 slice", "9000001"


SPOILS = [
    missing_slice,
    slice_twice,
    two_series,
    other_size,
    other_orientation,
    truncated,
    not_dicom,
    one_slice,
    empty,
]


@pytest.mark.parametrize("spoil", SPOILS)
def test_unusable_series_gives_one_line(series, spoil):
    pattern, file = spoil(series)
    with pytest.raises(DataError, match=pattern) as error:
        itk.read_series(series, "9000001")
    message = str(error.value)
    assert message.startswith("subject 9000001: ") and file in message and "\n" not in message


def test_constant_series(tmp_path):
    write_series(tmp_path / "s", np.full_like(IMAGE, 3), OBLIQUE, {})
    with pytest.raises(DataError, match="constant"):
        itk.read_series(tmp_path / "s", "9000001")


def test_tags(series):
    tags = itk.read_tags(series, "9000001", ("0020|0060", "0020|0062"))
    assert tags == {"0020|0060": "L"}  # without DICOM's padding; the other one is not there
    (series / "000").write_text("hello")
    with pytest.raises(DataError, match="000 as a DICOM image"):
        itk.read_tags(series, "9000001", ("0020|0060",))


def test_series_folders(series):
    root = series.parent
    (root / "empty" / "deeper").mkdir(parents=True)
    (root / ".DS_Store").write_text("macOS")
    assert itk.series_folders(root) == [series]


def write_mask(path, volume, spacing=(1.0, 2.0, 3.0)):
    image = sitk.GetImageFromArray(volume)
    image.SetSpacing(spacing[: volume.ndim])
    if volume.ndim == 3:
        image.SetOrigin((10, 20, 30))
    sitk.WriteImage(image, path)
    return path


@pytest.mark.parametrize("name", ["9000001.segmentation_masks.mhd", "9000001.mha"])
def test_label_of_a_metaimage(tmp_path, name):
    volume = np.random.default_rng(1).integers(0, 5, (3, 4, 5)).astype(np.uint8)  # z, y, x
    label = itk.read_label(write_mask(tmp_path / name, volume), "9000001")
    np.testing.assert_array_equal(label.volume, volume.T)
    assert label.volume.dtype == np.int32
    np.testing.assert_array_equal(label.affine, [[-1, 0, 0, -10], [0, -2, 0, -20], [0, 0, 3, 30], [0, 0, 0, 1]])


def raw_missing(path):
    path.with_suffix(".raw").unlink()
    return "cannot read"


def raw_short(path):
    path.with_suffix(".raw").write_bytes(b"0123")
    return "cannot read"


def half_labels(path):
    write_mask(path, np.full((3, 4, 5), 0.5, np.float32))
    return "not integers"


def flat(path):
    write_mask(path, np.ones((4, 5), np.uint8))
    return "one 3D volume"


@pytest.mark.parametrize("spoil", [raw_missing, raw_short, half_labels, flat])
def test_unusable_metaimage_gives_one_line(tmp_path, spoil):
    path = write_mask(tmp_path / "9000001.mhd", np.ones((3, 4, 5), np.uint8))
    pattern = spoil(path)
    with pytest.raises(DataError, match=pattern) as error:
        itk.read_label(path, "9000001")
    message = str(error.value)
    assert message.startswith("subject 9000001: ") and "9000001.mhd" in message and "\n" not in message


def test_without_simpleitk(monkeypatch, series):
    real_import = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "SimpleITK":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DataError, match=r"subject 9000001: .*001 needs SimpleITK.*-e '.\[itk\]'"):
        itk.read_series(series, "9000001")
