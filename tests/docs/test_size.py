"""docs/tools/size.py counts lines, files and functions."""

import importlib.util
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "docs" / "tools" / "size.py"


def test_what_is_counted():
    spec = importlib.util.spec_from_file_location("size", SCRIPT)
    size = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(size)
    with_functions = (
        "class A:\n    def f(self):\n        def g():\n            pass\n\n        return g\n\n\nasync def h(): ...\n"
    )
    assert size.sizes([with_functions, "x = 1\n\n# a comment\n"]) == {
        "lines": 12,
        "files": 2,
        "functions": 3,
        "lines of the longest file": 9,
        "lines of the median function": 2,
    }
