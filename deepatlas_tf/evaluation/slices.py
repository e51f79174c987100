"""One plane of a scan in a panel: its image, contours and areas of its label map, the sides of the patient.

Arrays are in canonical RAS order. Superior (in an axial plane anterior) is at the top; coronal and axial planes are in
radiological view, the patient's right on the left, unless :mod:`deepatlas_tf.view` says otherwise. Slices in 2D are
shown as they lie, since nothing says which plane of the patient they are.
"""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, to_rgba
from matplotlib.image import AxesImage
from matplotlib.patheffects import withStroke

from deepatlas_tf.evaluation.plane import Plane

# Bright enough to be told apart on a grey scan
CLASS_COLOURS = (
    "#ff3b4e", "#3ddc58", "#ffd92f", "#4f83ff", "#ff8c1a", "#33e6e6", "#f04be0", "#b8f000",
    "#ff9ec4", "#a05cff", "#16b39a", "#d0a060", "#fff3a0", "#ff7f6b", "#9ad0ff", "#7fbf3f",
)  # fmt: skip


def show_image(axis: Axes, plane: Plane, image: np.ndarray, colours: Any = "gray", limits: Any = (0, 1)) -> AxesImage:
    """Show the plane of an image ``(*S, K)``, of its first channel, superior up, in mm, with the letters of its sides.

    ``colours`` is a colour map of Matplotlib; ``limits`` are the values at its ends, or a Normalize.
    """
    width, height = plane.size_mm(image.shape)
    norm = {"norm": limits} if isinstance(limits, Normalize) else {"vmin": limits[0], "vmax": limits[1]}
    pixels = plane.cut(image)[..., 0].T
    shown = axis.imshow(pixels, cmap=colours, origin="lower", extent=(0, width, 0, height), **norm)
    axis.set_xlim((width, 0) if plane.is_reversed else (0, width))
    for letter, place, side in zip(plane.ends, (0.02, 0.98), ("left", "right"), strict=True):
        if letter:
            text = axis.text(place, 0.98, letter, transform=axis.transAxes, ha=side, va="top", color="white")
            text.set(fontsize=8, fontweight="bold", path_effects=[withStroke(linewidth=2, foreground="black")])
    return shown


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
