"""Image panels as PNG files: one plane of 2D or 3D scans, of label maps and of displacement fields.

Arrays are in canonical RAS order: the first axis of a plane points right, its second one up, so superior (in an axial
plane anterior) is at the top and the patient's right on the right.
"""

import contextlib
import dataclasses
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, Normalize, TwoSlopeNorm, to_rgba
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Patch

from deepatlas_tf.evaluation.figures import figure_file, spoken
from deepatlas_tf.evaluation.plane import Plane
from deepatlas_tf.metrics.deformation import jacobian_determinant

# Bright enough to be told apart on a grey scan
CLASS_COLOURS = (
    "#ff3b4e", "#3ddc58", "#ffd92f", "#4f83ff", "#ff8c1a", "#33e6e6", "#f04be0", "#b8f000",
    "#ff9ec4", "#a05cff", "#16b39a", "#d0a060", "#fff3a0", "#ff7f6b", "#9ad0ff", "#7fbf3f",
)  # fmt: skip
FOLD = "#e00000"
# Red is for folds only
SHRINK_TO_GROW = ["#5e3c99", "#b2abd2", "#f7f7f7", "#7fbf7b", "#1b7837"]
VOLUME_CHANGE = LinearSegmentedColormap.from_list("volume_change", SHRINK_TO_GROW).with_extremes(under=FOLD)
PANEL_INCHES = 2.5


