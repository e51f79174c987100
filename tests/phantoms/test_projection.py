import numpy as np
import pytest

from deepatlas_tf.phantoms.deform import grid_points
from deepatlas_tf.phantoms.knee import template
from deepatlas_tf.phantoms.knee_anatomy import Knee, cartilage_thickness, knee_label, knee_solids
from deepatlas_tf.phantoms.projection import PROJECTIONS, detect

SHAPE, SPACING = (48, 48), (2.5, 2.5)


def test_a_ray_s_label_is_the_structure_on_its_longest_path():
    """Against the 3D label map, counted along the rays on a grid of its own."""
    points = grid_points((48, 300, 48), (2.5, 0.5, 2.5))
    volume = knee_label(knee_solids(points, Knee(cartilage_thickness(2.5))))
    paths = np.stack([(volume == c).sum(axis=1) * 0.5 for c in range(1, 5)])  # (4, X, Z) mm
    expected = np.where(paths.max(axis=0) > 0, 1 + np.argmax(paths, axis=0), 0)
    _, label = template(SHAPE, SPACING, "xray")
    np.testing.assert_array_equal(label, template(SHAPE, SPACING, "dxa")[1])
    clear = np.abs(paths.max(axis=0) - np.sort(paths, axis=0)[-2]) > 5  # not a matter of a millimetre
    np.testing.assert_array_equal(label[clear], expected[clear])
    assert np.mean(label == expected) > 0.98


@pytest.mark.parametrize("kind", PROJECTIONS)
def test_more_tissue_is_brighter_and_noise_belongs_to_the_generator(kind):
    densest = 4.0 if kind == "xray" else 1.6
    ramp = np.repeat(np.linspace(0, densest, 64)[:, None], 64, axis=1)
    clean = detect(ramp, kind, None)
    assert clean.dtype == np.float32 and clean.min() >= 0 and clean.max() == 1
    assert np.all(np.diff(clean[:, 32]) >= -1e-6) and clean[60, 32] > clean[40, 32] > clean[0, 32]
    noisy, again = (detect(ramp, kind, np.random.default_rng(1)) for _ in range(2))
    np.testing.assert_array_equal(noisy, again)
    assert 0.002 < np.std(noisy[45] - clean[45]) < 0.1


def test_dxa_shows_mineral_in_proportion_and_the_x_ray_its_logarithm_in_a_window():
    plate = np.zeros((64, 64))
    plate[:21], plate[21:42], plate[42:] = 0.0, 0.5, 1.0
    dxa = detect(plate, "dxa", None)
    np.testing.assert_allclose([dxa[10, 32], dxa[31, 32], dxa[53, 32]], [0, 0.5, 1], atol=1e-3)
    xray = detect(4 * plate, "xray", None)  # half of the densest is where the window starts
    np.testing.assert_allclose([xray[10, 32], xray[53, 32]], [0, 1], atol=0.02)
    assert xray[31, 32] < 0.2


def test_bone_attenuates_more_than_anything_else():
    for table in PROJECTIONS.values():
        soft = max(table[name] for name in ("fat", "muscle", "cartilage", "ligament", "fluid"))
        assert table["cortex"] > table["scar"] > table["marrow"] > soft
