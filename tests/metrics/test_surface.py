import itertools

import numpy as np
import pytest
import surface_distance
from scipy import ndimage
from scipy.spatial.distance import cdist

from deepatlas_tf.metrics.surface import hd95, surface_metrics

GRIDS = [((40, 36), (1.5, 0.8)), ((24, 20, 22), (1.0, 1.5, 0.8))]


def two_blobs(shape, seed=0):
    """Label maps with three classes of irregular shape, overlapping but not equal; class 3 touches the image's edge."""
    rng = np.random.RandomState(seed)
    field = ndimage.gaussian_filter(rng.randn(4, *shape), (0, *(3,) * len(shape)))
    other = field + 0.4 * ndimage.gaussian_filter(rng.randn(4, *shape), (0, *(3,) * len(shape)))
    return field.argmax(0), other.argmax(0)


def surface_points(mask, spacing):
    """Voxels with a face neighbour outside of the mask, found one by one."""
    padded = np.pad(mask, 1)
    points = []
    for voxel in np.argwhere(padded):
        steps = itertools.product(range(mask.ndim), (-1, 1))
        if not all(padded[tuple(voxel + step * np.eye(mask.ndim, dtype=int)[axis])] for axis, step in steps):
            points.append(voxel * spacing)
    return np.array(points)


@pytest.mark.parametrize(("shape", "spacing"), GRIDS)
def test_agrees_with_all_pairs_of_surface_voxels(shape, spacing):
    prediction, reference = two_blobs(shape)
    found = surface_metrics(prediction, reference, 4, spacing)
    for c in range(1, 4):
        distances = cdist(surface_points(prediction == c, spacing), surface_points(reference == c, spacing))
        forward, backward = distances.min(1), distances.min(0)
        hd95 = max(np.percentile(forward, 95), np.percentile(backward, 95))
        assert found["hd95_mm"][c - 1] == pytest.approx(hd95, rel=1e-9)
        assert found["hausdorff_mm"][c - 1] == pytest.approx(max(forward.max(), backward.max()), rel=1e-9)
        assert found["assd_mm"][c - 1] == pytest.approx(np.concatenate([forward, backward]).mean(), rel=1e-9)


@pytest.mark.parametrize(("shape", "spacing"), [((90, 80), (1.5, 0.8)), ((50, 60, 44), (0.7, 1.3, 2.1))])
def test_agrees_with_distance_transforms(shape, spacing):
    """Of the whole image, in place of searching for the nearest surface voxel."""
    prediction, reference = two_blobs(shape, seed=2)
    found = surface_metrics(prediction.astype(np.uint8), reference, 4, spacing)
    for c in range(1, 4):
        surfaces = [mask & ~ndimage.binary_erosion(mask) for mask in (prediction == c, reference == c)]
        to_surface = [ndimage.distance_transform_edt(~surface, sampling=spacing) for surface in surfaces]
        distances = [to_surface[1][surfaces[0]], to_surface[0][surfaces[1]]]
        expected = {
            "hd95_mm": max(np.percentile(d, 95) for d in distances),
            "assd_mm": np.concatenate(distances).mean(),
            "hausdorff_mm": max(d.max() for d in distances),
        }
        assert {name: values[c - 1] for name, values in found.items()} == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("shape", "spacing"), GRIDS)
def test_hd95_agrees_with_surface_distance(shape, spacing):
    prediction, reference = two_blobs(shape, seed=1)
    found = hd95(prediction, reference, 4, spacing)
    assert found.max() > 3 * max(spacing)
    for c in range(1, 4):
        distances = surface_distance.compute_surface_distances(reference == c, prediction == c, spacing)
        expected = surface_distance.compute_robust_hausdorff(distances, 95)
        # It has its surface between the voxels and weighs by area, so they differ by less than a voxel
        assert found[c - 1] == pytest.approx(expected, abs=max(spacing))


@pytest.mark.parametrize(("shape", "spacing"), GRIDS)
def test_boxes_one_voxel_apart_in_each_axis(shape, spacing):
    reference = np.zeros(shape, int)
    reference[(slice(5, 15),) * len(shape)] = 1
    for axis, step in enumerate(spacing):
        moved = np.roll(reference, 3, axis)
        found = surface_metrics(moved, reference, 2, spacing)
        assert found["hausdorff_mm"] == pytest.approx(3 * step)
        assert 0 < found["assd_mm"] < 3 * step
        mirrored = surface_metrics(reference, moved, 2, spacing)
        assert all(mirrored[name] == found[name] for name in found)


@pytest.mark.parametrize("spacing", [(1.0, 0.5), (1.0, 1.0, 1.5)], ids=["2D", "3D"])
def test_concentric_spheres(spacing):
    axes = [np.arange(-18, 18.1, step) for step in spacing]
    radius = np.sqrt(sum(x**2 for x in np.meshgrid(*axes, indexing="ij")))
    found = surface_metrics(radius <= 15, radius <= 9, 2, spacing)
    # Both surfaces lie inside of their spheres, by less than a voxel's diagonal
    for name, values in found.items():
        assert values == pytest.approx(15 - 9, abs=np.linalg.norm(spacing)), name
    assert found["assd_mm"] == pytest.approx(15 - 9, abs=0.25)


@pytest.mark.parametrize(("shape", "spacing"), GRIDS)
def test_ignored_voxels_are_background_in_both(shape, spacing):
    prediction, reference = two_blobs(shape)
    cut = [label.copy() for label in (prediction, reference)]
    for label in cut:
        label[: shape[0] // 2] = 0
    expected = surface_metrics(*cut, 4, spacing)
    reference[: shape[0] // 2] = 4
    for name, found in surface_metrics(prediction, reference, 4, spacing).items():
        np.testing.assert_array_equal(found, expected[name])


def test_equal_and_absent_classes():
    prediction, reference = np.zeros((2, 9, 9), int)
    prediction[2:5, 2:5] = reference[2:5, 2:5] = 1
    prediction[7, 7], reference[0, 8] = 2, 3
    found = surface_metrics(prediction, reference, 5, (1, 1))
    assert set(found) == {"hd95_mm", "assd_mm", "hausdorff_mm"}
    for values in found.values():
        np.testing.assert_array_equal(values, [0, np.nan, np.nan, np.nan])


def test_outliers_of_five_percent_do_not_count():
    reference = np.zeros((120, 20), int)
    reference[:100, 5] = 1
    prediction = reference.copy()
    prediction[110:114, 5] = 1  # 4 of 104 surface voxels
    found = surface_metrics(prediction, reference, 2, (2.0, 1.0))
    assert found["hd95_mm"] == 0 and found["hausdorff_mm"] == 2 * (113 - 99)


def test_bad_spacing():
    with pytest.raises(ValueError, match="spacing"):
        surface_metrics(np.zeros((4, 4), int), np.zeros((4, 4), int), 2, (1, 1, 1))
