"""Execute the notebooks and save them with their outputs, which are kept small.

    python notebooks/execute.py                       # all, in the environment that deepatlas_tf is installed in
    python notebooks/execute.py 01_quickstart.ipynb

They run in an empty folder, so that what it prints holds no paths of this machine. Needs the extra ``[test]``.
"""

import base64
import io
import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image

FOLDER = Path(__file__).parent
SECONDS = 3600  # a cell may train
WIDTH = 760  # of a saved picture
# Of TensorFlow, with times and process numbers, and of the kernel about its sockets
LOG_LINE = re.compile(
    r"^.*(WARNING: All log messages before absl|[IWE]0000 \d\d:|\d{4}-\d\d-\d\d \S+: [IWE] |\[IPKernelApp\] ).*\n",
    re.MULTILINE,
)


def execute(path: Path, folder: Path, tiny: bool = False) -> nbformat.NotebookNode:
    """The notebook with the outputs of a run in ``folder``; ``tiny`` takes a few steps on coarse images.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    notebook = nbformat.read(path, as_version=4)
    commands = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = {**os.environ, "PATH": commands, "IPYTHONDIR": str(folder / ".ipython")}
    environment["DEEPATLAS_NOTEBOOK_TINY"] = str(int(tiny))
    client = NotebookClient(
        notebook,
        timeout=SECONDS,
        startup_timeout=300,  # on a busy machine
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,  # of a progress bar only its last state
        resources={"metadata": {"path": str(folder)}},
    )
    try:
        client.execute(env=environment)
    except CellExecutionError:  # it may be for want of what an earlier command should have left
        print(*(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", ())))
        raise
    return notebook


def save(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Write it with small pictures, and without what differs from one machine to the next."""
    for cell in notebook.cells:
        cell.metadata = nbformat.NotebookNode()
        if cell.cell_type == "code":
            cell.outputs = [output for output in map(_tidy, cell.outputs) if output.get("text") != ""]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = nbformat.from_dict({"kernelspec": kernel, "language_info": {"name": "python"}})
    nbformat.write(notebook, path)


def _tidy(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    if output.output_type == "stream":
        lines = output.text.replace("\r\n", "\n")
        output.text = LOG_LINE.sub("", re.sub(r"[^\n]*\r", "", lines))  # what a progress bar wrote over is left out
    elif "image/png" in output.get("data", {}):
        output.data["image/png"] = _smaller(output.data["image/png"])
    return output


def _smaller(png: str) -> str:
    """A PNG in base64, at most ``WIDTH`` wide, with 256 colours."""
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    if picture.width > WIDTH:
        picture = picture.resize((WIDTH, round(picture.height * WIDTH / picture.width)), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    # the other methods lose the colours of thin lines
    few = picture.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    few.save(buffer, "png", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def main() -> None:
    """Execute and save those that are named, or all."""
    with tempfile.TemporaryDirectory() as folder:  # one for all: what one has trained, a later one may use
        for path in [FOLDER / name for name in sys.argv[1:]] or sorted(FOLDER.glob("*.ipynb")):
            save(execute(path, Path(folder)), path)
            print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB", flush=True)


if __name__ == "__main__":
    main()
