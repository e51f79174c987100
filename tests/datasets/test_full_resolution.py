"""The scans at their own resolution, as a second prepared data set."""

import csv

import numpy as np
import pytest

from deepatlas_tf.datasets.folds import fold_of
from deepatlas_tf.datasets.full_resolution import full_resolution_grid, load_full_resolution
from deepatlas_tf.datasets.load import load_dataset
from deepatlas_tf.scans.intensity import rescale
from deepatlas_tf.types import DataError, SettingError

COARSE = {"3D": ((8, 8, 8), (3.0, 3.0, 3.0)), "2D": ((8, 8), (3.0, 3.0))}


@pytest.fixture(params=COARSE)
def scans(request, tmp_path, write_nifti):
    """(dataset, its folder, arrays by subject, data_dir): scans with flipped axes, one of them coarser and smaller."""
    n_axes = int(request.param[0])
    rows, arrays = [["subject", "image", "label", "split"]], {}
    for k, split in enumerate(["train", "train", "train", "test"]):
        rng = np.random.default_rng(k)
        shape = ((21, 16, 9) if k else (14, 15, 9))[:n_axes]
        sizes = np.array(((1.0, 1.5, 2.0) if k else (1.4, 1.5, 2.0))[:n_axes])
        affine = np.diag([-1.0, 1.0, 1.0, 1.0])
        affine[range(n_axes), range(n_axes)] *= sizes
        image, label = rng.gamma(2, 100, shape).astype(np.float32), rng.choice([0, 3, 7], shape).astype(np.uint8)
        arrays[f"s{k}"] = image, label
        write_nifti(tmp_path / f"s{k}.nii.gz", image if n_axes == 3 else image[..., None], affine)
        write_nifti(tmp_path / f"s{k}_label.nii.gz", label if n_axes == 3 else label[..., None], affine)
        rows.append([f"s{k}", f"s{k}.nii.gz", "" if k == 2 else f"s{k}_label.nii.gz", split])
    with open(tmp_path / "scans.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    shape, spacing = COARSE[request.param]
    listed = tmp_path / "scans.csv"
    dataset = load_dataset("nifti", data_dir=listed, workdir=tmp_path / "run", shape=shape, spacing=spacing)
    return dataset, tmp_path / "run" / "full_resolution", arrays, listed


@pytest.mark.slow
def test_the_records_are_the_scans(scans):
    """Against NumPy: the voxels of a scan of the median size, turned to RAS, in the middle of the grid."""
    dataset, place, arrays, listed = scans
    fine = load_full_resolution(dataset, place, data_dir=listed)
    n_axes = len(dataset.shape)
    assert fine.spacing == (1.0, 1.5, 2.0)[:n_axes] and fine.shape == (24, 16, 16)[:n_axes]
    assert (fine.subjects, fine.labelled, fine.class_names) == (dataset.subjects, dataset.labelled, dataset.class_names)
    assert fine.class_names == ("background", "class_3", "class_7")
    for split in ("train", "test"):
        for record in fine.records(split).as_numpy_iterator():
            subject = record["subject"].decode()
            image, label = arrays[subject]
            classes = np.searchsorted([0, 3, 7], label)
            expected = np.zeros_like(classes) if subject == "s2" else classes
            np.testing.assert_array_equal(record["own_label"], expected)
            if subject == "s0":
                continue  # which is resampled
            inside = tuple(slice((m - n) // 2, (m - n) // 2 + n) for n, m in zip(image.shape, fine.shape, strict=True))
            np.testing.assert_allclose(record["image"][inside][..., 0], rescale(image)[::-1], atol=1e-6)
            np.testing.assert_array_equal(record["label"][inside], expected[::-1])
    turned = load_full_resolution(fold_of(dataset, 1, 3), place, data_dir=listed)  # reads the same records
    assert [r["subject"].decode() for r in turned.records("test").as_numpy_iterator()] == list(turned.subjects["test"])
    assert turned.builder.data_dir == fine.builder.data_dir and turned.subjects != fine.subjects
    again = load_full_resolution(dataset, place)  # the only copy there
    assert again.builder.data_dir == fine.builder.data_dir


@pytest.mark.slow
def test_a_spacing_that_is_named(scans):
    dataset = scans[0]
    n_axes = len(dataset.shape)
    shape, spacing = full_resolution_grid(dataset, (2.0,) * n_axes)
    assert spacing == (2.0,) * n_axes and shape == (16, 16, 16)[:n_axes]  # 21, 24 and 18 mm
    with pytest.raises(SettingError, match="voxel sizes above 0, not"):
        full_resolution_grid(dataset, (1.0,))
    with pytest.raises(DataError, match="is no finer: leave it out"):
        full_resolution_grid(dataset, (3.0,) * n_axes)


def test_what_has_no_finer_grid_is_refused(tmp_path):
    dataset = load_dataset("phantom_knee", data_dir=tmp_path, shape=(16, 16), spacing=(7.5, 7.5), n_subjects=6)
    with pytest.raises(DataError, match="--full-resolution: phantom_knee is synthetic"):
        full_resolution_grid(dataset)


def test_aligned_scans_are_refused(own_scans, tmp_path):
    aligned = load_dataset(
        "nifti",
        data_dir=own_scans(n=3, shape=(16, 16, 16)),
        workdir=tmp_path,
        shape=(8, 8, 8),
        spacing=(2.0, 2.0, 2.0),
        alignment="rigid",
    )
    with pytest.raises(SettingError, match="leave out data.alignment=rigid"):
        full_resolution_grid(aligned)
