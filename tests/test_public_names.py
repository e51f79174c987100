"""The package's public names: loaded when first used, and visible to editors and type checkers, which run nothing."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import deepatlas_tf

SOURCE = Path(deepatlas_tf.__file__).read_text(encoding="utf-8")


def names_for_type_checkers() -> dict[str, str]:
    """Name -> module of each import under ``if TYPE_CHECKING``; each is "import X as X", which exports it."""
    (block,) = (
        node
        for node in ast.parse(SOURCE).body
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    )
    imports = [(node.module, alias) for node in block.body for alias in node.names]
    assert all(alias.asname == alias.name for _, alias in imports)
    return {alias.name: module.removeprefix("deepatlas_tf.") for module, alias in imports}


def test_type_checkers_see_the_names_that_the_program_loads():
    assert names_for_type_checkers() == deepatlas_tf._MODULES
    assert deepatlas_tf.__all__ == sorted(deepatlas_tf._MODULES)
    assert set(deepatlas_tf.__all__) <= set(dir(deepatlas_tf))


@pytest.mark.parametrize("name", deepatlas_tf.__all__)
def test_each_name_is_where_it_is_said_to_be(name):
    found = getattr(deepatlas_tf, name)
    module = sys.modules[f"deepatlas_tf.{deepatlas_tf._MODULES[name]}"]
    assert found is getattr(module, name) and found.__doc__


def test_another_name_is_an_error():
    with pytest.raises(AttributeError, match="no attribute 'wrap'"):
        deepatlas_tf.wrap  # noqa: B018


def test_the_import_alone_loads_no_tensorflow():
    code = "import sys, deepatlas_tf; print('tensorflow' in sys.modules, 'numpy' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.stdout.split() == ["False", "False"], result.stderr
