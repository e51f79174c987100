import contextlib
import itertools

import numpy as np
import pytest
from matplotlib import rc_context
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import imread

from deepatlas_tf.evaluation import panels
from deepatlas_tf.evaluation.figures import STYLE
from deepatlas_tf.evaluation.plane import Plane
from deepatlas_tf.evaluation.slices import class_colour, show_contours, show_image
from deepatlas_tf.view import turned


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are drawn, instead of files."""
    kept = []

    @contextlib.contextmanager
    def keep(path, width, height):
        kept.append(Figure(figsize=(width, height), layout="constrained"))
        yield kept[-1]

    monkeypatch.setattr(panels, "figure_file", keep)
    return kept


def test_plane_shows_most_classes_then_most_foreground():
    label = np.zeros((6, 7, 8), int)
    label[1:4, 2, 3:6], label[4, 2, 1] = 1, 2  # both are in the coronal slice 2
    label[:, 5, :] = 1  # larger, but one class
    assert Plane.showing_most(label, (1, 1, 1)) == Plane(axis=1, index=2, spacing=(1.0, 1.0, 1.0))
    label[2:4, 3], label[0, 3] = 1, 2  # the same classes, more of them
    assert Plane.showing_most(label, (1, 1, 1)).index == 3
    assert Plane.showing_most(label[:, 5], (2, 3)) == Plane(None, 0, (2.0, 3.0))


@pytest.mark.parametrize(("axis", "shown"), [(0, (1, 2)), (1, (0, 2)), (2, (0, 1))])
def test_plane_of_a_grid(axis, shown):
    rng = np.random.RandomState(0)
    spacing, shape = (1.0, 2.0, 3.0), (4, 5, 6)
    plane = Plane(axis, 2, spacing)
    array = rng.rand(*shape, 3)
    np.testing.assert_array_equal(plane.cut(array), np.moveaxis(array, axis, 0)[2])
    assert plane.size_mm(shape) == tuple(shape[i] * spacing[i] for i in shown)
    voxel = [1, 3, 2]
    voxel[axis] = 2
    expected = [(voxel[i] + 0.5 + array[tuple(voxel)][i]) * spacing[i] for i in shown]
    np.testing.assert_allclose(plane.positions_mm(array)[voxel[shown[0]], voxel[shown[1]]], expected)


def corner_image(shape):
    """Dark but for the voxel of the largest coordinates: right, anterior, superior."""
    image = np.zeros((*shape, 1), np.float32)
    image[(-1,) * len(shape)] = 1
    return image


def test_planes_of_one_case():
    label = np.zeros((6, 7, 8), int)
    label[2:5, 3, 6] = 1
    found = Plane.each(label, (1, 1, 2))
    assert [(plane.axis, plane.index) for plane in found] == [(2, 6), (1, 3), (0, 2)]
    assert [plane.position(label.shape) for plane in found] == [
        "axial, slice 7 of 8",
        "coronal, slice 4 of 7",
        "sagittal, slice 3 of 6",
    ]
    assert [plane.ends for plane in found] == [("R", "L"), ("R", "L"), ("P", "A")]
    with turned(neurological=True):
        assert [plane.ends for plane in found] == [("L", "R"), ("L", "R"), ("P", "A")]
    (slice_2d,) = Plane.each(label[:, 3], (1, 2))
    assert slice_2d.ends == ("", "") and slice_2d.position((6, 8)) == ""


@pytest.mark.parametrize("neurological", [False, True])
def test_the_right_is_on_the_left_for_radiologists(neurological):
    axis = Figure().add_subplot()
    with turned(neurological):
        show_image(axis, Plane(1, 0, (2.0, 1.0, 1.0)), corner_image((8, 1, 6)))
    assert axis.get_xlim() == ((0, 16) if neurological else (16, 0))
    assert [text.get_text() for text in axis.texts] == (["L", "R"] if neurological else ["R", "L"])


@pytest.mark.parametrize(("shape", "spacing"), [((8, 6), (1.0, 3.0)), ((8, 5, 6), (1.0, 1.0, 3.0))])
def test_superior_is_up_and_millimetres_have_one_scale(tmp_path, shape, spacing):
    plane = Plane(1 if len(shape) == 3 else None, shape[1] - 1, spacing)
    image = corner_image(shape)
    with turned(neurological=True), panels.figure_file(tmp_path / "x.png", 4, 4) as figure:
        axis = figure.add_subplot()
        axis.axis("off")
        show_image(axis, plane, image)
        for letter in list(axis.texts):
            letter.remove()
    pixels = imread(tmp_path / "x.png")[..., 0]
    dark = np.argwhere(pixels < 0.5)  # the panel without its bright corner
    (top, left), (bottom, right) = dark.min(0), dark.max(0)
    height, width = bottom - top, right - left
    assert height / width == pytest.approx(6 * 3 / 8, rel=0.02)
    assert pixels[top + height // 20, right - width // 20] > 0.9
    for row, column in ((bottom - height // 20, right - width // 20), (top + height // 20, left + width // 20)):
        assert pixels[row, column] < 0.1


def test_contours_surround_the_classes():
    label = np.zeros((10, 8), int)
    label[2:5, 3:7], label[7, 1] = 1, 3
    axis = Figure().add_subplot()
    show_contours(axis, Plane(None, 0, (2.0, 1.0)), label)
    first, second = axis.collections
    assert [to_hex(c.get_edgecolor()[0]) for c in (first, second)] == [class_colour(1), class_colour(3)]
    points = np.concatenate([path.vertices for path in first.get_paths()])
    # Halfway between the centres of the first voxel outside and of the last one inside
    np.testing.assert_allclose([points.min(0), points.max(0)], [[2 * 2, 3], [5 * 2, 7]])


def test_registration_panel(drawn):
    rng = np.random.RandomState(0)
    moving, fixed, warped = rng.rand(3, 12, 10, 1)
    labels = rng.randint(0, 3, (3, 12, 10))
    pair = panels.Registered("a onto b", moving, fixed, warped, *labels, note="Dice 0.5 to 0.7")
    panels.registration_panel("x.png", [pair, pair], ["bone", "fat"], (1, 1), "Registration (synthetic)")
    (figure,) = drawn
    rows = figure.axes[:4], figure.axes[4:8]
    assert [axis.get_title() for axis in rows[0]] == ["moving", "fixed", "warped", "warped - fixed"]
    for row in rows:
        assert row[0].get_ylabel() == "a onto b" and row[2].texts[0].get_text() == "Dice 0.5 to 0.7"
        shown = [axis.images[0].get_array() for axis in row]
        for found, expected in zip(shown, (moving, fixed, warped, warped - fixed), strict=True):
            np.testing.assert_allclose(found, expected[..., 0].T)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["bone", "fat"]
    assert figure.get_suptitle() == "Registration (synthetic)"


def test_segmentation_panel(drawn):
    label = np.zeros((6, 8, 7), int)
    label[2:4, 3:6, 2:5] = 1
    subject = panels.Segmented("a", np.ones((6, 8, 7, 1)), label, {"deepatlas": 0 * label}, {"deepatlas": "Dice 0"})
    panels.segmentation_panel("x.png", [subject], ["bone"], (1, 1, 1), "Segmentation")
    rows = np.reshape(drawn[0].axes, (3, 3))
    assert [axis.get_title() for axis in rows[0]] == ["image", "reference", "DeepAtlas"]
    beside = ["a\naxial, slice 3 of 7", "a\ncoronal, slice 4 of 8", "a\nsagittal, slice 3 of 6"]
    assert [row[0].get_ylabel() for row in rows] == beside
    for (image, manual, predicted), plane in zip(rows, Plane.each(label, (1, 1, 1)), strict=True):
        assert [len(axis.collections) for axis in (image, manual, predicted)] == [0, 1, 0]
        areas = manual.images[1].get_array()[..., 3] > 0
        np.testing.assert_array_equal(areas, plane.cut(label).T == 1)
        assert [text.get_text() for text in predicted.texts] == [*plane.ends, "Dice 0"]


def test_titles_of_columns_do_not_overlap(drawn):
    """Names as long as they get, where they stand in the picture."""
    label = np.ones((8, 12), int)
    methods = ["segmentation_baseline_atlases", "segmentation_baseline_templates", "uniseg_reg_templates"]
    subject = panels.Segmented("a", np.ones((8, 12, 1)), label, dict.fromkeys(methods, label))
    with rc_context(STYLE):
        panels.segmentation_panel("x.png", [subject], ["bone"], (1, 1), "Segmentation")
        drawn[0].canvas.draw()
    titles = [axis.title.get_window_extent() for axis in drawn[0].axes]
    assert len(titles) == 5 and all(left.x1 < right.x0 for left, right in itertools.pairwise(titles))


def test_segmentation_panel_of_a_scan_without_a_label_map(drawn):
    """No column of the reference, and the planes are those of the prediction."""
    label = np.zeros((6, 8, 7), int)
    label[2:4, 3:6, 2:5] = 1
    subject = panels.Segmented("a", np.ones((6, 8, 7, 1)), None, {"other": 0 * label, "deepatlas": label})
    panels.segmentation_panel("x.png", [subject], ["bone"], (1, 1, 1), "Segmentation")
    rows = np.reshape(drawn[0].axes, (3, 3))
    assert [axis.get_title() for axis in rows[0]] == ["image", "other", "DeepAtlas"]
    for (_, other, predicted), plane in zip(rows, Plane.each(label, (1, 1, 1)), strict=True):
        assert [len(axis.collections) for axis in (other, predicted)] == [0, 1]
        np.testing.assert_array_equal(predicted.images[1].get_array()[..., 3] > 0, plane.cut(label).T == 1)


def test_folds_and_nothing_else_are_red(drawn):
    u = np.zeros((12, 6, 2), np.float32)
    u[5, :, 0] = -3
    panels.jacobian_map("x.png", np.ones((12, 6), int), {"deepatlas": u}, (1, 1), "Jacobian")
    axis = drawn[0].axes[0]
    colours = axis.images[0].to_rgba(axis.images[0].get_array())
    red = np.all(np.isclose(colours[..., :3], np.array([0xE0, 0, 0]) / 255, atol=0.01), axis=-1)
    expected = np.zeros((6, 12), bool)
    expected[:, 4] = True  # 1 + (-3 - 0) / 2 < 0
    np.testing.assert_array_equal(red, expected)
    np.testing.assert_allclose(colours[0, 0, :3], np.array([0xF7] * 3) / 255, atol=0.01)  # volume kept
    assert axis.get_xlabel().startswith(f"{100 / 12:.3g} % folds")


def test_warped_grid_lines(drawn):
    u = np.zeros((8, 6, 2))
    u[..., 1] = 0.5
    panels.warped_grid("x.png", np.zeros((8, 6, 1)), np.zeros((8, 6), int), {"deepatlas": u}, (2.0, 1.0), "Grid")
    lines = [line.get_xydata() for line in drawn[0].axes[0].lines]
    assert len(lines) == 8 + 6
    np.testing.assert_allclose(lines[0], [[1, y + 1] for y in range(6)])
    np.testing.assert_allclose(lines[8], [[2 * x + 1, 1] for x in range(8)])


@pytest.mark.parametrize("figure", ["warped_grid", "jacobian_map"])
def test_many_methods_have_several_rows(figure, drawn):
    fields = {f"uniseg_reg_{i}": np.zeros((8, 6, 2)) for i in range(1, 7)}
    image = [np.zeros((8, 6, 1))] if figure == "warped_grid" else []
    getattr(panels, figure)("x.png", *image, np.ones((8, 6), int), fields, (1, 1), "Six")
    shown = [axis for axis in drawn[0].axes if axis.get_visible() and axis.get_title()]
    assert [axis.get_title() for axis in shown] == [f"uniseg reg {i}" for i in range(1, 7)]
    assert len({axis.get_subplotspec().rowspan.start for axis in shown}) == 2
    assert sum(not axis.get_visible() for axis in drawn[0].axes) == 2
