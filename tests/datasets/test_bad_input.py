"""Every kind of bad input: one line that names the subject or file, status 1 or 2, and no half-built data set."""

import errno
import gzip
import importlib
import struct

import nibabel as nib
import numpy as np
import pytest

from deepatlas_tf.cli import main
from deepatlas_tf.datasets.load import load_dataset
from deepatlas_tf.types import DataError

SHAPE = (10, 9, 8)
IMAGE, LABEL = "images/s1.nii.gz", "labels/s1.nii.gz"


def rewrite(path, change):
    path.write_bytes(change(path.read_bytes()))


def inside_gzip(path, change):
    rewrite(path, lambda data: gzip.compress(change(gzip.decompress(data))))


def set_header(path, code, position, value):
    """One number in the NIfTI-1 header, and neither sform nor qform, so that the voxel sizes count."""

    def change(data):
        data = bytearray(data)
        struct.pack_into("<hh", data, 252, 0, 0)
        struct.pack_into(code, data, position, value)
        return bytes(data)

    inside_gzip(path, change)


def loop(path):
    path.unlink()
    path.symlink_to(path)


def save(path, volume, affine=None):
    nib.save(nib.Nifti1Image(volume, np.eye(4) if affine is None else affine), path)


def with_nan(path):
    volume = nib.load(path).get_fdata(dtype=np.float32)
    volume[3, 4, 5] = np.nan
    save(path, volume)


def labels(value, shape=SHAPE, dtype=np.uint8):
    volume = np.zeros(shape, dtype)
    volume[2, 2, 2] = value
    return volume


def edit(path, old, new):
    path.write_text(path.read_text().replace(old, new))


RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
# name -> (how the folder of the CSV is spoilt, words of the message)
CASES = {
    "corrupt gzip": (
        lambda f: rewrite(f / IMAGE, lambda d: d[:-8] + b"12345678"),
        ["subject s1", IMAGE, "cannot read"],
    ),
    "truncated gzip": (lambda f: rewrite(f / IMAGE, lambda d: d[:300]), ["subject s1", IMAGE, "cannot read"]),
    "truncated NIfTI": (lambda f: inside_gzip(f / IMAGE, lambda d: d[:-50]), ["subject s1", IMAGE, "cannot read"]),
    "truncated header": (lambda f: inside_gzip(f / LABEL, lambda d: d[:100]), ["subject s1", LABEL, "cannot read"]),
    "empty file": (lambda f: (f / IMAGE).write_bytes(b""), ["subject s1", IMAGE, "cannot read"]),
    "a web page": (lambda f: (f / LABEL).write_text("<html>"), ["subject s1", LABEL, "cannot read"]),
    "4D image": (lambda f: save(f / IMAGE, np.ones((*SHAPE, 2), np.int16)), ["subject s1", IMAGE, "split it"]),
    "RGB image": (lambda f: save(f / IMAGE, np.zeros(SHAPE, RGB)), ["subject s1", IMAGE, "colours"]),
    "constant image": (lambda f: save(f / IMAGE, np.ones(SHAPE, np.int16)), ["subject s1", IMAGE, "constant"]),
    "NaN voxels": (lambda f: with_nan(f / IMAGE), ["subject s1", IMAGE, "1 voxel that is NaN"]),
    "symlink loop": (lambda f: loop(f / IMAGE), ["subject s1", IMAGE, "symbolic links", "line 3"]),
    "zero spacing": (lambda f: set_header(f / IMAGE, "<f", 84, 0.0), ["subject s1", IMAGE, "1 x 0 x 1 mm"]),
    "negative spacing": (lambda f: set_header(f / LABEL, "<f", 88, -2.0), ["subject s1", LABEL, "1 x 1 x -2 mm"]),
    "label not integer": (lambda f: save(f / LABEL, labels(3.4, dtype=np.float32)), ["subject s1", LABEL, "3.4"]),
    "label not declared": (lambda f: save(f / LABEL, labels(9)), ["subject s1", LABEL, "declare", ": 9"]),
    "negative label": (lambda f: save(f / LABEL, labels(-3, dtype=np.int16)), ["subject s1", LABEL, "-3"]),
    "other shape": (lambda f: save(f / LABEL, labels(3, (10, 9, 7))), ["subject s1", LABEL, "shape"]),
    "other affine": (lambda f: save(f / LABEL, labels(3), np.diag([1, 1, 1.1, 1])), ["subject s1", LABEL, "affines"]),
    "duplicate subject": (lambda f: edit(f / "scans.csv", "s3,", "s1,"), ["subject s1", "line 5", "twice"]),
    "unknown column": (lambda f: edit(f / "scans.csv", "label", "labels"), ["scans.csv", "'labels'", "label?"]),
    "missing path": (lambda f: (f / LABEL).unlink(), ["subject s1", "line 3", LABEL, "does not exist"]),
    "no scans": (lambda f: (f / "scans.csv").write_text("subject,image,label\n"), ["scans.csv", "lists no scan"]),
}


@pytest.fixture
def spoilt(own_scans):
    """make(case) -> CSV with four good scans and subject s1, which is not."""

    def make(case, names=True):
        path = own_scans(n=5, shape=SHAPE)
        if names:
            (path.parent / "labels.csv").write_text("number,name\n3,femur\n7,tibia\n")
        CASES[case][0](path.parent)
        return path

    return make


