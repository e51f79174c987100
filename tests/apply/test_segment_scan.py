"""From class probabilities to the label map of a scan, with a stand-in for the network."""

import nibabel as nib
import numpy as np
import pytest

from deepatlas_tf.apply.grids import covering_transform
from deepatlas_tf.apply.segment import segment_scan, with_numbers
from deepatlas_tf.runs.model import Grid
from deepatlas_tf.scans.components import remove_specks
from deepatlas_tf.scans.nifti import Nifti
from deepatlas_tf.types import DataError

GRID = Grid(tuple("abcde"), (12, 14, 10), (2.0, 2.0, 2.0))
FLIPPED = np.array([[-2.0, 0, 0, 9], [0, -2, 0, 3], [0, 0, 2, -5], [0, 0, 0, 1]])
PERMUTED = np.array([[0, 0, 2.0, 9], [-2, 0, 0, 3], [0, 2, 0, -5], [0, 0, 0, 1]])


def scan(shape, affine):
    return Nifti(np.random.default_rng(0).random(shape).astype(np.float32), np.asarray(affine, float))


def segment(image):
    """Probabilities of five classes, tenths, so that two are often equal; the last class never wins."""
    seed = int(1e6 * image.sum()) % 2**32
    values = np.random.default_rng(seed).integers(0, 10, (*image.shape[:-1], 5)).astype(np.float32) / 10
    values[..., 4] = 0
    return values


@pytest.mark.parametrize("affine", [np.diag([2.0, 2, 2, 1]), FLIPPED, PERMUTED])
@pytest.mark.parametrize("shape", [(12, 14, 10), (9, 15, 7), (20, 8, 11)])
def test_without_resampling_the_labels_are_those_of_the_general_way(affine, shape):
    """With ``keep_probabilities`` each class is brought to the scan's grid."""
    one = scan(shape, affine)
    general, found = (segment_scan(segment, GRID, one, keep).label for keep in (True, False))
    assert set(np.unique(found)) == {0, 1, 2, 3} and found.dtype == general.dtype == np.uint8
    np.testing.assert_array_equal(found, general)


@pytest.mark.parametrize("affine", [FLIPPED, PERMUTED])
def test_each_voxel_gets_the_class_at_its_place(affine):
    """The network's label map as a NIfTI image, read by nibabel in the scan's order of axes."""
    one, seen, grid = scan((12, 14, 10), affine), [], GRID._replace(shape=(12, 14, 14))

    def remember(image):
        seen.append(segment(image))
        return seen[-1]

    found = segment_scan(remember, grid, one).label
    canonical = nib.as_closest_canonical(nib.Nifti1Image(found, affine))
    transform = covering_transform(one, grid)
    inside = tuple(slice(int(-o), int(n - o)) for o, n in zip(transform.offsets, canonical.shape, strict=True))
    np.testing.assert_array_equal(np.asarray(canonical.dataobj), seen[0].argmax(axis=-1)[inside])


def test_specks_of_classes_without_them_are_removed_from_the_label_map_alone():
    one = scan((12, 14, 10), FLIPPED)
    kept = segment_scan(segment, GRID, one, keep_probabilities=True)
    found = segment_scan(segment, GRID._replace(without_specks=(1, 2)), one, keep_probabilities=True)
    expected = remove_specks(kept.label, (1, 2))
    assert np.mean(expected != kept.label) > 0
    np.testing.assert_array_equal(found.label, expected)
    np.testing.assert_array_equal(found.probabilities, kept.probabilities)


def test_a_resampled_scan_has_its_labels_and_probabilities():
    one = scan((15, 12, 13), np.diag([1.5, 2.5, 2, 1]))
    kept, found = (segment_scan(segment, GRID, one, keep) for keep in (True, False))
    np.testing.assert_array_equal(found.label, kept.label)
    assert found.probabilities is None and kept.probabilities.shape == (15, 12, 13, 5)
    np.testing.assert_array_equal(kept.probabilities.argmax(axis=-1), kept.label)


@pytest.mark.parametrize(
    ("largest", "kind"),
    [
        (255, np.uint8),
        (256, np.uint16),
        (65535, np.uint16),
        (65536, np.int32),
        (2**31, np.int64),
        (2**63 - 1, np.int64),
    ],
)
def test_numbers_of_the_label_files_have_the_smallest_type(largest, kind):
    label = np.array([[0, 1], [2, 1]], np.uint8)
    found = with_numbers(label, (0, largest, 4))
    assert found.dtype == kind and found.tolist() == [[0, largest], [4, largest]]


def normalising(image):
    """A stand-in with instance normalisation: bright is class 1, what is about the mean class 0."""
    score = (image[..., 0] - image.mean()) / image.std()
    return np.stack([1 / (1 + np.exp(3 * score)), 1 / (1 + np.exp(-3 * score))], axis=-1).astype(np.float32)


@pytest.mark.parametrize("affine", [np.diag([2.0, 2, 2, 1]), PERMUTED, np.diag([1.5, 2.5, 2, 1])])
@pytest.mark.parametrize("shape", [(12, 14, 10), (9, 12, 7), (22, 20, 19)], ids=["equal", "smaller", "larger"])
@pytest.mark.parametrize("widths", [[(64, 64)] * 3, [(4, 4)] * 3, [(0, 20), (7, 0), (3, 9)]])
@pytest.mark.parametrize("mode", ["constant", "edge"])
def test_a_border_does_not_change_the_result(affine, shape, widths, mode):
    plain = scan(shape, affine)
    shifted = affine.copy()
    shifted[:3, 3] -= affine[:3, :3] @ [before for before, _ in widths]
    padded = Nifti(np.pad(plain.volume, widths, mode=mode), shifted)
    expected, found = (segment_scan(normalising, GRID, one, True) for one in (plain, padded))
    assert 0.2 < expected.label.mean() < 0.8
    inside = tuple(slice(before, before + n) for (before, _), n in zip(widths, shape, strict=True))
    np.testing.assert_array_equal(found.label, np.pad(expected.label, widths))
    np.testing.assert_allclose(found.probabilities[inside], expected.probabilities, atol=1e-5)
    outside = np.ones(found.label.shape, bool)
    outside[inside] = False
    np.testing.assert_array_equal(found.probabilities[outside], np.broadcast_to([1, 0], (outside.sum(), 2)))


def test_a_result_that_is_not_finite_is_refused():
    with pytest.raises(DataError, match="not finite"):
        segment_scan(
            lambda image: np.full((*image.shape[:-1], 2), np.nan, np.float32), GRID, scan((9, 9, 9), np.eye(4))
        )


def test_more_classes_than_a_byte_holds():
    one = scan((12, 14, 10), np.eye(4) * [2, 2, 2, 1])

    def last(image):
        return np.broadcast_to(np.arange(300, dtype=np.float32) / 300, (*image.shape[:-1], 300))

    found = segment_scan(last, GRID, one).label
    assert found.dtype == np.uint16 and (found == 299).all()
