"""Training curves and box plots as PNG files; no display is needed, and no setting of Matplotlib stays changed."""

import contextlib
import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from deepatlas_tf.evaluation.summary import DERIVED, method_order
from deepatlas_tf.runs.files import replacing

DPI = 130
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
    "figure.titlesize": 12,
    "text.parse_math": False,  # names of classes and subjects may hold any characters
}
# Okabe and Ito's colours, which people with colour-blindness can tell apart
METHOD_COLOURS = {
    "identity": "#999999",
    "segmentation_baseline": "#E69F00",
    "registration_unsupervised": "#56B4E9",
    "registration_weak": "#0072B2",
    "deepatlas": "#D55E00",
}
OTHER_COLOURS = ("#009E73", "#CC79A7", "#F0E442", "#7F5AA2", "#4D4D4D", "#8C564B")
# The ends of a method's name, before its domains where there are some, by what is done at test time
AT_TEST_TIME = {
    "atlases": " with atlases",
    "templates": " with templates",
    "flips": " with flips",
    "instance": ", refined",
    "anatomy": ", refined with anatomy",
    "anatomy_atlases": ", refined with anatomy and atlases",
    "anatomy_templates": ", refined with anatomy and templates",
}
PANELS_IN_A_LINE = 4
VALIDATION = {
    "val_segmentation_dice": "validation: segmentation Dice",
    "val_registration_dice": "validation: registration Dice",
    "val_folds_percent": "validation: folds (%)",
}


@contextlib.contextmanager
def figure_file(path: Path, width: float, height: float) -> Iterator[Figure]:
    """Give a new figure, ``width`` by ``height`` inches, and write it to ``path`` if the block ends without error."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        with replacing(path) as temporary:
            figure.savefig(temporary, dpi=DPI)


def spoken(name: str) -> str:
    """The name of a method, class or term as it is written in a figure: spaces in place of underscores."""
    name = DERIVED.sub(lambda end: AT_TEST_TIME[end[1]], name)
    return name.replace("deepatlas", "DeepAtlas").replace("_", " ")


def method_colours(methods: Sequence[str]) -> dict[str, str]:
    """A colour for each method, the same one in every figure that shows the same methods."""
    others = [name for name in methods if name not in METHOD_COLOURS]
    colours: Sequence[str] = OTHER_COLOURS
    if len(others) > len(colours):  # such as the rounds of UniSegReg, which then run from dark to light
        colours = [to_hex(matplotlib.colormaps["viridis"](i / (len(others) - 1))) for i in range(len(others))]
    extra = dict(zip(others, colours, strict=False))
    return {name: METHOD_COLOURS.get(name) or extra[name] for name in methods}


def _entitle(figure: Figure, title: str) -> None:
    """Write the title over the figure, on as many lines as its width asks for: about 11 letters an inch."""
    figure.suptitle(textwrap.fill(title, int(11 * figure.get_figwidth())))


def training_curves(path: Path, stages: Mapping[str, list[dict]], title: str) -> None:
    """Draw each term of the loss, the validation Dice and the folds against the step: a panel each, a line a stage.

    Args:
        path: where the PNG is written.
        stages: the rows of ``metrics.jsonl`` in any order, by stage; what was measured at the start is at step 0.
        title: text above the figure.
    """
    quantities = _quantities([row for rows in stages.values() for row in rows])
    colours = method_colours(method_order(stages))
    columns = min(PANELS_IN_A_LINE, len(quantities))
    lines = math.ceil(len(quantities) / columns)
    with figure_file(path, max(6.0, 3.0 * columns), 0.9 + 2.1 * lines) as figure:
        _entitle(figure, title)
        axes = figure.subplots(lines, columns, squeeze=False).ravel()
        for axis, (key, name) in zip(axes, quantities.items(), strict=False):
            for stage, colour in colours.items():
                _plot_curve(axis, key, stages[stage], spoken(stage), colour)
            axis.set_title(name, fontsize=9)
            axis.set_xlabel("step")
            axis.locator_params(axis="x", nbins=4)
            axis.locator_params(axis="y", nbins=5)
        for axis in axes[len(quantities) :]:
            axis.set_axis_off()
        legend = [Line2D([], [], color=colour, label=spoken(stage)) for stage, colour in colours.items()]
        figure.legend(handles=legend, loc="outside lower center", ncols=min(len(legend), 2 * columns), fontsize=8)


def _quantities(rows: Sequence[Mapping]) -> dict[str, str]:
    """What has a panel: ``{key in the rows: title}``."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    terms = [key for key in keys if "/" in key and not key.startswith("learning_rate/")]
    return {term: spoken(term.replace("/", ": ")) for term in terms} | {
        k: n for k, n in VALIDATION.items() if k in keys
    }


