"""Which networks of a stage are kept: those that were best on the validation subjects, each in its own task.

The networks that a stage starts from are the first candidates, so that no stage leaves worse ones than it was given. So
is a new registration network: no registration at all, or a classical one, is better than one that training has spoilt.
"""

import math
from collections.abc import Mapping, Sequence

SELECTED_BY = {"segmentation": "val_segmentation_dice", "registration": "val_registration_dice"}


def best_before(key: str, start: Mapping[str, float], rows: Sequence[Mapping[str, float]]) -> float:
    """The largest value of a measure at the start and in ``rows``, those of ``metrics.jsonl``; -inf of none."""
    return max((row.get(key, -math.inf) for row in (start, *rows)), default=-math.inf)


def tasks_without_gain(start: Mapping[str, float], rows: Sequence[Mapping[str, float]]) -> list[str]:
    """The tasks in which no epoch was as good as the network that the stage started from, which is the one kept."""
    return [task for task, key in SELECTED_BY.items() if start.get(key, -math.inf) > best_before(key, {}, rows)]


def epochs_without_gain(start: Mapping[str, float], rows: Sequence[Mapping[str, float]]) -> int:
    """How many epochs have passed since one was the best so far in some task; 0 where nothing is measured."""
    since = []
    for key in SELECTED_BY.values():
        values = [row[key] for row in (start, *rows) if math.isfinite(row.get(key, math.nan))]
        if values:
            since.append(values[::-1].index(max(values)))
    return min(since, default=0)
