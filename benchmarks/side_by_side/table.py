"""The raw figures of all rows as one Markdown table."""

import statistics
from collections.abc import Mapping, Sequence

from side_by_side.rows import OURS

QUIET = 0.05  # largest share of the cores that other programs may have while a round is measured


def summary(values: Sequence[float]) -> dict:
    """Median and quartiles; of one value, that value."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else 3 * [values[0]]
    return {"median": middle, "quartiles": [low, high], "n": len(values)}


def ratios(measured: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Median of ours over the median of each peer."""
    ours = summary(measured[OURS])["median"]
    return {name: ours / summary(values)["median"] for name, values in measured.items() if name != OURS}


def markdown(rows: Sequence[Mapping]) -> str:
    """The table of rows as ``speed.py`` stores them; where other programs ran during the measurement it says so."""
    lines = ["| what | ours | peer | ratio |", "|---|---|---|---|"]
    for row in rows:
        for case in row["cases"]:
            measured = case.get("bytes") or case["seconds"]
            shown = _bytes if "bytes" in case else _seconds
            for name, ratio in ratios(measured).items():
                busy = max(case.get("others", [0]))
                note = f" (others had up to {busy:.0%} of the cores)" if busy > QUIET else ""
                cells = [case["name"], shown(measured[OURS]), f"{name} {shown(measured[name])}"]
                lines.append(f"| {' | '.join(cells)} | {ratio:.3f}{note} |")
    found = (one for row in rows for case in row["cases"] for one in case.get("differs", {}).items())
    lines += [f"\nDefined differently, {name}: {why}." for name, why in dict(found).items()]
    return "\n".join(lines)


def _seconds(values) -> str:
    found = summary(values)
    factor, unit = (1000, "ms") if found["median"] < 1 else (1, "s")
    low, high = found["quartiles"]
    return f"{factor * found['median']:.3g} {unit} ({factor * low:.3g} to {factor * high:.3g})"


def _bytes(values) -> str:
    return f"{summary(values)['median'] / 2**30:.2f} GiB"