def check_message(message, case):
    assert all(word in message for word in CASES[case][1]) and "\n" not in message


@pytest.mark.parametrize("grid", [{}, {"shape": (8, 8, 8), "spacing": (1, 1, 1)}], ids=["grid chosen", "grid given"])
@pytest.mark.parametrize("case", CASES)
def test_one_line_and_nothing_left(tmp_path, spoilt, case, grid):
    with pytest.raises(DataError) as error:
        load_dataset("nifti", data_dir=spoilt(case), workdir=tmp_path / "work", **grid)
    check_message(str(error.value), case)
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    "case", ["truncated gzip", "NaN voxels", "negative label", "label not integer", "other affine"]
)
def test_the_same_where_no_class_is_named(tmp_path, spoilt, case):
    with pytest.raises(DataError) as error:
        load_dataset("nifti", data_dir=spoilt(case, names=False), workdir=tmp_path / "work")
    check_message(str(error.value), case)
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("case", ["corrupt gzip", "4D image", "label not declared", "unknown column", "missing path"])
def test_command_line(tmp_path, spoilt, case, capsys):
    work = tmp_path / "work"
    assert main(["train", "--dataset", "nifti", "--data-dir", str(spoilt(case)), "--workdir", str(work)]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and captured.out == ""
    check_message(captured.err.strip(), case)
    assert not work.exists()


def test_command_line_without_scans(tmp_path, capsys):
    arguments = ["train", "--dataset", "nifti", "--workdir", str(tmp_path / "work")]
    assert main(arguments) == 2
    error = capsys.readouterr().err  # nothing was named: the layouts are shown
    assert error.startswith("error: Your scans were not named, ")
    assert "subject,image,label,split" in error and "imagesTr" in error
    for source, reason in ((tmp_path / "nowhere", "no such file or folder"), (tmp_path, "no imagesTr in it")):
        assert main([*arguments, "--data-dir", str(source)]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {source}: there is {reason}") and error.count("\n") == 1
    assert not (tmp_path / "work").exists()


def test_file_that_may_not_be_read(tmp_path, own_scans, monkeypatch):
    """As for another user than root."""
    path, opened = own_scans(n=5), gzip.open

    def refuse(file, *arguments):
        if str(file).endswith(LABEL):
            raise PermissionError(errno.EACCES, "Permission denied", str(file))
        return opened(file, *arguments)

    monkeypatch.setattr(gzip, "open", refuse)
    with pytest.raises(DataError, match="subject s1: cannot read .*labels/s1.nii.gz .Permission denied.*permissions"):
        load_dataset("nifti", data_dir=path, workdir=tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_disk_full(tmp_path, own_scans, monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    writer = importlib.import_module("tensorflow_datasets.core.writer")
    monkeypatch.setattr(writer.Writer, "finalize", full)
    work = tmp_path / "work"
    assert main(["train", "--dataset", "nifti", "--data-dir", str(own_scans()), "--workdir", str(work)]) == 1
    error = capsys.readouterr().err.strip()
    assert str(work) in error and "no space left" in error and "\n" not in error
    assert not work.exists()


FOLDER_CASES = {
    "corrupt gzip": lambda f: rewrite(f / "imagesTr/c2.nii.gz", lambda d: d[:-8] + b"12345678"),
    "4D image": lambda f: save(f / "imagesTr/c2.nii.gz", np.ones((*SHAPE, 2), np.int16)),
    "RGB image": lambda f: save(f / "imagesTr/c2.nii.gz", np.zeros(SHAPE, RGB)),
    "empty file": lambda f: (f / "labelsTr/c2.nii.gz").write_bytes(b""),
    "symlink loop": lambda f: loop(f / "imagesTr/c2.nii.gz"),
    "zero spacing": lambda f: set_header(f / "imagesTr/c2.nii.gz", "<f", 80, 0.0),
    "label not integer": lambda f: save(f / "labelsTr/c2.nii.gz", labels(0.5, dtype=np.float32)),
    "NaN voxels": lambda f: with_nan(f / "imagesTr/c2.nii.gz"),
    "duplicate subject": lambda f: save(f / "imagesTr/c2.nii", labels(3)),
}


@pytest.mark.parametrize("name", ["hippocampus", "nifti"])
@pytest.mark.parametrize("case", FOLDER_CASES)
def test_folder_of_scans(tmp_path, write_nifti, name, case):
    """A published data set, and the same folder as one's own."""
    folder = tmp_path / "Task04_Hippocampus"
    for k in range(5):
        image = np.random.default_rng(k).gamma(2, 100, SHAPE).astype(np.float32)
        write_nifti(folder / f"imagesTr/c{k}.nii.gz", image)
        write_nifti(folder / f"labelsTr/c{k}.nii.gz", labels(1))
    FOLDER_CASES[case](folder)
    with pytest.raises(DataError) as error:
        load_dataset(name, data_dir=tmp_path / "kept", manual_dir=folder, shape=(8, 8, 8), spacing=(1, 1, 1))
    message = str(error.value)
    assert "subject c2" in message and "c2.nii" in message and "\n" not in message
    assert not (tmp_path / "kept").exists()