@dataclasses.dataclass(frozen=True)
class Registered:
    """A registered pair for a panel: images ``(*S, 1)`` and label maps ``(*S,)``.

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
    """A segmented subject for a panel: image ``(*S, 1)`` and manual label map ``(*S,)``.

    name: text beside the row. predictions: label map ``(*S,)`` of each method. notes: text in the picture of a method.
    """

    name: str
    image: np.ndarray
    label: np.ndarray
    predictions: Mapping[str, np.ndarray]
    notes: Mapping[str, str] = dataclasses.field(default_factory=dict)


def registration_panel(
    path: Path, pairs: Sequence[Registered], class_names: Sequence[str], spacing: Sequence[float], title: str
) -> None:
    """Draw a row for each pair: the moving, the fixed and the warped image, and the difference of the last two.

    The contours are those of the image's own label map; in the difference, those of the fixed image's.

    Args:
        path: where the PNG is written.
        pairs: all on one grid; the plane is chosen by the first fixed label map.
        class_names: names of the foreground classes.
        spacing: voxel size of the grid in mm, for each axis.
        title: text above the figure.
    """
    plane = Plane.showing_most(pairs[0].fixed_label, spacing)
    names = ("moving", "fixed", "warped")
    with _panel_figure(path, plane, pairs[0].fixed_label.shape, (len(pairs), 4)) as (figure, axes):
        for row, pair in zip(axes, pairs, strict=True):
            for axis, name in zip(row, names, strict=False):
                show_image(axis, plane, getattr(pair, name))
                show_contours(axis, plane, getattr(pair, f"{name}_label"))
            difference = show_image(row[3], plane, pair.warped - pair.fixed, "RdBu_r", (-0.5, 0.5))
            show_contours(row[3], plane, pair.fixed_label, "black")
            _note(row[2], pair.note)
            row[0].set_ylabel(pair.name)
        _columns(axes, (*names, "warped - fixed"))
        figure.colorbar(difference, ax=list(axes[:, 3]), shrink=0.8, extend="both")
        _legend(figure, class_names)
        figure.suptitle(title)


def segmentation_panel(
    path: Path, subjects: Sequence[Segmented], class_names: Sequence[str], spacing: Sequence[float], title: str
) -> None:
    """Draw a row for each subject: the image, the manual label map, and the label map of each method.

    Args:
        path: where the PNG is written.
        subjects: all on one grid and with the same methods; the plane is chosen by the first manual label map.
        class_names: names of the foreground classes.
        spacing: voxel size of the grid in mm, for each axis.
        title: text above the figure.
    """
    plane = Plane.showing_most(subjects[0].label, spacing)
    methods = list(subjects[0].predictions)
    with _panel_figure(path, plane, subjects[0].label.shape, (len(subjects), 2 + len(methods))) as (figure, axes):
        for row, subject in zip(axes, subjects, strict=True):
            for axis, label in zip(row, (None, subject.label, *subject.predictions.values()), strict=True):
                show_image(axis, plane, subject.image)
                if label is not None:
                    show_areas(axis, plane, label)
                    show_contours(axis, plane, label)
            for axis, method in zip(row[2:], methods, strict=True):
                _note(axis, subject.notes.get(method, ""))
            row[0].set_ylabel(subject.name)
        _columns(axes, ("image", "reference", *map(spoken, methods)))
        _legend(figure, class_names)
        figure.suptitle(title)


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
        moving: image ``(*S, 1)``.
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
        figure.suptitle(title)


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
        figure.suptitle(title)


def show_image(axis: Axes, plane: Plane, image: np.ndarray, colours: Any = "gray", limits: Any = (0, 1)) -> AxesImage:
    """Show the plane of an image ``(*S, 1)``, superior up, in mm.

    ``colours`` is a colour map of Matplotlib; ``limits`` are the values at its ends, or a Normalize.
    """
    width, height = plane.size_mm(image.shape)
    norm = {"norm": limits} if isinstance(limits, Normalize) else {"vmin": limits[0], "vmax": limits[1]}
    pixels = plane.cut(image)[..., 0].T
    return axis.imshow(pixels, cmap=colours, origin="lower", extent=(0, width, 0, height), **norm)


def show_contours(axis: Axes, plane: Plane, label: np.ndarray, colour: str | None = None) -> None:
    """Draw the outlines of the classes of a label map ``(*S,)``, in their colours or in the given one."""
    columns, rows = ((np.arange(label.shape[i]) + 0.5) * plane.spacing[i] for i in plane.axes)
    pixels = plane.cut(label).T
    for index in np.unique(pixels[pixels > 0]):
        mask = pixels == index
        if not mask.all():
            own = colour or class_colour(index)
            axis.contour(columns, rows, mask.astype(float), [0.5], colors=[own], linewidths=0.7 if colour else 1.1)


def show_areas(axis: Axes, plane: Plane, label: np.ndarray) -> None:
    """Draw the classes of a label map ``(*S,)`` as transparent areas in their colours."""
    pixels = plane.cut(label).T
    colours = np.zeros((*pixels.shape, 4))
    for index in np.unique(pixels[pixels > 0]):
        colours[pixels == index] = to_rgba(class_colour(index), 0.35)
    width, height = plane.size_mm(label.shape)
    axis.imshow(colours, origin="lower", extent=(0, width, 0, height))


def class_colour(index: int) -> str:
    """The colour of a foreground class, given by its index, which counts from 1."""
    return CLASS_COLOURS[(int(index) - 1) % len(CLASS_COLOURS)]


@contextlib.contextmanager
def _panel_figure(
    path: Path, plane: Plane, shape: Sequence[int], grid: tuple[int, int], inches: float = PANEL_INCHES
) -> Iterator[tuple[Figure, np.ndarray]]:
    """Give a figure of panels without axes, and its ``grid`` (rows, columns) of axes; written when the block ends.

    A panel has the shape of the plane of a volume of ``shape``; its longer side has ``inches``.
    """
    width, height = (inches * side / max(plane.size_mm(shape)) for side in plane.size_mm(shape))
    n_rows, n_columns = grid
    with figure_file(path, max(5.5, 1.2 + n_columns * (width + 0.1)), 1.1 + n_rows * (height + 0.1)) as figure:
        axes = figure.subplots(n_rows, n_columns, squeeze=False)
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
    with _panel_figure(path, plane, shape, (math.ceil(len(methods) / n_columns), n_columns), 3.4) as (figure, axes):
        used, spare = axes.flat[: len(methods)], axes.flat[len(methods) :]
        for axis, method in zip(used, methods, strict=True):
            axis.set_title(spoken(method))
        for axis in spare:
            axis.set_visible(False)
        yield figure, list(used)


def _columns(axes: np.ndarray, titles: Iterable[str]) -> None:
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title)


def _note(axis: Axes, text: str) -> None:
    if text:
        box = {"facecolor": "black", "alpha": 0.6, "edgecolor": "none", "pad": 2}
        axis.text(0.03, 0.04, text, transform=axis.transAxes, color="white", fontsize=8, bbox=box)


def _legend(figure: Figure, class_names: Sequence[str]) -> None:
    handles = [Patch(color=class_colour(i), label=spoken(name)) for i, name in enumerate(class_names, 1)]
    columns = min(len(handles), max(2, int(figure.get_figwidth() / 1.7)))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=8)
