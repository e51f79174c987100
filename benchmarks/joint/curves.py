"""Validation Dice against minutes of training: of each stage of a run, and of a peer that is measured as it trains."""

from pathlib import Path

from peers.shown import OURS_COLOUR, PEERS_COLOUR, number, table

from deepatlas_tf.evaluation.figures import figure_file
from deepatlas_tf.runs.folder import TASKS
from deepatlas_tf.runs.selection import SELECTED_BY

HEAD = ["task", "peer", "its best Dice", "after minutes", "the run after", "ratio", "the run's best"]


def curve_of_stage(metrics: list[dict], before: float) -> list[dict]:
    """Rows ``seconds, segmentation, registration`` after each epoch; a task that was not measured is not in a row.

    Args:
        metrics: the lines of ``metrics.jsonl``.
        before: seconds of the stages that this one starts from.
    """
    rows, seconds = [], before
    for row in metrics:
        seconds += row["seconds"]
        measured = {task: row[SELECTED_BY[task]] for task in TASKS if SELECTED_BY[task] in row}
        rows.append({"seconds": round(seconds, 1), **measured})
    return rows


def best(rows: list[dict], task: str) -> tuple[float, float] | None:
    """The best Dice of a task and the seconds after which it was first measured; None where it never was."""
    measured = [(row[task], -row["seconds"]) for row in rows if task in row]
    return (max(measured)[0], -max(measured)[1]) if measured else None


def reached(rows: list[dict], task: str, dice: float) -> float | None:
    """The seconds after which a task first had that Dice or more; None if it never had."""
    return min((row["seconds"] for row in rows if row.get(task, -1) >= dice), default=None)


def markdown(result: dict) -> str:
    """A row for each peer and task that both learn: when it was at its best, and when the run was as good first."""
    found = []
    ours = [row for rows in result["run"]["curves"].values() for row in rows]
    for name, rows in peers(result).items():
        for task in TASKS:
            if (theirs := best(rows, task)) and (own := best(ours, task)):
                (dice, seconds), first = theirs, reached(ours, task, theirs[0])
                times = (None, None) if first is None else (first / 60, first / seconds)
                shown = [number(seconds / 60, 1), number(times[0], 1), number(times[1], 2), number(own[0], 3)]
                found.append([task, name, number(dice, 3), *shown])
    return table(HEAD, found, 2)


def peers(result: dict) -> dict[str, list[dict]]:
    """The curves of the peers that have one."""
    training = {name: method.get("training", {}) for name, method in result["methods"].items()}
    return {name: found["validation"] for name, found in training.items() if "validation" in found}


def draw(result: dict, path: Path) -> None:
    """Validation Dice of both tasks against minutes of training."""
    with figure_file(path, 9, 3.8) as figure:
        for axes, task in zip(figure.subplots(1, 2), TASKS, strict=True):
            for name, rows in result["run"]["curves"].items():
                _line(axes, rows, task, OURS_COLOUR, name)
            for name, rows in peers(result).items():
                _line(axes, rows, task, PEERS_COLOUR, name)
            axes.set_title(task.capitalize(), fontsize=10)
            axes.set_xlabel("minutes of training, two cores")
            axes.set_ylabel("validation Dice")
        synthetic = " (synthetic)" if result["synthetic"] else ""
        figure.suptitle(f"{result['dataset']}{synthetic}, {result['labelled']} label maps", fontsize=11)


def _line(axes, rows: list[dict], task: str, colour: str, name: str) -> None:
    points = [(row["seconds"] / 60, row[task]) for row in rows if task in row]
    if points:
        axes.plot(*zip(*points, strict=True), ".-", color=colour, linewidth=1)
        axes.annotate(name, points[0], xytext=(6, -9), textcoords="offset points", color=colour, fontsize=7)
