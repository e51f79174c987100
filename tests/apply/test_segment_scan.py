"""From class probabilities to the label map of a scan, with a stand-in for the network."""

import nibabel as nib
import numpy as np
import pytest

from deepatlas_tf.apply.grids import covering_transform
from deepatlas_tf.apply.segment import segment_scan
from deepatlas_tf.runs.model import Grid
from deepatlas_tf.scans.nifti import Nifti

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
    one, seen = scan((12, 14, 10), affine), []

    def remember(image):
        seen.append(segment(image))
        return seen[-1]

    found = segment_scan(remember, GRID, one).label
    canonical = nib.as_closest_canonical(nib.Nifti1Image(found, affine))
    transform = covering_transform(one, GRID)
    inside = tuple(slice(int(-o), int(n - o)) for o, n in zip(transform.offsets, canonical.shape, strict=True))
    np.testing.assert_array_equal(np.asarray(canonical.dataobj), seen[0].argmax(axis=-1)[inside])


def test_a_resampled_scan_has_its_labels_and_probabilities():
    one = scan((15, 12, 13), np.diag([1.5, 2.5, 2, 1]))
    kept, found = (segment_scan(segment, GRID, one, keep) for keep in (True, False))
    np.testing.assert_array_equal(found.label, kept.label)
    assert found.probabilities is None and kept.probabilities.shape == (15, 12, 13, 5)
    np.testing.assert_array_equal(kept.probabilities.argmax(axis=-1), kept.label)


def test_more_classes_than_a_byte_holds():
    one = scan((12, 14, 10), np.eye(4) * [2, 2, 2, 1])

    def last(image):
        return np.broadcast_to(np.arange(300, dtype=np.float32) / 300, (*image.shape[:-1], 300))

    found = segment_scan(last, GRID, one).label
    assert found.dtype == np.uint16 and (found == 299).all()
