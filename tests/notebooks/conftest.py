"""Executes notebooks as a user would, with few steps, and looks into what their cells show."""

import base64
import io
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


class Cells(list):
    """The code cells of a notebook with what they show."""

    def __init__(self, notebook):
        super().__init__(cell for cell in notebook.cells if cell.cell_type == "code")

    def printed(self, word: str) -> str:
        """What the cell with ``word`` in its code printed."""
        (cell,) = (cell for cell in self if word in cell.source)
        return "".join(output.text for output in cell.outputs if output.output_type == "stream")

    def shown(self, kind: str) -> list:
        """The outputs of a MIME type, in order."""
        return [output.data[kind] for cell in self for output in cell.outputs if kind in output.get("data", {})]

    def tables(self) -> list[dict[str, list[str]]]:
        """For each table: first cell of each row below the heading -> the other cells."""
        found = []
        for text in self.shown("text/markdown"):
            rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in text.strip().splitlines()]
            found.append({first: others for first, *others in rows[2:]})
        return found

    def sizes(self) -> list[tuple[int, int]]:
        """Of the pictures."""
        from PIL import Image

        return [Image.open(io.BytesIO(base64.b64decode(png))).size for png in self.shown("image/png")]

    def failed_commands(self) -> list[str]:
        """What commands said that failed, which does not stop a notebook."""
        text = "".join(output.get("text", "") for cell in self for output in cell.outputs)
        return re.findall(r"^(?:error: |usage: |Traceback|.*Error: |.*not found).*", text, re.MULTILINE)


@pytest.fixture(scope="session")
def cells_of() -> type[Cells]:
    """The cells of a notebook that has been read."""
    return Cells


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """One for all of a file, as in the saved ones: the fourth finds the run of the first."""
    return tmp_path_factory.mktemp("notebooks")


@pytest.fixture(scope="module")
def executed(folder) -> Callable[[str], Cells]:
    """executed(name) -> the cells of the notebook, executed in ``folder``."""
    pytest.importorskip("nbclient", reason="nbclient is not installed: pip install -e '.[test]'")
    sys.path.insert(0, str(NOTEBOOKS))
    from execute import execute

    def run(name: str) -> Cells:
        cells = Cells(execute(NOTEBOOKS / f"{name}.ipynb", folder, tiny=True))
        assert cells.failed_commands() == []
        return cells

    return run
