import numpy as np
import pytest
import scipy.ndimage

from deepatlas_tf.phantoms.deform import grid_points
from deepatlas_tf.phantoms.shapes import chain, ellipsoid, join, paint, rod, scan, turn, waves

POINTS = grid_points((21, 25, 23), (1.0, 1.0, 1.0))


def test_a_sphere_has_its_distance_and_an_ellipsoid_its_volume():
    distance = ellipsoid(POINTS, (1, 2, 3), (6, 6, 6))
    expected = np.sqrt((POINTS[0] - 1) ** 2 + (POINTS[1] - 2) ** 2 + (POINTS[2] - 3) ** 2) - 6
    away = expected > -5.5  # the middle itself has no direction
    np.testing.assert_allclose(distance[away], expected[away], atol=1e-3)
    assert np.sum(ellipsoid(POINTS, (0, 0, 0), (9, 7, 5)) <= 0) == pytest.approx(4 / 3 * np.pi * 9 * 7 * 5, rel=0.02)


def test_an_ellipsoid_is_a_signed_distance_near_its_surface():
    inside = ellipsoid(POINTS, (0, 0, 0), (9, 7, 5)) <= 0
    exact = scipy.ndimage.distance_transform_edt(~inside) - scipy.ndimage.distance_transform_edt(inside)
    distance = ellipsoid(POINTS, (0, 0, 0), (9, 7, 5))
    near = np.abs(exact) < 3
    np.testing.assert_allclose(distance[near], exact[near], atol=1.1)  # of a voxel's surface: half a voxel each


def test_a_rod_is_the_distance_to_a_line_with_ends():
    distance = rod(POINTS, (-4, 0, 0), (4, 0, 0), 2)
    beyond = np.clip(np.abs(POINTS[0]) - 4, 0, None)
    np.testing.assert_allclose(distance, np.sqrt(beyond**2 + POINTS[1] ** 2 + POINTS[2] ** 2) - 2)
    np.testing.assert_array_equal(chain(POINTS, [(-4, 0, 0), (4, 0, 0)], 2), distance)


def test_a_join_holds_both_solids_and_fills_the_seam():
    a, b = ellipsoid(POINTS, (-5, 0, 0), (5, 5, 5)), ellipsoid(POINTS, (5, 0, 0), (5, 5, 5))
    joined = join(a, b, blend=4.0)
    assert np.all(joined <= np.minimum(a, b) + 1e-9)
    assert np.all(joined >= np.minimum(a, b) - 1.0 - 1e-9)  # at most a quarter of the blend
    far = np.abs(a - b) > 4
    np.testing.assert_allclose(joined[far], np.minimum(a, b)[far])


def test_a_turn_by_a_right_angle_exchanges_the_axes():
    turned = turn(POINTS, (0, 2), np.pi / 2)
    np.testing.assert_allclose(turned[0], -POINTS[2], atol=1e-12)
    np.testing.assert_allclose(turned[2], POINTS[0], atol=1e-12)
    np.testing.assert_array_equal(turned[1], POINTS[1])


def test_waves_have_unit_variance_and_the_gradient_that_is_given():
    fine = grid_points((41, 41, 41), (0.25, 0.25, 0.25))
    value, slope = waves(fine, 20.0, seed=3)
    gradient = np.sqrt(sum(g**2 for g in np.gradient(value, 0.25)))[1:-1, 1:-1, 1:-1]
    np.testing.assert_allclose(slope[1:-1, 1:-1, 1:-1], gradient, rtol=0.02, atol=1e-3)
    wide, _ = waves(grid_points((40, 40, 40), (20.0, 20.0, 20.0)), 33.0, seed=3)
    assert wide.std() == pytest.approx(1, abs=0.1) and abs(wide.mean()) < 0.1


def test_paint_covers_and_shares_a_voxel_at_the_boundary():
    x = np.array([-5.0, 0.0, 5.0])
    image = paint([(np.full(3, -9.0), 0.2), (x, 1.0)], (3,), voxel=1.0)
    np.testing.assert_allclose(image, [1.0, 0.6, 0.2], atol=1e-6)


def test_a_scan_is_noisy_and_in_range():
    image = np.zeros((20, 20, 20))
    image[5:15, 5:15, 5:15] = 0.8
    scanned = scan(np.random.default_rng(0), image)
    assert scanned.dtype == np.float32 and scanned.min() >= 0 and scanned.max() == 1
    assert np.corrcoef(scanned.ravel(), image.ravel())[0, 1] > 0.95 and scanned[:4].std() > 0.005
