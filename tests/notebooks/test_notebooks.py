"""The notebooks: executed as a user would with few steps, and in the state in which they are saved."""

import base64
import csv
import io
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed: pip install -e '.[test]'")
pytest.importorskip("nbclient", reason="nbclient is not installed: pip install -e '.[test]'")

from nbclient.exceptions import CellExecutionError  # noqa: E402
from PIL import Image  # noqa: E402

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
sys.path.insert(0, str(NOTEBOOKS))
from execute import execute, save  # noqa: E402

from deepatlas_tf.cli import main  # noqa: E402

STAGES = ["segmentation_baseline", "registration_unsupervised", "registration_weak", "semi_deepatlas", "deepatlas"]
NAMES = ("01_quickstart", "02_your_own_scans", "03_one_shot", "04_serving", "05_own_tf_data")
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:work|tmp|root|home|opt|usr|var|mnt|private|Users)/")


@pytest.mark.long
def test_quickstart_trains_and_shows_tables_and_pictures(executed, folder):
    cells = executed("01_quickstart")
    summary = json.loads((folder / "runs/quickstart/evaluation/summary.json").read_text())
    methods, classes = cells.tables()
    assert list(methods) == list(summary) and {"identity", "segmentation_baseline", "deepatlas"} <= set(methods)
    assert methods["deepatlas"][0] == f"{summary['deepatlas']['segmentation']['dice']['mean']:.3f}"
    assert list(classes) == ["femur", "tibia", "femoral_cartilage", "tibial_cartilage"]
    assert len(cells.shown("image/png")) == 4 and min(min(cells.sizes())) > 100
    lines = re.findall(r"^(.+?) +mean Dice (\d\.\d{3})$", cells.printed("open_model(run)"), re.MULTILINE)
    assert [name for name, _ in lines] == ["not registered", "registered", "segmented"]
    assert all(0 < float(value) <= 1 for _, value in lines)


@pytest.fixture(scope="module")
def quickstart(folder, executed) -> Path:
    """The run that the first notebook leaves: the command of the README in its tiny form, on slices."""
    run = folder / "runs/quickstart"
    if not run.exists():
        executed("01_quickstart")
    return run


def rows_of(path) -> list[dict]:
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.long
def test_a_run_leaves_what_is_promised(quickstart):
    for stage in STAGES:
        assert (quickstart / stage / "metrics.jsonl").read_text().count("\n") == 2
        assert list((quickstart / stage / "checkpoints").glob("epoch-*"))
        assert list((quickstart / stage / "nets").glob("*.keras"))
    nets = {path.name for path in (quickstart / "deepatlas" / "nets").iterdir()}
    assert nets == {"registration.keras", "segmentation.keras"}
    assert len(list((quickstart / "figures").glob("*.png"))) == 9
    assert {path.name for path in (quickstart / "tensorboard").iterdir()} == set(STAGES)
    segmentation, registration = (
        rows_of(quickstart / "evaluation" / f"{task}.csv") for task in ("segmentation", "registration")
    )
    assert list(segmentation[0]) == ["method", "subject", "class", "dice", "hd95_mm", "assd_mm", "hausdorff_mm"]
    columns = ["method", "moving", "fixed", "class", "dice", "hd95_mm", "assd_mm", "folds_percent", "sdlogj"]
    assert list(registration[0]) == [*columns, "hausdorff_mm"]
    assert {row["method"] for row in segmentation} == {"segmentation_baseline", "deepatlas"}
    assert {row["method"] for row in registration} == {"identity", *STAGES[1:]}
    assert all(row["moving"] != row["fixed"] for row in registration)


@pytest.mark.long
def test_the_summary_is_the_mean_of_the_rows(quickstart):
    summary = json.loads((quickstart / "evaluation" / "summary.json").read_text())
    rows = rows_of(quickstart / "evaluation" / "registration.csv")
    dice = [float(r["dice"]) for r in rows if r["method"] == "identity" and r["class"] == "femur"]
    assert summary["identity"]["registration"]["dice"]["per_class"]["femur"] == pytest.approx(np.mean(dice), rel=1e-4)
    folds = [float(r["folds_percent"]) for r in rows if r["method"] == "deepatlas"]
    assert summary["deepatlas"]["registration"]["folds_percent"]["mean"] == pytest.approx(np.mean(folds), abs=1e-6)
    assert set(summary["deepatlas"]) == {"segmentation", "registration"}


@pytest.mark.long
def test_evaluate_measures_again(quickstart, capsys):
    summary = quickstart / "evaluation" / "summary.json"
    before = json.loads(summary.read_text())
    summary.unlink()
    assert (
        main(["evaluate", str(quickstart), "--split", "test", "--data-dir", str(quickstart.parents[1] / "prepared")])
        == 0
    )
    printed = capsys.readouterr().out
    assert json.loads(summary.read_text()) == before
    assert "phantom_knee (synthetic), test split" in printed
    assert all(method in printed for method in ["identity", *STAGES])
    assert str(quickstart / "figures" / "registration.png") in printed