def _plot_curve(axis: Axes, key: str, rows: Sequence[Mapping], label: str, colour: str) -> None:
    points = sorted((row["step"], row[key]) for row in rows if key in row)
    if points:
        marker = "." if len(points) <= 40 else None
        axis.plot(*zip(*points, strict=True), color=colour, marker=marker, linewidth=1.4, label=label)


def dice_boxplots(path: Path, rows: list[dict], class_names: Sequence[str], title: str) -> None:
    """Draw the Dice of the methods as boxes over the subjects or pairs, a group for each class and one for their mean.

    A box shows the quartiles and the median, its whiskers the whole range, a diamond the mean.

    Args:
        path: where the PNG is written.
        rows: the rows of ``segmentation.csv`` or ``registration.csv``.
        class_names: names of the foreground classes.
        title: text above the figure.
    """
    methods = method_order(row["method"] for row in rows)
    colours = method_colours(methods)
    groups = ["mean", *class_names] if len(class_names) > 1 else list(class_names)
    values = {(method, group): _dices(rows, method, group) for method in methods for group in groups}
    with figure_file(path, max(6.5, 1.2 + len(groups) * (0.35 + 0.16 * len(methods))), 4.4) as figure:
        axis = figure.add_subplot()
        step = 0.8 / len(methods)
        for i, method in enumerate(methods):
            offset = (i - (len(methods) - 1) / 2) * step
            found = [values[method, group] for group in groups]
            _boxes(axis, found, np.arange(len(groups)) + offset, 0.8 * step, colours[method])
        lowest = min((x.min() for x in values.values() if x.size), default=0)
        axis.set_ylim(max(0, math.floor(lowest * 10 - 0.5) / 10), 1)
        axis.set_xlim(-0.5, len(groups) - 0.5)
        slanted: dict[str, Any] = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if len(groups) > 6 else {}
        axis.set_xticks(range(len(groups)), [spoken(group) for group in groups], **slanted)
        axis.tick_params(axis="x", length=0)
        axis.grid(False, axis="x")
        if len(groups) > 1:
            axis.axvline(0.5, color="#bbbbbb", linewidth=1)
        axis.set_ylabel("Dice")
        _entitle(figure, title)
        legend = [Patch(facecolor=colours[method], alpha=0.75, label=spoken(method)) for method in methods]
        figure.legend(handles=legend, loc="outside lower center", ncols=min(len(methods), 3 if len(groups) < 6 else 5))


def _dices(rows: Sequence[Mapping], method: str, group: str) -> np.ndarray:
    """The values of one box, without those that are NaN; the group "mean" has one for each subject or pair."""
    own = [row for row in rows if row["method"] == method]
    if group != "mean":
        values = np.array([row["dice"] for row in own if row["class"] == group], np.float64)
    else:
        by_case = {}
        for row in own:
            case = tuple(row.get(name) for name in ("subject", "moving", "fixed"))
            by_case.setdefault(case, []).append(row["dice"])
        values = np.array([np.mean(kept) for x in by_case.values() if (kept := _defined(x)).size], np.float64)
    return _defined(values)


def _defined(values: Any) -> np.ndarray:
    values = np.asarray(values, np.float64)
    return values[~np.isnan(values)]


def _boxes(axis: Axes, values: Sequence[np.ndarray], positions: np.ndarray, width: float, colour: str) -> None:
    kept = [(x, position) for x, position in zip(values, positions, strict=True) if x.size]
    if not kept:
        return
    dark = {"color": "#333333", "linewidth": 0.9}
    axis.boxplot(
        [x for x, _ in kept],
        positions=[position for _, position in kept],
        widths=width,
        whis=(0, 100),
        patch_artist=True,
        showmeans=True,
        manage_ticks=False,
        boxprops={"facecolor": colour, "alpha": 0.75, "linewidth": 0.9},
        medianprops={"color": "black", "linewidth": 1.3},
        meanprops={"marker": "D", "markersize": 2.5, "markerfacecolor": "white", "markeredgecolor": "black"},
        whiskerprops=dark,
        capprops=dark,
    )
