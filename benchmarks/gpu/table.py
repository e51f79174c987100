"""Both sides' results as a Markdown table: ``python -m benchmarks.gpu.table RESULTS``."""

import argparse
import json
from pathlib import Path

from benchmarks.gpu.given import text

SIDES = {"jax": "ours, by XLA", "monai": "MONAI"}  # name of the file -> of the column


def table(results: dict[str, dict]) -> str:
    """A row for each program, size and precision that a side has measured; ``results`` by the name of the file."""
    by_side = {side: {_row(case): case for case in found["cases"]} for side, found in results.items()}
    rows = list(dict.fromkeys(row for cases in by_side.values() for row in cases))
    heads = [f"{SIDES[side]}: {what}" for side in by_side for what in ("ms", "GiB", "share of the peak")]
    lines = ["| program | size | precision | " + " | ".join(heads) + " |", "|---|---|---|" + "---:|" * len(heads)]
    for row in rows:
        cells = [cell for cases in by_side.values() for cell in _cells(cases.get(row, {}))]
        lines.append("| " + " | ".join([*row, *cells]) + " |")
    return "\n".join(lines)


def _row(case: dict) -> tuple[str, str, str]:
    return case["program"].replace("_", " "), text(case["shape"]), case["precision"]


def _cells(case: dict) -> list[str]:
    shown = [
        f"{case['ms']:.3g}" if "ms" in case else "-",
        f"{case['bytes'] / 2**30:.2f}" if case.get("bytes") else "-",
        f"{case['share_of_peak']:.0%}" if "share_of_peak" in case else "-",
    ]
    return shown


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="where run and monai_side wrote")
    folder = parser.parse_args().results
    found = {side: folder / f"{side}.json" for side in SIDES}
    read = {side: json.loads(path.read_text(encoding="utf-8")) for side, path in found.items() if path.exists()}
    if not read:
        raise SystemExit(f"{folder} has no results: no {' or '.join(f'{side}.json' for side in SIDES)}")
    for side, one in read.items():
        print(f"{SIDES[side]}: {one['what']}; {one['device']}")
    print(table(read))


if __name__ == "__main__":
    main()
