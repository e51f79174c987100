"""How long the tests take, by file: what ``docs/architecture.md`` says of them.

    python benchmarks/time_tests.py test-fast
    python benchmarks/time_tests.py test
    python benchmarks/time_tests.py test-long

Each is a target of the Makefile, in the environment that make prepares; ``VENV=FOLDER`` after it is given to make. The
result has pytest's seconds by the clock, how many tests passed, failed and were skipped, and the seconds of the tests
of each file, while those of others ran beside them. Written to ``benchmarks/results/tests/TARGET.json``, also where a
test fails. Measure on idle cores.
"""

import argparse
import collections
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from machine import machine
from turns import commit

from deepatlas_tf.keras_stack import versions
from deepatlas_tf.runs.files import write_json

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "tests"
TARGETS = ("test-fast", "test", "test-long")
LEAST = 0.1  # seconds of a file that is listed


def read_report(path: Path) -> dict:
    """What pytest's report says, in JUnit's XML: how many tests there were, and the seconds of all and of each file."""
    (suite,) = ElementTree.parse(path).getroot().iter("testsuite")
    files: collections.Counter[str] = collections.Counter()
    for case in suite.iter("testcase"):
        files[case.get("classname", "")] += float(case.get("time", 0))
    failed, skipped = int(suite.get("failures", 0)) + int(suite.get("errors", 0)), int(suite.get("skipped", 0))
    return {
        "seconds": round(float(suite.get("time", 0)), 1),
        "passed": int(suite.get("tests", 0)) - failed - skipped,
        "failed": failed,
        "skipped": skipped,
        "seconds_by_file": {name: round(seconds, 1) for name, seconds in files.most_common() if seconds >= LEAST},
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("variables", nargs="*", metavar="NAME=VALUE", help="of make")
    args = parser.parse_args()
    about = {"target": args.target, "machine": machine(), "versions": versions(), "commit": commit()}
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        subprocess.run(
            ["make", *args.variables, args.target, f"PYTEST_ARGS=--junitxml={report}"], cwd=ROOT, check=False
        )
        if not report.exists():
            sys.exit(f"make {args.target} made no report")
        result = read_report(report)
    RESULTS.mkdir(parents=True, exist_ok=True)
    write_json(RESULTS / f"{args.target}.json", {**about, **result})
    print(
        f"{result['seconds']:.0f} s: {result['passed']} passed, {result['failed']} failed, {result['skipped']} skipped"
    )
    sys.exit(bool(result["failed"]))


if __name__ == "__main__":
    main()
