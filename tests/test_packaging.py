"""What is installed: the wheel's contents, its dependencies on each Python, and the console script."""

import ast
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
NOT_INSTALLED = shutil.ignore_patterns("__pycache__", "*.pyc", "*.egg-info")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel built from a copy, since building writes next to setup.py."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for folder in ("deepatlas_tf", "datasets", "tests"):
        shutil.copytree(ROOT / folder, source / folder, ignore=NOT_INSTALLED)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    built = subprocess.run([*command, "--wheel-dir", out, source], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (path,) = out.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def metadata(wheel):
    (name,) = (n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
    return Parser().parsestr(wheel.read(name).decode())


def requirements(wheel, python, extra=""):
    """Name -> requirement that applies on this Python."""
    environment = {"python_version": python, "extra": extra}
    found = [Requirement(text) for text in metadata(wheel).get_all("Requires-Dist")]
    return {r.name: r for r in found if r.marker is None or r.marker.evaluate(environment)}


@pytest.mark.slow
def test_every_file_of_the_package_is_in_the_wheel(wheel):
    expected = set()
    for folder, prefix in (("deepatlas_tf", "deepatlas_tf"), ("datasets", "deepatlas_tf/datasets")):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                expected.add(f"{prefix}/{path.relative_to(ROOT / folder).as_posix()}")
    installed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert installed == expected
    assert "deepatlas_tf/datasets/__init__.py" in installed


def test_a_top_level_datasets_package_is_not_installed(wheel):
    """It would hide Hugging Face's package of that name."""
    assert {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" not in name} == {"deepatlas_tf"}


def test_each_builder_ships_what_tfds_reads(wheel):
    names = set(wheel.namelist())
    builders = [name for name in names if name.endswith("_dataset_builder.py")]
    assert builders
    for builder in builders:
        folder = builder.rpartition("/")[0]
        for file in ("__init__.py", "README.md", "CITATIONS.bib", "TAGS.txt"):
            assert f"{folder}/{file}" in names


def test_console_script_names_a_function(wheel):
    (name,) = (n for n in wheel.namelist() if n.endswith(".dist-info/entry_points.txt"))
    assert wheel.read(name).decode().split("\n")[:2] == ["[console_scripts]", "deepatlas = deepatlas_tf.cli:main"]
    tree = ast.parse(wheel.read("deepatlas_tf/cli.py"))
    assert "main" in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
def test_dependencies_follow_the_python_version(wheel, python):
    found = requirements(wheel, python)
    old = python in ("3.10", "3.11")
    assert found["tensorflow"].specifier == SpecifierSet("==2.15.1" if old else ">=2.20,<2.22")
    assert ("tf-keras" in found) == (not old)
    assert found["numpy"].specifier.contains("2.1") == (not old)
    assert found["tensorflow-metadata"].specifier.contains("1.21") == (not old)
    assert found["voxelmorph"].specifier == found["neurite"].specifier == SpecifierSet("==0.2")
    assert "pytest" not in found and "pytest" in requirements(wheel, python, "test")
    assert "tensorflow-addons" not in found
    assert ("tensorflow-addons" in requirements(wheel, python, "addons")) == old


def test_one_version(wheel):
    """The wheel, the citation and the newest entry of the changelog name the same."""
    version = metadata(wheel)["Version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert next(line for line in changes.splitlines() if line.startswith("## ")) == f"## {version}"


def test_python_versions(wheel):
    supported = SpecifierSet(metadata(wheel)["Requires-Python"])
    assert [supported.contains(f"3.{minor}.1") for minor in range(9, 15)] == [False, True, True, True, True, False]


def test_installed_without_a_top_level_datasets(tmp_path):
    """Run outside the project's folder, where `datasets` is found by its mere position."""
    code = "import importlib.util as u; print(u.find_spec('deepatlas_tf').origin); print(u.find_spec('datasets'))"
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    package, datasets = run.stdout.split("\n")[:2]
    assert Path(package) == ROOT / "deepatlas_tf" / "__init__.py" or "site-packages" in package
    assert str(ROOT) not in datasets