@pytest.mark.long
def test_served_model_gives_what_the_run_gives(executed, folder):
    cells = executed("04_serving")
    printout = cells.printed("expected = ")
    assert float(re.search(r"probability: (\S+)", printout)[1]) < 1e-5
    assert "labels that differ: 0 of 1024" in printout
    labels = np.load(folder / "labels.npy")
    shares = re.findall(r"^(\w+) +([\d.]+)% of the voxels", cells.printed("!python client.py"), re.MULTILINE)
    assert [f"{100 * np.mean(labels == index):.1f}" for index in range(5)] == [share for _, share in shares]
    signatures = cells.printed("structured_outputs")
    assert {"segment", "register", "segment_rescaled", "serving_default"} <= set(signatures.split("\n"))
    (card,) = cells.shown("text/markdown")
    assert card.startswith("# Model card: phantom_knee, version 1") and "synthetic" in card
    assert "[deepatlas] already trained" in cells.printed("!deepatlas train")


@pytest.mark.slow
def test_an_error_in_a_cell_is_raised_and_commands_before_it_are_printed(tmp_path, capsys):
    path = tmp_path / "wrong.ipynb"
    cells = [nbformat.v4.new_code_cell(code) for code in ("!echo error: no such run", "1 / 0")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        execute(path, tmp_path)
    assert capsys.readouterr().out.splitlines()[0].endswith("error: no such run")


def test_saved_pictures_are_small_and_logs_left_out(tmp_path, cells_of):
    buffer, cell = io.BytesIO(), nbformat.v4.new_code_cell("draw()", execution_count=1)
    Image.linear_gradient("L").resize((1520, 300)).save(buffer, "png")
    data = {"image/png": base64.b64encode(buffer.getvalue()).decode()}
    log = "I0000 00:00:1795264.712 5511 device_compiler.h:186] Compiled cluster using XLA!\n"
    cell.outputs = [
        nbformat.v4.new_output("display_data", data),
        nbformat.v4.new_output("stream", name="stdout", text=f"before\r\n{log} 1/2\r 2/2\r\n"),
        nbformat.v4.new_output("stream", name="stderr", text=log),
    ]
    save(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "saved.ipynb")
    cells = cells_of(nbformat.read(tmp_path / "saved.ipynb", as_version=4))
    assert cells.sizes() == [(760, 150)] and cells.printed("draw") == "before\n 2/2\n"


@pytest.mark.parametrize("name", NAMES)
def test_saved_with_outputs_and_without_traces_of_a_machine(name, cells_of):
    path = NOTEBOOKS / f"{name}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert path.read_text(encoding="utf-8") == nbformat.writes(notebook) + "\n"
    assert path.stat().st_size < 400_000
    cells = cells_of(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))  # once, from the top
    assert [cell for cell in cells if not cell.outputs] == cells[:2]  # the installation and the settings
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]
    assert cells.failed_commands() == []
    text = json.dumps([cell.source for cell in notebook.cells])
    text += "".join(output.get("text", "") for cell in cells for output in cell.outputs)
    text += "".join(cells.shown("text/plain") + cells.shown("text/markdown"))
    assert not MACHINE_PATH.findall(text)
    assert not re.search(r"0000 00:00|\b8 steps", text)  # TensorFlow's log; a tiny run


def test_notebooks_are_installed_from_the_checkout_and_name_no_repository():
    for name in NAMES:
        text = (NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8")
        assert not re.search(r"git\+https|colab\.research|github\.com/[\w-]+/deepatlas", text), name
    cell = nbformat.read(NOTEBOOKS / "01_quickstart.ipynb", as_version=4).cells[1].source
    (checkout,) = re.findall(r'^CHECKOUT = "(.+?)"', cell, re.MULTILINE)
    assert (NOTEBOOKS / checkout / "setup.py").is_file()


def test_installation_keeps_the_tensorflow_that_is_there(monkeypatch):
    """The cell's code, with IPython's %pip replaced and deepatlas_tf hidden."""
    cell = nbformat.read(NOTEBOOKS / "01_quickstart.ipynb", as_version=4).cells[1].source
    others = [nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4).cells[1].source for name in NAMES[1:]]
    assert others == [cell] * len(others)
    asked = []
    code = re.sub(r"%pip (.*)", lambda match: f"asked.append(f{match[1]!r})", cell)
    exec(compile(code, "cell", "exec"), {"asked": asked})
    assert asked == []  # it is installed
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("importlib.metadata.version", lambda name: {"tensorflow": "2.20.0"}[name])
    exec(compile(code, "cell", "exec"), {"asked": asked})
    assert asked == ["install -q tensorflow==2.20.0 .."]
