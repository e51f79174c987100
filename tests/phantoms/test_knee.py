import itertools

import numpy as np
import pytest
import scipy.ndimage

from deepatlas_tf.phantoms.knee import CLASS_NAMES, CONTRASTS, draw, knee, template
from deepatlas_tf.types import DataError

# Results were measured on these images. Of subject 41 on the three grids: voxels of each class, mean of the image
MEASURED = [
    [66458, 5124, 3753, 1138, 327, 0.464899],
    [7464, 695, 528, 456, 73, 0.511948],
    [2198, 933, 829, 79, 57, 0.552783],
]
GRIDS = [((64, 64), (2.0, 2.0)), ((40, 48, 40), (3.0, 3.0, 3.0))]


@pytest.fixture(scope="module", params=GRIDS, ids=["2D", "3D"])
def subjects(request):
    shape, spacing = request.param
    return [knee(seed, shape, spacing) for seed in range(8)], shape, spacing


def dice(a, b, index):
    return 2 * np.sum((a == index) & (b == index)) / (np.sum(a == index) + np.sum(b == index))


def test_image_and_label_keep_their_contract(subjects):
    knees, shape, _ = subjects
    for image, label in knees:
        assert image.shape == label.shape == shape
        assert image.dtype == np.float32 and label.dtype == np.uint8
        assert image.min() >= 0 and image.max() == 1 and image.std() > 0.1
        assert set(np.unique(label)) == set(range(len(CLASS_NAMES)))


@pytest.mark.parametrize(("shape", "spacing"), [((24, 16), (5.0, 7.0)), ((24, 24, 16), (5.0, 6.0, 7.0))])
def test_a_seed_gives_the_same_subject_again_and_another_seed_another(shape, spacing):
    first, again, other = knee(3, shape, spacing), knee(3, shape, spacing), knee(4, shape, spacing)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert np.mean(first[1] != other[1]) > 0.01


def test_anatomy_is_ordered_from_femur_to_tibia(subjects):
    for _, label in subjects[0]:
        femur, tibia, femoral, tibial = (scipy.ndimage.center_of_mass(label == i)[-1] for i in range(1, 5))
        assert femur > femoral > tibial > tibia  # the last axis points up


def test_cartilage_lies_on_its_bone_and_is_thin(subjects):
    knees, _, spacing = subjects
    for _, label in knees:
        for bone, cartilage in ((1, 3), (2, 4)):
            to_bone = scipy.ndimage.distance_transform_edt(label != bone, sampling=spacing)
            depth = to_bone[label == cartilage]
            assert np.median(depth) <= 2 * max(spacing) and np.percentile(depth, 95) < 3.5 * max(spacing)
            assert 0.02 < np.sum(label == cartilage) / np.sum(label == bone) < 0.4


def test_subjects_overlap_before_registration_as_patients_do(subjects):
    labels = [label for _, label in subjects[0]]
    overlap = np.array([[dice(a, b, i) for i in range(1, 5)] for a, b in itertools.combinations(labels, 2)]).mean(
        axis=0
    )
    assert 0.4 < overlap.mean() < 0.65
    assert 0.6 < overlap[:2].min() and overlap[:2].max() < 0.9  # bones
    assert 0.1 < overlap[2:].min() and overlap[2:].max() < 0.5  # cartilage


def test_intensity_alone_does_not_tell_the_classes_apart(subjects):
    """Marrow and fat look alike, as do cartilage and muscle: a threshold must not solve the task."""
    image, label = subjects[0][0]
    best = 0.0
    for low, high in itertools.combinations(np.linspace(0, 1, 21), 2):
        best = max(best, dice((image >= low) & (image <= high), label == 1, 1))
    assert best < 0.8


def test_contrast_differs_between_subjects(subjects):
    marrow = [np.median(image[label == 1]) for image, label in subjects[0]]
    assert np.std(marrow) > 0.02


def test_the_subjects_that_results_were_measured_on_stay_as_they_are():
    found = []
    for shape, spacing in (GRIDS[1], ((24, 24, 16), (5.0, 5.5, 7.0)), GRIDS[0]):
        image, label = knee(41, shape, spacing)
        found.append([*np.bincount(label.ravel()), image.mean(dtype=float)])
    np.testing.assert_allclose(found, MEASURED, atol=1e-6, rtol=0)


DRAWN = [("t1", *GRIDS[1]), ("t2", *GRIDS[1]), *[(contrast, *GRIDS[0]) for contrast in CONTRASTS]]


@pytest.mark.parametrize(("contrast", "shape", "spacing"), DRAWN)
def test_a_drawn_subject_keeps_the_contract(contrast, shape, spacing):
    for seed in range(2):
        image, label, deformation = draw(seed, shape, spacing, contrast)
        assert image.shape == label.shape == shape and deformation.shape == (*shape, len(shape))
        assert (image.dtype, label.dtype, deformation.dtype) == (np.float32, np.uint8, np.float32)
        assert image.min() >= 0 and image.max() == 1 and image.std() > 0.1
        assert set(np.unique(label)) == set(range(len(CLASS_NAMES)))
    np.testing.assert_array_equal(draw(seed, shape, spacing, contrast).image, image)


@pytest.mark.parametrize(("shape", "spacing"), GRIDS)
def test_contrasts_show_the_same_anatomy_with_noise_of_their_own(shape, spacing):
    first, second = (draw(5, shape, spacing, contrast) for contrast in ("t1", "t2"))
    np.testing.assert_array_equal(first.label, second.label)
    np.testing.assert_array_equal(first.deformation, second.deformation)
    marrow, air = first.label == 1, first.image < 0.08
    assert first.image[marrow].mean() > 0.5 > 0.3 > second.image[marrow].mean()
    assert abs(np.corrcoef(first.image[air], second.image[air])[0, 1]) < 0.3


def test_drawn_subjects_overlap_before_registration_as_patients_do():
    labels = [draw(seed, *GRIDS[1], "t1").label for seed in range(6)]
    overlap = np.mean([[dice(a, b, i) for i in range(1, 5)] for a, b in itertools.combinations(labels, 2)], axis=0)
    assert 0.6 < overlap[:2].min() and overlap[:2].max() < 0.9 and 0.1 < overlap[2:].min() and overlap[2:].max() < 0.5


@pytest.mark.parametrize("contrast", ["xray", "dxa"])
def test_bone_is_bright_in_a_projection_and_the_joint_space_dark(contrast):
    image, label, _ = draw(2, *GRIDS[0], contrast)
    bone, cartilage, air = image[(label == 1) | (label == 2)], image[label == 4], image[:3, :3]
    assert np.median(bone) > 0.45 > 0.35 > np.median(cartilage) and np.median(air) < 0.1


def test_unknown_contrast_and_projection_of_no_slice():
    with pytest.raises(DataError, match="no contrast 'ct'; there are t1, t2, xray, dxa"):
        draw(0, *GRIDS[0], "ct")
    for function in (template, lambda *a: draw(0, *a)):
        with pytest.raises(DataError, match=r"phantom_knee/xray is a projection: shape \(40, 48, 40\)"):
            function(*GRIDS[1], "xray")
