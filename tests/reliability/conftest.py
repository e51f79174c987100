"""The scripts of benchmarks/reliability as modules."""

import importlib
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "benchmarks" / "reliability"
NAMES = ("trained", "kill", "fuzz", "load", "small_run")


@pytest.fixture(scope="session")
def scripts():
    """scripts.kill, scripts.fuzz, ...; their names are taken back, since other folders have modules called so."""
    sys.path.insert(0, str(SCRIPTS))
    try:
        yield type("Scripts", (), {name: importlib.import_module(name) for name in NAMES})
    finally:
        sys.path.remove(str(SCRIPTS))
        for name in NAMES:
            sys.modules.pop(name, None)


@pytest.fixture(scope="session")
def small_run(scripts, tmp_path_factory) -> Path:
    """The folder of a run with untrained networks."""
    return scripts.small_run.write_run(tmp_path_factory.mktemp("small") / "run")
