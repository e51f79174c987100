"""Image panels as PNG files: planes of 2D or 3D scans, of label maps and of displacement fields.

A picture of one case shows it in three planes, one of several cases in the plane that shows most. How a plane is turned
is in :mod:`deepatlas_tf.evaluation.slices`.
"""

import contextlib
import dataclasses
import math
import textwrap
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from deepatlas_tf.evaluation.figures import figure_file, spoken
from deepatlas_tf.evaluation.plane import Plane
from deepatlas_tf.evaluation.slices import class_colour, show_areas, show_contours, show_image
from deepatlas_tf.metrics.deformation import jacobian_determinant

FOLD = "#e00000"
# Red is for folds only
SHRINK_TO_GROW = ["#5e3c99", "#b2abd2", "#f7f7f7", "#7fbf7b", "#1b7837"]
VOLUME_CHANGE = LinearSegmentedColormap.from_list("volume_change", SHRINK_TO_GROW).with_extremes(under=FOLD)
PANEL_INCHES = 2.5
MARGIN_INCHES, LETTER_INCHES = 1.2, 0.09  # beside all panels of a row; a letter of a title
Case = TypeVar("Case")


@dataclasses.dataclass(frozen=True)
class Registered:
    """A registered pair for a panel: images ``(*S, K)`` and label maps ``(*S,)``.

    name: text beside the row. note: text in the picture of the warped image.
    """

    name: str
    moving: np.ndarray
    fixed: np.ndarray
    warped: np.ndarray
    moving_label: np.ndarray
    fixed_label: np.ndarray
    warped_label: np.ndarray
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Segmented:
    """A segmented subject for a panel: image ``(*S, K)`` and manual label map ``(*S,)``, None where there is none.

    name: text beside the row. predictions: label map ``(*S,)`` of each method. notes: text in the picture of a method.
    """

    name: str
    image: np.ndarray
    label: np.ndarray | None
    predictions: Mapping[str, np.ndarray]
    notes: Mapping[str, str] = dataclasses.field(default_factory=dict)


def registration_panel(
    path: Path, pairs: Sequence[Registered], class_names: Sequence[str], spacing: Sequence[float], title: str
) -> None:
    """Draw a row for each pair: the moving, the fixed and the warped image, and the difference of the last two.

    The contours are those of the image's own label map; in the difference, those of the fixed image's.

    Args:
        path: where the PNG is written.
        pairs: all on one grid; the planes are chosen by the first fixed label map.
        class_names: names of the foreground classes.
        spacing: voxel size of the grid in mm, for each axis.
        title: text above the figure.
    """
    names, shape = ("moving", "fixed", "warped"), pairs[0].fixed_label.shape
    rows = _rows(pairs[0].fixed_label, spacing, pairs)
    with _panel_figure(path, [plane for plane, _ in rows], shape, 4) as (figure, axes):
        for row, (plane, pair) in zip(axes, rows, strict=True):
            for axis, name in zip(row, names, strict=False):
                show_image(axis, plane, getattr(pair, name))
                show_contours(axis, plane, getattr(pair, f"{name}_label"))
            difference = show_image(row[3], plane, pair.warped - pair.fixed, "RdBu_r", (-0.5, 0.5))
            show_contours(row[3], plane, pair.fixed_label, "black")
            _note(row[2], pair.note)
            row[0].set_ylabel(with_position(pair.name, plane, shape))
        _titles(figure, axes[0], (*names, "warped - fixed"), 4)
        figure.colorbar(difference, ax=list(axes[:, 3]), shrink=0.8, extend="both")
        _legend(figure, class_names)
        figure.suptitle(title)


def segmentation_panel(
    path: Path, subjects: Sequence[Segmented], class_names: Sequence[str], spacing: Sequence[float], title: str
) -> None:
    """Draw a row for each subject: the image, the manual label map, and the label map of each method.

    Args:
        path: where the PNG is written.
        subjects: all on one grid and with the same methods; the planes are chosen by the first manual label map, or by
            that of the last method where the subjects have none.
        class_names: names of the foreground classes.
        spacing: voxel size of the grid in mm, for each axis.
        title: text above the figure.
    """
    first = _label_maps(subjects[0])
    guide = first.get("reference", list(first.values())[-1])
    rows, shape = _rows(guide, spacing, subjects), guide.shape
    with _panel_figure(path, [plane for plane, _ in rows], shape, 1 + len(first)) as (figure, axes):
        for row, (plane, subject) in zip(axes, rows, strict=True):
            for axis in row:
                show_image(axis, plane, subject.image)
            for axis, (name, label) in zip(row[1:], _label_maps(subject).items(), strict=True):
                show_areas(axis, plane, label)
                show_contours(axis, plane, label)
                _note(axis, subject.notes.get(name, ""))
            row[0].set_ylabel(with_position(subject.name, plane, shape))
        _titles(figure, axes[0], ("image", *map(spoken, first)), 1 + len(first))
        _legend(figure, class_names)
        figure.suptitle(title)


def _label_maps(subject: Segmented) -> dict[str, np.ndarray]:
    """The manual label map, where there is one, and that of each method, by the name of its column."""
    manual = {} if subject.label is None else {"reference": subject.label}
    return {**manual, **subject.predictions}


