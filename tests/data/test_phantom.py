import itertools
import time

import numpy as np
import pytest
import scipy.ndimage

from deepatlas_tf.data.phantom import CLASS_NAMES, knee

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
    assert 0.4 < overlap.mean() < 0.6
    assert 0.6 < overlap[:2].min() and overlap[:2].max() < 0.9  # bones
    assert 0.1 < overlap[2:].min() and overlap[2:].max() < 0.4  # cartilage


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


def test_a_subject_of_the_demo_is_drawn_in_under_a_second():
    start = time.process_time()
    knee(0, (40, 48, 40), (3.0, 3.0, 3.0))
    assert time.process_time() - start < 1.0
