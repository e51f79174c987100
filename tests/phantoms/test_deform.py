"""The stored deformation is the truth: measured against a finely sampled template, on both phantoms, in 2D and 3D."""

import numpy as np
import pytest
import scipy.ndimage

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.ops.warp import warp
from deepatlas_tf.phantoms import brain, knee
from deepatlas_tf.phantoms.deform import bend, displacement, grid_points, registration_error, swell

CASES = [
    (knee, "t1", (80, 80), (1.6, 1.6)),
    (knee, "xray", (72, 72), (1.7, 1.7)),
    (knee, "t2", (36, 30, 36), (1.7, 1.7, 1.7)),
    (brain, "t2", (80, 80), (2.2, 2.2)),
    (brain, "t1", (30, 36, 30), (2.0, 2.0, 2.0)),
]
IDS = [f"{module.__name__[-5:]}-{contrast}-{len(shape)}D" for module, contrast, shape, _ in CASES]


def at_target(volume, deformation, order, finer=1):
    """``volume`` at x + u(x), and where that is inside; the volume's grid may be finer, with the same middle."""
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in deformation.shape[:-1]], indexing="ij"))
    target = grid + np.moveaxis(deformation, -1, 0)
    inside = np.all([(t >= 0) & (t <= n - 1) for t, n in zip(target, grid.shape[1:], strict=True)], axis=0)
    target = finer * target + (finer - 1) / 2
    return scipy.ndimage.map_coordinates(volume, target, order=order, mode="nearest"), inside


@pytest.mark.slow
@pytest.mark.parametrize(("module", "contrast", "shape", "spacing"), CASES, ids=IDS)
def test_the_label_is_the_template_s_at_the_deformed_place(module, contrast, shape, spacing):
    # coarse enough for one thickness of cartilage and cortex on both grids: 3 mm
    finer = 2 if len(shape) == 3 or contrast == "xray" else 4
    _, label = module.template([finer * n for n in shape], [s / finer for s in spacing], contrast)
    for seed in range(2):
        subject = module.draw(seed, shape, spacing, contrast)
        expected, inside = at_target(label, subject.deformation, order=0, finer=finer)
        anatomy = inside & ((subject.label > 0) | (expected > 0))
        # the nearest fine sample is off by up to half a fine voxel: a part of the voxels at the boundaries
        agreement = np.mean(subject.label[anatomy] == expected[anatomy])
        assert agreement > (0.97 if len(shape) == 2 else 0.945)
        undeformed = label[tuple(slice(finer // 2, None, finer) for _ in shape)]
        assert np.mean(subject.label[anatomy] == undeformed[anatomy]) < agreement - 0.03


@pytest.mark.parametrize(("module", "contrast", "shape", "spacing"), CASES, ids=IDS)
def test_the_package_s_warp_takes_the_template_onto_the_subject(module, contrast, shape, spacing):
    image, label = module.template(shape, spacing, contrast)
    subject = module.draw(1, shape, spacing, contrast)
    u = tf.constant(subject.deformation[None])
    classes = np.eye(len(module.CLASS_NAMES), dtype=np.float32)[label]
    warped = np.argmax(warp(tf.constant(classes[None]), u)[0], axis=-1)
    before, after = dices(label, subject.label), dices(warped, subject.label)
    assert np.nanmean(after) > 0.85 and np.nanmean(before) < np.nanmean(after) - 0.15
    reference, inside = at_target(image, subject.deformation, order=1)
    np.testing.assert_allclose(warp(tf.constant(image[None, ..., None]), u)[0, ..., 0], reference, atol=1e-4)
    correlations = [np.corrcoef(i[inside], subject.image[inside])[0, 1] for i in (image, reference)]
    assert correlations[0] < correlations[1] > 0.85


def dices(a, b):
    total = [np.sum(a == i) + np.sum(b == i) for i in range(1, 9)]
    both = [2 * np.sum((a == i) & (b == i)) for i in range(1, 9)]
    return [n / t if t > 60 else np.nan for n, t in zip(both, total, strict=True)]


@pytest.mark.parametrize(
    ("module", "shape", "spacing"),
    [
        (knee, (40, 48, 40), (3.0, 3.0, 3.0)),
        (knee, (64, 64), (2.0, 2.0)),
        (brain, (24, 32, 24), (6.6, 6.6, 6.6)),
        (brain, (64, 64), (2.5, 2.5)),
    ],
)
def test_the_deformation_has_no_folds_and_is_not_small(module, shape, spacing):
    for seed in range(8):
        deformation = module.draw(seed, shape, spacing, "t1").deformation
        columns = [np.stack(np.gradient(deformation[..., a]), axis=-1) for a in range(len(shape))]
        jacobian = np.linalg.det(np.stack(columns, axis=-2) + np.eye(len(shape)))
        assert jacobian.min() > 0.1
        assert 1.5 < np.linalg.norm(deformation * spacing, axis=-1).mean() < 25  # mm


@pytest.mark.parametrize("shape", [(24, 20), (24, 20, 22)])
def test_swell_and_bend_move_only_as_they_say(shape):
    points = grid_points(shape, (2.0,) * len(shape))
    moved = swell(points, (0, 0, 0), (4, 4, 4), (0.3, 0.3, 0.3), (0.5, 0, 0))
    far = np.sqrt(sum(p**2 for p in points)) > 12
    np.testing.assert_allclose(np.stack(moved)[:, far], np.stack(points)[:, far], atol=0.01)
    near = np.argmin(sum(p**2 for p in points))  # w = 1 - O(r^2) there
    weight = np.exp(-sum(p.flat[near] ** 2 for p in points) / 16)
    assert moved[0].flat[near] == pytest.approx(points[0].flat[near] + weight * (0.3 * points[0].flat[near] + 0.5))
    bent = bend(np.random.default_rng(0), points, 2.0, 6)
    if len(shape) == 2:
        np.testing.assert_array_equal([moved[1], bent[1]], np.zeros((2, *shape)))
    u = displacement(points, bent, (2.0,) * len(shape))
    assert u.shape == (*shape, len(shape)) and 0.3 < np.std(u) < 2.0  # about 2 mm are a voxel


@pytest.mark.parametrize("spacing", [(2.0, 3.0), (2.0, 3.0, 2.5)])
def test_registration_error_is_zero_for_the_true_field_and_its_length_for_a_shift(spacing):
    shape = (20, 18, 16)[: len(spacing)]
    points = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1)
    moving, fixed = 0.1 * points, np.full((*shape, len(shape)), 0.4)  # y + 0.1 y = x + 0.4, so that y = (x + 0.4) / 1.1
    truth = (points + 0.4) / 1.1 - points
    error = registration_error(truth, moving, fixed, spacing)
    np.testing.assert_allclose(error[np.isfinite(error)], 0, atol=1e-9)
    assert np.isfinite(error).mean() > 0.95
    shifted = registration_error(truth + 1.0, moving, fixed, spacing)
    np.testing.assert_allclose(shifted[np.isfinite(shifted)], 1.1 * np.linalg.norm(spacing), rtol=1e-6)
    assert np.isnan(registration_error(truth + 30.0, moving, fixed, spacing)).all()  # all outside the grid
