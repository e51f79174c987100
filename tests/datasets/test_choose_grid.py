import nibabel as nib
import numpy as np
import pytest

from deepatlas_tf.datasets import choose_grid as module
from deepatlas_tf.datasets.choose_grid import Fingerprint, WantedGrid, choose_grid, common_axes, fingerprint
from deepatlas_tf.datasets.listing import ListedScan
from deepatlas_tf.types import DataError, SettingError


def row(subject, image, label=None):
    return ListedScan(subject, image, label, "", "", (), "")


def seen(spacing, foreground, labelled=(0, 0, 0), n=5):
    return Fingerprint(
        *(np.tile(np.array(value, float), (n, 1)) for value in (spacing, foreground, labelled)), frozenset()
    )


@pytest.mark.parametrize(
    ("found", "shape", "spacing"),
    [
        (seen((1, 1, 1), (43, 59, 47)), (48, 64, 48), (1, 1, 1)),
        (seen((1, 1, 1), (48, 64, 41)), (48, 64, 48), (1, 1, 1)),
        (seen((0.9375, 0.9375, 1.2), (60, 60, 60)), (64, 64, 56), (0.9375, 0.9375, 1.2)),
        (seen((1, 1, 1), (43, 59, 47), (50, 10, 10)), (56, 64, 48), (1, 1, 1)),
        (seen((1, 1, 1), (5, 59, 47)), (16, 64, 48), (1, 1, 1)),
        (seen((1, 1), (43, 59), (0, 0)), (48, 64), (1, 1)),
    ],
)
def test_small_scans_keep_their_voxels(found, shape, spacing):
    assert choose_grid(found) == (shape, spacing)


@pytest.mark.parametrize(
    ("spacing", "extent"),
    [
        ((1, 1, 1), (160, 200, 165)),
        ((0.5, 0.5, 5), (240, 240, 150)),
        ((0.3, 0.7, 0.7), (140, 140, 110)),
        ((0.1, 0.1), (200, 300)),
    ],
)
def test_large_scans_are_made_coarser_along_their_finest_axes(spacing, extent):
    shape, chosen = choose_grid(seen(spacing, extent, np.zeros(len(spacing))))
    limit = module.MAX_VOXELS[len(shape)]
    assert np.prod(shape) <= limit and not np.mod(shape, 8).any()
    assert (np.multiply(shape, chosen) >= np.array(extent) - 1e-6).all()
    coarser = [c for c, s in zip(chosen, spacing, strict=True) if c > s]
    assert coarser and len(set(coarser)) == 1  # all to one voxel size ...
    assert all(c == s and c >= coarser[0] for c, s in zip(chosen, spacing, strict=True) if c <= s)  # ... others stay
    # the next finer grid that was tried would be too large
    finer = np.maximum(spacing, coarser[0] * 0.9)
    assert np.prod(np.ceil(np.array(extent) / finer / 8) * 8) > limit


def test_median_of_the_spacings_and_95_per_cent_of_the_scans():
    found = seen((1, 1, 1), (40, 40, 40), n=100)
    found.spacings[:30] = 3
    found.foreground[:5] = 90
    assert choose_grid(found) == ((40, 40, 40), (1, 1, 1))
    found.foreground[:6] = 90
    assert choose_grid(found) == ((96, 96, 96), (1, 1, 1))
    found.foreground[:] = 40
    found.anatomy[7] = (0, 57, 0)  # what is labelled is never cropped
    assert choose_grid(found) == ((40, 64, 40), (1, 1, 1))


def test_one_of_shape_and_spacing_may_be_given():
    found = seen((1, 1, 3), (43, 59, 47))
    assert choose_grid(found, WantedGrid(spacing=(2, 2, 2))) == ((24, 32, 24), (2, 2, 2))
    assert choose_grid(found, WantedGrid((50, 64, 20))) == ((50, 64, 20), (1, 1, 3))
    assert choose_grid(found, WantedGrid((43, 40, 20))) == ((43, 40, 20), (1.5, 1.5, 3))


def test_as_many_voxels_as_are_asked_for():
    found = seen((1, 1, 3), (160, 200, 165))
    shape, spacing = choose_grid(found, WantedGrid(max_voxels=2**15))
    assert 2**14 < np.prod(shape) <= 2**15 and (np.multiply(shape, spacing) >= (160, 200, 165)).all()
    assert choose_grid(found, WantedGrid(max_voxels=2**40)) == ((160, 200, 56), (1, 1, 3))
    assert choose_grid(found, WantedGrid(spacing=(2, 2, 2), max_voxels=2**13))[0] == (80, 104, 88)  # as given
    with pytest.raises(SettingError, match="max_voxels=99: a grid has 4096 voxels at least"):
        choose_grid(found, WantedGrid(max_voxels=99))


def test_fingerprint_of_scans(tmp_path, write_nifti):
    """A box of tissue in air, off the centre, axes permuted; the label reaches into the air."""
    image = np.random.default_rng(0).normal(0, 0.1, (20, 30, 40))
    image[6:12, 10:25, 18:20] = 100
    label = np.zeros(image.shape, np.uint8)
    label[8, 12, 2:19] = 7
    affine = np.array([[0, 0, -2.0, 10], [1.5, 0, 0, -20], [0, -1.0, 0, 30], [0, 0, 0, 1]])
    image_file = write_nifti(tmp_path / "a.nii.gz", image.astype(np.float32), affine)
    label_file = write_nifti(tmp_path / "b.nii.gz", label, affine)
    found = fingerprint([row("a", image_file, label_file), row("c", image_file)], 3)
    # about the centre: along x the 8 voxels 6..13, along y the 20 voxels 5..24, along z the 4 voxels 18..21
    np.testing.assert_allclose(found.spacings, [[2, 1.5, 1]] * 2)
    np.testing.assert_allclose(found.foreground, [[4 * 2, 8 * 1.5, 20 * 1]] * 2)
    np.testing.assert_allclose(found.anatomy, [[36 * 2, 4 * 1.5, 6 * 1], [0, 0, 0]])
    assert found.numbers == {0, 7}


def test_grid_of_the_fingerprint_holds_what_it_should(tmp_path, write_nifti):
    """By nibabel and the transform: nothing labelled is lost on the chosen grid."""
    from deepatlas_tf.scans.grid import GridTransform

    label = np.zeros((40, 50, 30), np.uint8)
    label[1:30, 7:40, 20:28] = 1
    image = np.where(label, 100, 0).astype(np.float32)
    image_file, label_file = write_nifti(tmp_path / "a.nii", image), write_nifti(tmp_path / "b.nii", label)
    shape, spacing = choose_grid(fingerprint([row("a", image_file, label_file)], 3))
    assert shape != label.shape and spacing == (1, 1, 1)
    network = GridTransform(nib.load(label_file).affine, label.shape, shape, spacing).label_to_network(label, 2)
    assert network.sum() == label.sum()


def test_slices_and_volumes_are_not_mixed(tmp_path, write_nifti):
    deep = [row(f"d{k}", write_nifti(tmp_path / f"d{k}.nii", np.ones((4, 5, 6), np.uint8))) for k in range(2)]
    flat = [row(f"f{k}", write_nifti(tmp_path / f"f{k}.nii", np.ones((4, 5, 1), np.uint8))) for k in range(2)]
    assert (common_axes(deep), common_axes(flat)) == (3, 2)
    with pytest.raises(DataError, match="subject f0: .*f0.nii is a slice"):
        common_axes(deep + flat)
