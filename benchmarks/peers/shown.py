"""A result as tables in Markdown and as a figure of Dice against seconds."""

from pathlib import Path

import numpy as np

from deepatlas_tf.evaluation.figures import figure_file
from deepatlas_tf.runs.predict import IDENTITY

HEAD = ["method", "setting", "Dice", "HD95 mm", "% folds", "SDlogJ", "seconds a pair"]
MEASURES = (("dice", 3), ("hd95_mm", 2), ("folds_percent", 3), ("sdlogj", 3))
NEAR_SECONDS, NEAR_DICE = 0.1, 0.012  # in powers of ten, and in Dice
OURS_COLOUR, PEERS_COLOUR = "#D55E00", "#0072B2"


def markdown(result: dict) -> str:
    """The table of the means on the test pairs, that of the Dice of each class, and what was left out."""
    rows = [_means(method, found) for method, found in result["methods"].items()]
    classes = result["class_names"][1:]
    by_class = [
        [method, *(number(found["test"]["dice"]["per_class"][name], 3) for name in classes)]
        for method, found in result["methods"].items()
    ]
    notes = [f"{method} is left out: {why}." for method, why in result["left_out"].items()]
    tables = [_title(result), table(HEAD, rows, 2), table(["Dice", *classes], by_class, 1), *notes]
    return "\n\n".join(tables)


def draw(result: dict, path: Path) -> None:
    """Mean Dice of each method against its seconds, on a logarithmic axis; no registration is a line."""
    with figure_file(path, 8, 4.2) as figure:
        axes = figure.add_subplot()
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        timed = [(method, found) for method, found in result["methods"].items() if found["seconds"]["median"]]
        places = {}
        for number, (method, found) in enumerate(timed, start=1):
            at = found["seconds"]["median"], found["test"]["dice"]["mean"]
            colour = OURS_COLOUR if found["ours"] else PEERS_COLOUR
            axes.plot(*at, "o", color=colour, label=f"{number}  {method}")
            place = next((place for place in places if _close(place, (colour, *at))), (colour, *at))
            places.setdefault(place, []).append(str(number))
        for (colour, *at), numbers in places.items():
            axes.annotate(", ".join(numbers), at, xytext=(4, 4), textcoords="offset points", color=colour)
        before = result["methods"][IDENTITY]["test"]["dice"]["mean"]
        axes.axhline(before, color="#999999", linestyle="--", linewidth=1, label="no registration")
        axes.set_xlabel("seconds a pair, two cores")
        axes.set_ylabel("mean Dice")
        axes.set_title(_title(result).replace(": ", ":\n"), fontsize=10)
        figure.legend(loc="outside right upper", fontsize=7)


def _close(one: tuple[str, float, float], other: tuple[str, float, float]) -> bool:
    """Whether two points ``(colour, seconds, Dice)`` of a colour are too close for a label each."""
    seconds, dice = abs(np.log10(one[1] / other[1])), abs(one[2] - other[2])
    return one[0] == other[0] and seconds < NEAR_SECONDS and dice < NEAR_DICE


def _title(result: dict) -> str:
    synthetic = " (synthetic)" if result["synthetic"] else ""
    grid = " x ".join(map(str, result["shape"]))
    return f"Registration of {result['dataset']}{synthetic}: {len(result['pairs']['test'])} test pairs of {grid} voxels"


def _means(method: str, found: dict) -> list[str]:
    means = [number(found["test"][measure]["mean"], digits) for measure, digits in MEASURES]
    taken = found["seconds"]["median"]
    return [method, found["setting"] or "-", *means, "-" if taken is None else f"{taken:.3g}"]


def number(value: float | None, digits: int) -> str:
    """With so many digits after the point; "-" for None."""
    return "-" if value is None else f"{value:.{digits}f}"


def table(head: list[str], rows: list[list[str]], text_columns: int) -> str:
    """A Markdown table whose first columns are text."""
    rule = ["---" if index < text_columns else "---:" for index in range(len(head))]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, rule, *rows])
