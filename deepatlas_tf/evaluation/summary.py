"""The numbers of an evaluated run: the means of the CSV rows, and the table that compares the methods."""

import math
import re
from collections.abc import Collection, Iterable, Sequence

import numpy as np

PER_CLASS = ("dice", "hd95_mm", "assd_mm", "hausdorff_mm")
PER_PAIR = ("folds_percent", "sdlogj")
MOST_FOLDS_PERCENT = 5.0
FIRST = ("identity", "alignment", "segmentation_baseline", "registration_unsupervised", "registration_weak")
LAST = ("deepatlas", "full_resolution")
# at the end of a name, before the domains that it may tell
DERIVED = re.compile(r"_(instance|anatomy_atlases|anatomy_templates|anatomy|atlases|templates|flips)(?= \(|$)")
# Heading, task, measure and digits after the point
COLUMNS = (
    ("segmentation Dice", "segmentation", "dice", 3),
    ("HD95 mm", "segmentation", "hd95_mm", 2),
    ("Hausdorff mm", "segmentation", "hausdorff_mm", 2),
    ("registration Dice", "registration", "dice", 3),
    ("HD95 mm", "registration", "hd95_mm", 2),
    ("Hausdorff mm", "registration", "hausdorff_mm", 2),
    ("% folds", "registration", "folds_percent", 3),
)


def method_order(methods: Iterable[str]) -> list[str]:
    """Sort names of methods, each once: baselines first, ``deepatlas`` last, the others between as they come.

    Registrations of a stage that were refined for each pair, and its segmentation with other scans or flips, follow.
    """
    stage_of = {name: DERIVED.sub("", name) for name in methods}
    stages = list(dict.fromkeys(stage_of.values()))
    first = [name for name in FIRST if name in stages]
    last = [name for name in LAST if name in stages]
    order = first + [name for name in stages if name not in FIRST + LAST] + last
    return sorted(stage_of, key=lambda name: order.index(stage_of[name]))


def summarise_rows(segmentation_rows: list[dict], registration_rows: list[dict], class_names: Sequence[str]) -> dict:
    """The means of the rows: ``{method: {"segmentation": {measure: ...}, "registration": {measure: ...}}}``.

    Dice and distances become ``{"mean", "per_class": {name: value}}``: for each class the mean over the subjects (or
    pairs) where the measure is defined, and of these the mean over the classes. ``folds_percent`` and ``sdlogj`` become
    ``{"mean"}`` over the pairs. A method has only the tasks that it was measured in.

    A class absent from one of two label maps has a Dice of 0 but no distance, so a method that misses structures is not
    punished in its mean distance: read it together with Dice. What is defined nowhere is None, null in JSON.

    Args:
        segmentation_rows: rows with the columns of ``segmentation.csv``.
        registration_rows: rows with the columns of ``registration.csv``.
        class_names: names of the foreground classes, in order.
    """
    summary = {}
    for method in method_order(row["method"] for row in [*registration_rows, *segmentation_rows]):
        summary[method] = {}
        for task, rows in (("segmentation", segmentation_rows), ("registration", registration_rows)):
            own = [row for row in rows if row["method"] == method]
            if own:
                summary[method][task] = _summarise_task(own, class_names)
    return summary


def _summarise_task(rows: Sequence[dict], class_names: Sequence[str]) -> dict[str, dict]:
    result = {}
    for measure in PER_CLASS:
        if measure not in rows[0]:
            continue  # rows of before there was the maximum of the distances
        per_class = {name: _mean(row[measure] for row in rows if row["class"] == name) for name in class_names}
        result[measure] = {"mean": _mean(per_class.values()), "per_class": per_class}
    for measure in PER_PAIR:
        if measure in rows[0]:
            # The rows of one pair, one for each class, repeat its value
            pairs = {(row["moving"], row["fixed"]): row[measure] for row in rows}
            result[measure] = {"mean": _mean(pairs.values())}
    return result


def _mean(values: Iterable[float | None]) -> float | None:
    defined = [value for value in values if value is not None and not math.isnan(value)]
    return float(np.mean(defined)) if defined else None


def remarks(summary: dict) -> list[str]:
    """Sentences on what must not be overlooked in the means.

    That is: classes that are never predicted, many folds, and a Dice below that of no registration.

    Args:
        summary: what :func:`summarise_rows` gave. A registration is compared with ``identity`` for the same domains.
    """
    found = []
    for method, tasks in summary.items():
        found += [f"{method}: {name} is never predicted." for name in _never_predicted(tasks.get("segmentation", {}))]
        means = {measure: value["mean"] for measure, value in tasks.get("registration", {}).items()}
        folds, dice = means.get("folds_percent"), means.get("dice")
        if folds is not None and folds > MOST_FOLDS_PERCENT:
            found.append(f"{method}: {folds:.1f} % of the voxels fold, its deformations are not to be used.")
        domains = method.partition(" (")[2]
        unmoved = f"identity ({domains}" if domains else "identity"
        before = summary.get(unmoved, {}).get("registration", {}).get("dice", {}).get("mean")
        if dice is not None and before is not None and dice < before:
            found.append(f"{method}: registration Dice {dice:.3f} is below the {before:.3f} of no registration at all.")
    return found


def _never_predicted(measures: dict[str, dict]) -> list[str]:
    """The classes whose Dice is 0, and whose distance is defined nowhere: they are in manual label maps alone."""
    dice, distance = (measures.get(name, {}).get("per_class", {}) for name in ("dice", "assd_mm"))
    return [name for name, value in dice.items() if value == 0 and distance.get(name, 0) is None]


def comparison_table(summary: dict, tasks: Collection[str] = ("segmentation", "registration")) -> str:
    """The means as aligned plain text: one line for each method, ``-`` where a measure does not apply.

    ``tasks`` are those whose columns are shown.
    """
    return aligned_columns(_cells(summary, tasks))


def aligned_columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as plain text under their heading, the first row: the first column to the left, others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [_join(row, widths, "  ").rstrip() for row in rows]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def markdown_table(summary: dict) -> str:
    """The table of :func:`comparison_table` in Markdown."""
    rows = _cells(summary, ("segmentation", "registration"))
    rule = ["---"] + ["---:"] * len(COLUMNS)
    return "\n".join("| " + " | ".join(row) + " |" for row in [rows[0], rule, *rows[1:]])


def _cells(summary: dict, tasks: Collection[str]) -> list[list[str]]:
    columns = [column for column in COLUMNS if column[1] in tasks]
    rows = [["method", *(heading for heading, *_ in columns)]]
    for method in method_order(summary):
        cells = []
        for _, task, measure, digits in columns:
            value = summary[method].get(task, {}).get(measure, {}).get("mean")
            cells.append("-" if value is None else f"{value:.{digits}f}")
        rows.append([method, *cells])
    return rows


def _join(row: Sequence[str], widths: Sequence[int], separator: str) -> str:
    first, *others = row
    cells = [first.ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
    return separator.join(cells)