def warped_grid(
    path: Path,
    moving: np.ndarray,
    label: np.ndarray,
    fields: Mapping[str, np.ndarray],
    spacing: Sequence[float],
    title: str,
) -> None:
    """Draw, for each method, where the lines of the fixed image's grid lie in the moving image.

    In 3D the lines are those of one plane, seen from in front of it: the displacement out of it is not shown.

    Args:
        path: where the PNG is written.
        moving: image ``(*S, K)``.
        label: the fixed image's label map ``(*S,)``, by which the plane is chosen.
        fields: displacement field ``(*S, D)`` in voxels by method.
        spacing: voxel size of the grid in mm, for each axis.
        title: text above the figure.
    """
    plane = Plane.showing_most(label, spacing)
    with _method_panels(path, plane, label.shape, fields) as (figure, axes):
        for axis, u in zip(axes, fields.values(), strict=True):
            show_image(axis, plane, moving)
            limits = axis.get_xlim(), axis.get_ylim()
            lines = plane.positions_mm(u)
            every = max(1, round(max(lines.shape[:2]) / 32))
            for line in [*lines[::every], *lines.swapaxes(0, 1)[::every]]:
                axis.plot(*line.T, color="#ffd92f", linewidth=0.7)
            axis.set(xlim=limits[0], ylim=limits[1])
        figure.suptitle(with_position(title, plane, label.shape))


def jacobian_map(
    path: Path, label: np.ndarray, fields: Mapping[str, np.ndarray], spacing: Sequence[float], title: str
) -> None:
    """Draw the Jacobian determinant of each method's field: 1 (white) keeps the volume, folds are red.

    Args:
        path: where the PNG is written.
        label: the fixed image's label map ``(*S,)``, drawn as contours; the plane is chosen by it.
        fields: displacement field ``(*S, D)`` in voxels by method.
        spacing: voxel size of the grid in mm, for each axis.
        title: text above the figure.
    """
    plane = Plane.showing_most(label, spacing)
    with _method_panels(path, plane, label.shape, fields) as (figure, axes):
        for axis, u in zip(axes, fields.values(), strict=True):
            determinant = jacobian_determinant(u)
            folds = determinant <= 0
            shown = np.where(folds, -1, determinant)[..., None]
            picture = show_image(axis, plane, shown, VOLUME_CHANGE, TwoSlopeNorm(1, 0, 3))
            show_contours(axis, plane, label, "#444444")
            axis.set_xlabel(f"{100 * folds.mean():.3g} % folds in the whole image")
        bar = figure.colorbar(picture, ax=axes, shrink=0.85, extend="both", ticks=[0, 0.5, 1, 2, 3])
        bar.set_label("Jacobian determinant (red: folds)")
        figure.suptitle(with_position(title, plane, label.shape))


def _rows(label: np.ndarray, spacing: Sequence[float], cases: Sequence[Case]) -> list[tuple[Plane, Case]]:
    """The plane and the case of each row: one case in each plane, or several in the plane that shows most."""
    if len(cases) == 1:
        return [(plane, cases[0]) for plane in Plane.each(label, spacing)]
    return [(Plane.showing_most(label, spacing), case) for case in cases]


def with_position(text: str, plane: Plane, shape: Sequence[int]) -> str:
    """The text, and below it which slice of which plane is shown; in 2D the text alone."""
    return "\n".join(filter(None, (text, plane.position(shape))))


@contextlib.contextmanager
def _panel_figure(
    path: Path, planes: Sequence[Plane], shape: Sequence[int], n_columns: int, inches: float = PANEL_INCHES
) -> Iterator[tuple[Figure, np.ndarray]]:
    """Give a figure of panels without axes, and its axes (rows, columns); written when the block ends.

    Each row has a plane of a volume of ``shape``, all on one scale, on which the longest side has ``inches``.
    """
    sizes = np.array([plane.size_mm(shape) for plane in planes])
    width, heights = inches * sizes[:, 0].max() / sizes.max(), inches * sizes[:, 1] / sizes.max()
    across = MARGIN_INCHES + n_columns * (width + 0.1)
    with figure_file(path, max(5.5, across), 1.1 + float(np.sum(heights + 0.1))) as figure:
        axes = figure.subplots(len(planes), n_columns, squeeze=False, height_ratios=list(heights))
        for axis in axes.flat:
            axis.set(xticks=[], yticks=[])
            axis.grid(False)
            axis.spines[:].set_visible(False)
        yield figure, axes


@contextlib.contextmanager
def _method_panels(
    path: Path, plane: Plane, shape: Sequence[int], methods: Collection[str]
) -> Iterator[tuple[Figure, list[Axes]]]:
    """Give a figure with a panel for each method, at most four in a row, below its name; and the axes of the panels."""
    n_columns = min(4, len(methods))
    planes = [plane] * math.ceil(len(methods) / n_columns)
    with _panel_figure(path, planes, shape, n_columns, 3.4) as (figure, axes):
        used, spare = axes.flat[: len(methods)], axes.flat[len(methods) :]
        _titles(figure, used, map(spoken, methods), n_columns)
        for axis in spare:
            axis.set_visible(False)
        yield figure, list(used)


def _titles(figure: Figure, axes: Iterable[Axes], titles: Iterable[str], n_columns: int) -> None:
    """Write above each panel, in lines that are no wider than one of the ``n_columns`` where the words allow it."""
    letters = int((figure.get_figwidth() - MARGIN_INCHES) / n_columns / LETTER_INCHES)
    for axis, title in zip(axes, titles, strict=True):
        axis.set_title(textwrap.fill(title, letters, break_long_words=False))


def _note(axis: Axes, text: str) -> None:
    if text:
        box = {"facecolor": "black", "alpha": 0.6, "edgecolor": "none", "pad": 2}
        axis.text(0.03, 0.04, text, transform=axis.transAxes, color="white", fontsize=8, bbox=box)


def _legend(figure: Figure, class_names: Sequence[str]) -> None:
    handles = [Patch(color=class_colour(i), label=spoken(name)) for i, name in enumerate(class_names, 1)]
    columns = min(len(handles), max(2, int(figure.get_figwidth() / 1.7)))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=8)
