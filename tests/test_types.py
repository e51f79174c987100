"""What tools can see of the types: the package says that it has some, and public functions are annotated."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "deepatlas_tf"
# Rooms whose public functions are annotated, each argument and what they return
ANNOTATED = ["ops", "losses", "metrics", "types.py", "messages.py", "processor.py", "keras_stack.py", "__init__.py"]


def public_functions(body, prefix=""):
    """(name, function) of the functions and methods without an underscore; those inside of functions are nobody's."""
    for node in body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield prefix + node.name, node
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_functions(node.body, f"{node.name}.")


def not_annotated(source: str) -> list[str]:
    """Names of the public functions that lack an annotation."""
    found = []
    for name, function in public_functions(ast.parse(source).body):
        arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        arguments += [a for a in (function.args.vararg, function.args.kwarg) if a]
        if "." in name and arguments and arguments[0].arg in ("self", "cls"):
            arguments = arguments[1:]
        if function.returns is None or any(a.annotation is None for a in arguments):
            found.append(name)
    return found


@pytest.mark.parametrize("room", ANNOTATED)
def test_public_functions_are_annotated(room):
    files = [ROOT / room] if room.endswith(".py") else sorted((ROOT / room).glob("*.py"))
    assert files
    missing = {str(file.relative_to(ROOT)): not_annotated(file.read_text(encoding="utf-8")) for file in files}
    assert not {file: names for file, names in missing.items() if names}


def test_what_is_not_annotated_is_found():
    source = """
def a(x): ...
def b(x: int): ...
def c(x: int, *, y=1) -> int: ...
def d(x: int, *rest: int) -> None:
    def inner(x): ...
def _e(x): ...
class F:
    def g(self) -> None: ...
    def h(self, x) -> None: ...
class _I:
    def j(self, x): ...
"""
    assert not_annotated(source) == ["a", "b", "c", "F.h"]


def test_the_package_says_that_it_has_types():
    assert (ROOT / "py.typed").read_bytes() == b""
