"""benchmarks/turns.py: which version of the package was measured."""

import importlib
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def turns(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("turns")


def test_a_commit_is_dirty_only_if_the_package_has_changed(turns, tmp_path, monkeypatch):
    package, results = tmp_path / "package", tmp_path / "results"
    for folder in (package, results):
        folder.mkdir()
        (folder / "__init__.py").write_text("")

    def git(*arguments):
        author = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        return subprocess.run(["git", *author, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True)

    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    revision = git("rev-parse", "--short=12", "HEAD").stdout.strip()
    monkeypatch.setattr(turns, "deepatlas_tf", SimpleNamespace(__file__=package / "__init__.py"))
    (results / "__init__.py").write_text("measured")
    assert turns.commit() == revision
    (package / "new.py").write_text("")
    assert turns.commit() == f"{revision}-dirty"
