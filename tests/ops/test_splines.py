import numpy as np
import pytest
from scipy.interpolate import BSpline

from deepatlas_tf.ops.splines import smooth_field, spline_matrix


@pytest.mark.parametrize(("n_points", "size"), [(4, 7), (7, 24), (9, 9)])
def test_weights_are_those_of_scipys_cubic_splines(n_points, size):
    knots = np.arange(n_points + 4) - 3.0
    positions = np.linspace(0, n_points - 3, size)
    expected = BSpline(knots, np.eye(n_points), 3)(positions).T
    np.testing.assert_allclose(spline_matrix(n_points, size), expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(6, 9), (6, 9, 5)])
def test_smooth_field_keeps_axis_order_and_reproduces_a_linear_function(shape):
    n_points = 7
    index = np.indices([n_points] * len(shape)).astype(float) - 1
    points = sum((axis + 1) * i for axis, i in enumerate(index))
    axes = np.meshgrid(*[np.linspace(0, n_points - 3, n) for n in shape], indexing="ij")
    expected = sum((axis + 1) * x for axis, x in enumerate(axes))
    np.testing.assert_allclose(smooth_field(points, shape), expected, atol=1e-4)
