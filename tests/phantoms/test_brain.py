import itertools

import numpy as np
import pytest
import scipy.ndimage

from deepatlas_tf.phantoms.brain import CLASS_NAMES, CONTRASTS, cortex_thickness, draw, template
from deepatlas_tf.types import DataError

GRIDS = [((64, 64), (2.5, 2.5)), ((48, 64, 48), (3.3, 3.3, 3.3)), ((24, 32, 24), (6.6, 6.6, 6.6))]
CORTEX, WHITE, VENTRICLE, CEREBELLUM = (
    CLASS_NAMES.index(n) for n in ("cerebral_cortex", "cerebral_white_matter", "lateral_ventricle", "cerebellum")
)


@pytest.mark.parametrize("contrast", CONTRASTS)
@pytest.mark.parametrize(("shape", "spacing"), GRIDS)
def test_a_subject_keeps_the_contract(shape, spacing, contrast):
    for seed in range(4):
        image, label, deformation = draw(seed, shape, spacing, contrast)
        assert image.shape == label.shape == shape and deformation.shape == (*shape, len(shape))
        assert (image.dtype, label.dtype, deformation.dtype) == (np.float32, np.uint8, np.float32)
        assert image.min() >= 0 and image.max() == 1 and image.std() > 0.1
        assert np.bincount(label.ravel(), minlength=len(CLASS_NAMES)).min() >= 8


@pytest.mark.parametrize(("shape", "spacing"), GRIDS)
def test_a_seed_is_one_anatomy_in_both_contrasts_and_another_seed_another(shape, spacing):
    t1, again, t2, other = (draw(n, shape, spacing, c) for n, c in ((3, "t1"), (3, "t1"), (3, "t2"), (4, "t1")))
    np.testing.assert_array_equal(t1.image, again.image)
    np.testing.assert_array_equal(t1.label, t2.label)
    np.testing.assert_array_equal(t1.deformation, t2.deformation)
    assert np.mean(t1.label != other.label) > 0.02
    for subject, brighter, darker in ((t1, WHITE, CORTEX), (t2, CORTEX, WHITE)):
        median = [np.median(subject.image[subject.label == index]) for index in (brighter, darker)]
        assert median[0] > median[1] + 0.05


def test_the_cortex_is_a_thin_folded_ribbon_around_the_white_matter():
    _, label = template((80, 96, 80), (1.9, 1.9, 1.9), "t1")
    cortex, white = label == CORTEX, label == WHITE
    to_white = scipy.ndimage.distance_transform_edt(~white, sampling=1.9)
    assert np.percentile(to_white[cortex], 90) < cortex_thickness(1.9) + 2.5
    cerebrum = scipy.ndimage.binary_fill_holes(cortex | white)
    surface = cerebrum & ~scipy.ndimage.binary_erosion(cerebrum)
    hull = scipy.ndimage.binary_closing(np.pad(cerebrum, 8), iterations=7)
    smooth = hull & ~scipy.ndimage.binary_erosion(hull)
    assert surface.sum() > 1.3 * smooth.sum()  # folds enlarge the surface


def test_structures_lie_where_they_should():
    _, label = template(*GRIDS[1], "t1")
    centre = dict(zip(CLASS_NAMES, scipy.ndimage.center_of_mass(label >= 0, label, range(9)), strict=True))
    assert centre["cerebellum"][2] < centre["thalamus"][2] < centre["lateral_ventricle"][2]
    assert centre["brain_stem"][2] < centre["thalamus"][2] and centre["cerebellum"][1] < centre["brain_stem"][1]
    assert centre["caudate"][1] > centre["thalamus"][1]
    np.testing.assert_array_equal(label, label[::-1])  # left and right of the template are alike


def test_subjects_overlap_before_registration_as_brains_do():
    labels = [draw(seed, *GRIDS[1], "t1").label for seed in range(5)]
    overlap = [
        [2 * np.sum((a == i) & (b == i)) / (np.sum(a == i) + np.sum(b == i)) for i in range(1, 9)]
        for a, b in itertools.combinations(labels, 2)
    ]
    mean = np.mean(overlap, axis=0)
    assert 0.3 < mean.mean() < 0.65 and mean[VENTRICLE - 1] < mean[CEREBELLUM - 1]


def test_size_of_the_ventricles_varies_most():
    grid = ((32, 42, 32), (5.0, 5.0, 5.0))
    counts = np.array([np.bincount(draw(seed, *grid, "t1").label.ravel(), minlength=9) for seed in range(30)])
    variation = (counts.std(axis=0) / counts.mean(axis=0))[1:]
    assert np.argmax(variation) == VENTRICLE - 1 and variation.min() > 0.05


def test_unknown_contrast():
    with pytest.raises(DataError, match="no contrast 'xray'; there are t1, t2"):
        draw(0, *GRIDS[0], "xray")
