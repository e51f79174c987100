"""The dependency direction and the limits of size, read from the source with ``ast``; nothing is imported."""

import ast
import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Parts of one row do not import each other; a part imports only from the rows above it.
ROWS = [
    {"types", "keras_stack", "messages", "processor", "view"},
    {"ops", "scans", "plugins", "pretrained"},
    {"losses", "metrics", "models", "phantoms"},
    {"datasets", "streams", "methods"},
    {"validation", "runs"},
    {"training"},
    {"evaluation"},
    {"apply"},
    {"export"},
    {"experiments", "recipes"},
    {"run"},
    {"report", "cross_validation"},
    {"trained"},
    {"commands"},
    {"cli", "tfx_pipeline"},
    {"train", "__main__"},
]
RANK = {part: rank for rank, row in enumerate(ROWS) for part in row}

KERAS_STACK_ONLY = {
    "keras",
    "neurite",
    "tensorflow",
    "tensorflow_addons",
    "tensorflow_datasets",
    "tf_keras",
    "voxelmorph",
}
MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_ARGUMENTS = 299, 49, 7


def python_files() -> dict[str, Path]:
    """Module name -> file, for the package, the data sets (as installed) and the tests."""
    files = {}
    for folder, prefix in (("deepatlas_tf", "deepatlas_tf"), ("datasets", "deepatlas_tf.datasets"), ("tests", "tests")):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            files[".".join((prefix, *parts))] = path  # a package keeps its ".__init__"
    return files


