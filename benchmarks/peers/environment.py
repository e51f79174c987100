"""An environment of peers' packages, apart from ours."""

import shutil
import subprocess
import sys
from pathlib import Path


def peers_python(environment: Path, requirements: Path) -> str:
    """The interpreter of an environment, which is made where there is none with these requirements.

    Each package is installed by itself, with the pinned versions of all, so that one that cannot be had is left out.

    Args:
        environment: its folder; what is there with other requirements is removed.
        requirements: file with a line ``package==version`` for each package, and options of pip.
    """
    python, installed = environment / "bin" / "python", environment / requirements.name
    if not installed.exists() or installed.read_text() != requirements.read_text():
        subprocess.run([sys.executable, "-m", "venv", "--clear", environment], check=True)
        pip = [python, "-m", "pip", "install", "--quiet"]
        if subprocess.run([*pip, "-r", requirements], check=False).returncode:
            lines = requirements.read_text().splitlines()
            index = [word for line in lines if line.startswith("--") for word in line.split()]
            for package in [line for line in lines if "==" in line]:
                if subprocess.run([*pip, "-c", requirements, *index, package], check=False).returncode:
                    print(f"{package} cannot be installed: what needs it is left out")
        shutil.copy(requirements, installed)
    return str(python)
