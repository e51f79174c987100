"""Print the size of the package and of its tests at two commits as a Markdown table: ``python docs/tools/size.py``."""

import argparse
import ast
import statistics
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = {"package": ("deepatlas_tf", "datasets"), "tests": ("tests",)}  # `datasets` is installed in the package


def sources(commit: str, folder: str) -> list[str]:
    """Text of each Python file below a folder, as the commit has it."""
    names = _git("ls-tree", "-r", "-z", "--name-only", commit, "--", folder).split("\0")
    return [_git("show", f"{commit}:{name}") for name in names if name.endswith(".py")]


def sizes(texts: list[str]) -> dict[str, float]:
    """What is counted: all lines, with comments and empty ones; functions include methods and inner ones."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    lengths = [
        node.end_lineno - node.lineno + 1 for text in texts for node in ast.walk(ast.parse(text)) if type(node) in kinds
    ]
    lines = [len(text.splitlines()) for text in texts]
    return {
        "lines": sum(lines),
        "files": len(texts),
        "functions": len(lengths),
        "lines of the longest file": max(lines),
        "lines of the median function": statistics.median(lengths),
    }


def table(before: str, now: str) -> str:
    """The two commits side by side."""
    rows = [f"| | | before ({before}) | now ({now}) |", "|---|---|---|---|"]
    for name, folders in FOLDERS.items():
        old, new = (sizes([text for f in folders for text in sources(c, f)]) for c in (before, now))
        rows += [f"| {name} | {what} | {old[what]:,.0f} | {new[what]:,.0f} |" for what in old]
    return "\n".join(rows)


def _git(*words: str) -> str:
    return subprocess.run(("git", *words), cwd=ROOT, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", default="b786c3b", metavar="COMMIT")
    parser.add_argument("--now", default="HEAD", metavar="COMMIT")
    args = parser.parse_args()
    print(table(args.before, _git("rev-parse", "--short", args.now).strip()))