def imported_names(module: str, source: str) -> list[tuple[int, str]]:
    """(line, dotted name) of each import anywhere in the file; ``from a import b`` gives ``a.b``."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            origin = "." * node.level + (node.module or "")
            origin = importlib.util.resolve_name(origin, module.rpartition(".")[0]) if node.level else origin
            found += [(node.lineno, f"{origin}.{alias.name}") for alias in node.names]
    return found


def part_of(name: str) -> str:
    """The part of the package that a dotted name belongs to."""
    return (name.split(".") + [""])[1]


def direction_error(module: str, name: str) -> str | None:
    """What is wrong with ``module`` importing ``name``, both of deepatlas_tf, or None."""
    own, other = part_of(module), part_of(name)
    if own == "__init__":
        return None  # the flat public API gathers from every part
    if own not in RANK:
        return f"the part '{own}' has no row in ROWS"
    if other not in RANK:
        return "imports from the package's root, which imports everything"
    if own == "metrics" and other == "keras_stack":
        return "metrics are NumPy only"
    if own == other == "methods":
        return None if name.split(".")[2] == "base" else "methods import only the base, never each other"
    if own != other and RANK[other] >= RANK[own]:
        return "against the dependency direction"
    return None


def import_violations(module: str, source: str) -> list[str]:
    violations = []
    for line, name in imported_names(module, source):
        top, error = name.split(".")[0], None
        if top == "datasets":
            error = "would be Hugging Face's package: import deepatlas_tf.datasets"
        elif top in KERAS_STACK_ONLY and module != "deepatlas_tf.keras_stack":
            error = "import it from deepatlas_tf.keras_stack"
        elif top == "deepatlas_tf" and module.startswith("deepatlas_tf."):
            error = direction_error(module, name)
        if error:
            violations.append(f"{module}:{line} imports {name}: {error}")
    return violations


def size_violations(module: str, source: str) -> list[str]:
    lines = len(source.splitlines())
    violations = [f"{module} has {lines} lines"] if lines > MAX_FILE_LINES else []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        length = node.end_lineno - node.lineno + 1
        arguments = [a.arg for a in node.args.posonlyargs + node.args.args + node.args.kwonlyargs]
        count = len(arguments) - (arguments[:1] in (["self"], ["cls"]))
        if length > MAX_FUNCTION_LINES:
            violations.append(f"{module}:{node.lineno} {node.name} has {length} lines")
        if count > MAX_ARGUMENTS and not node.name.startswith("test_"):  # a test takes its fixtures as arguments
            violations.append(f"{module}:{node.lineno} {node.name} has {count} arguments")
    return violations


@pytest.mark.slow
@pytest.mark.parametrize("check", [import_violations, size_violations])
def test_every_file_keeps_the_rules(check):
    files = python_files()
    assert {"deepatlas_tf.types", "deepatlas_tf.datasets.__init__", "tests.test_architecture"} <= set(files)
    found = [line for module, path in files.items() for line in check(module, path.read_text(encoding="utf-8"))]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("module", "source", "error"),
    [
        ("deepatlas_tf.ops.warp", "from deepatlas_tf.losses import overlap", "direction"),
        ("deepatlas_tf.losses.overlap", "from deepatlas_tf import models", "direction"),
        ("deepatlas_tf.scans.grid", "from deepatlas_tf import datasets", "direction"),
        ("deepatlas_tf.streams.pairs", "import deepatlas_tf.datasets.load", "direction"),
        ("deepatlas_tf.streams.pairs", "def f():\n    from ..datasets import load", "direction"),
        ("deepatlas_tf.datasets.knee.builder", "from deepatlas_tf.training import loop", "direction"),
        ("deepatlas_tf.training.loop", "from deepatlas_tf.evaluation import figures", "direction"),
        ("deepatlas_tf.types", "from deepatlas_tf.keras_stack import tf", "direction"),
        ("deepatlas_tf.methods.deepatlas", "from deepatlas_tf.methods.voxelmorph import VoxelMorph", "each other"),
        ("deepatlas_tf.methods.deepatlas", "from . import registration", "each other"),
        ("deepatlas_tf.metrics.overlap", "from deepatlas_tf.keras_stack import tf", "NumPy only"),
        ("deepatlas_tf.metrics.overlap", "import tensorflow as tf", "keras_stack"),
        ("deepatlas_tf.models.unet", "from tensorflow.keras import layers", "keras_stack"),
        ("tests.test_unet", "import voxelmorph", "keras_stack"),
        ("deepatlas_tf.datasets.load", "import datasets", "Hugging Face"),
        ("tests.data.test_sources", "from datasets.hippocampus import builder", "Hugging Face"),
        ("deepatlas_tf.cli", "from deepatlas_tf import DeepAtlas", "root"),
        ("deepatlas_tf.helpers", "from deepatlas_tf import types", "no row"),
    ],
)
def test_checker_catches_a_forbidden_import(module, source, error):
    (violation,) = import_violations(module, source)
    assert error in violation


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("deepatlas_tf.__init__", "from deepatlas_tf.methods.deepatlas import DeepAtlas"),
        ("deepatlas_tf.keras_stack", "import tensorflow as tf"),
        (
            "deepatlas_tf.methods.deepatlas",
            "from deepatlas_tf import losses\nfrom deepatlas_tf.methods.base import Method",
        ),
        ("deepatlas_tf.validation.readers", "from deepatlas_tf import datasets\nfrom . import outliers"),
        ("deepatlas_tf.datasets.hippocampus.builder", "from deepatlas_tf.scans import grid"),
        ("deepatlas_tf.cli", "from deepatlas_tf import export\nfrom deepatlas_tf.experiments import knee"),
        ("tests.test_cli", "from deepatlas_tf import DeepAtlas"),
    ],
)
def test_checker_allows_the_design(module, source):
    assert import_violations(module, source) == []


def test_checker_catches_sizes():
    long = "def long():\n" + "    x = 1\n" * MAX_FUNCTION_LINES
    wide = "class A:\n    def wide(self, a, b, c, d, e, f, g, *, h): ...\n"
    assert size_violations("m", long + wide) == ["m:1 long has 50 lines", "m:52 wide has 8 arguments"]
    assert size_violations("m", "\n" * 300) == ["m has 300 lines"]


def test_checker_allows_the_limits():
    source = "def f(a, b, c, d, e, f, g):\n" + "    x = 1\n" * (MAX_FUNCTION_LINES - 1)
    assert size_violations("m", source + "\n" * (MAX_FILE_LINES - MAX_FUNCTION_LINES)) == []
