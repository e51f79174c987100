"""The notebooks: executed as a user would with few steps, and in the state in which they are saved."""

import base64
import csv
import io
import json
import re
import sys
from pathlib import Path

import nibabel as nib
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


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """One for all, as in the saved ones: the fourth finds the run of the first."""
    return tmp_path_factory.mktemp("notebooks")


@pytest.fixture
def executed(folder, request) -> list:
    """The code cells, with outputs."""
    notebook = execute(NOTEBOOKS / f"{request.param}.ipynb", folder, tiny=True)
    cells = [cell for cell in notebook.cells if is_code(cell)]
    assert failed_commands(cells) == []
    return cells


def notebook_of(name):
    return pytest.mark.parametrize("executed", [name], indirect=True, ids=[name])


def is_code(cell) -> bool:
    return cell.cell_type == "code"


def failed_commands(cells) -> list[str]:
    """What commands said that failed, which does not stop a notebook."""
    text = "".join(output.get("text", "") for cell in cells for output in cell.outputs)
    return re.findall(r"^(?:error: |usage: |Traceback|.*Error: |.*not found).*", text, re.MULTILINE)


def printed(cells, word) -> str:
    """What the cell with ``word`` in its code printed."""
    (cell,) = (cell for cell in cells if word in cell.source)
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def shown(cells, kind) -> list:
    """The outputs of a MIME type, in order."""
    return [output.data[kind] for cell in cells for output in cell.outputs if kind in output.get("data", {})]


def table(markdown: str) -> dict[str, list[str]]:
    """First cell of each row below the heading -> the other cells."""
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in markdown.strip().splitlines()]
    return {first: others for first, *others in rows[2:]}


def sizes(pictures) -> list[tuple[int, int]]:
    return [Image.open(io.BytesIO(base64.b64decode(png))).size for png in pictures]


@pytest.mark.slow
@notebook_of("01_quickstart")
def test_quickstart_trains_and_shows_tables_and_pictures(executed, folder):
    summary = json.loads((folder / "runs/quickstart/evaluation/summary.json").read_text())
    methods, classes = (table(text) for text in shown(executed, "text/markdown"))
    assert list(methods) == list(summary) and {"identity", "segmentation_baseline", "deepatlas"} <= set(methods)
    assert methods["deepatlas"][0] == f"{summary['deepatlas']['segmentation']['dice']['mean']:.3f}"
    assert list(classes) == ["femur", "tibia", "femoral_cartilage", "tibial_cartilage"]
    assert len(shown(executed, "image/png")) == 4 and min(min(sizes(shown(executed, "image/png")))) > 100
    lines = re.findall(r"^(.+?) +mean Dice (\d\.\d{3})$", printed(executed, "open_model(run)"), re.MULTILINE)
    assert [name for name, _ in lines] == ["not registered", "registered", "segmented"]
    assert all(0 < float(value) <= 1 for _, value in lines)


@pytest.fixture(scope="module")
def quickstart(folder) -> Path:
    """The run that the first notebook leaves: the command of the README in its tiny form, on slices."""
    run = folder / "runs/quickstart"
    if not run.exists():
        execute(NOTEBOOKS / "01_quickstart.ipynb", folder, tiny=True)
    return run


def rows_of(path) -> list[dict]:
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_summary_is_the_mean_of_the_rows(quickstart):
    summary = json.loads((quickstart / "evaluation" / "summary.json").read_text())
    rows = rows_of(quickstart / "evaluation" / "registration.csv")
    dice = [float(r["dice"]) for r in rows if r["method"] == "identity" and r["class"] == "femur"]
    assert summary["identity"]["registration"]["dice"]["per_class"]["femur"] == pytest.approx(np.mean(dice), rel=1e-4)
    folds = [float(r["folds_percent"]) for r in rows if r["method"] == "deepatlas"]
    assert summary["deepatlas"]["registration"]["folds_percent"]["mean"] == pytest.approx(np.mean(folds), abs=1e-6)
    assert set(summary["deepatlas"]) == {"segmentation", "registration"}


@pytest.mark.slow
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


@pytest.mark.slow
@notebook_of("04_serving")
def test_served_model_gives_what_the_run_gives(executed, folder):
    printout = printed(executed, "expected = ")
    assert float(re.search(r"probability: (\S+)", printout)[1]) < 1e-5
    assert "labels that differ: 0 of 1024" in printout
    labels = np.load(folder / "labels.npy")
    shares = re.findall(r"^(\w+) +([\d.]+)% of the voxels", printed(executed, "!python client.py"), re.MULTILINE)
    assert [f"{100 * np.mean(labels == index):.1f}" for index in range(5)] == [share for _, share in shares]
    signatures = printed(executed, "structured_outputs")
    assert {"segment", "register", "segment_rescaled", "serving_default"} <= set(signatures.split("\n"))
    (card,) = shown(executed, "text/markdown")
    assert card.startswith("# Model card: phantom_knee, version 1") and "synthetic" in card
    assert "[deepatlas] already trained" in printed(executed, "!deepatlas train")


@pytest.mark.slow
@notebook_of("03_one_shot")
def test_one_shot_compares_four_methods_with_one_label(executed, folder):
    run = folder / "runs/one_shot"
    assert json.loads((run / "experiment.json").read_text())["experiment"]["data"]["labels"] == 1
    (methods,) = (table(text) for text in shown(executed, "text/markdown"))
    stages = ["segmentation_baseline", "registration_unsupervised", "semi_deepatlas", "deepatlas"]
    assert list(methods) == ["identity", *stages]
    comparison = printed(executed, "!deepatlas compare")
    for pair in ("segmentation_baseline - deepatlas", "semi_deepatlas - deepatlas", "identity - deepatlas"):
        assert re.search(rf"^  {pair}: [+-]\d\.\d{{4}}  p \S+  q \S+  \(Wilcoxon, n = \d+\)", comparison, re.MULTILINE)
    assert len(shown(executed, "image/png")) == 2


@pytest.mark.slow
@notebook_of("02_your_own_scans")
def test_own_scans_are_segmented_and_registered_on_their_own_grids(executed, folder):
    assert "no anomalies" in printed(executed, "!deepatlas data validate").lower()
    moving, fixed = (nib.load(folder / "new" / f"new{seed}.nii.gz") for seed in (20, 21))
    (volumes,) = (table(text) for text in shown(executed, "text/markdown"))
    for name, scan in (("new20.nii.gz", moving), ("new21.nii.gz", fixed)):
        label = nib.load(folder / "segmented" / name)
        assert (
            label.shape == scan.shape and np.allclose(label.affine, scan.affine) and label.get_data_dtype().kind in "iu"
        )
        counts = np.bincount(np.asarray(label.dataobj).ravel(), minlength=5)[1:]
        np.testing.assert_allclose([float(ml) for ml in volumes[name]], counts * 6 * 6 * 7 / 1000, rtol=1e-4)
    for name in ("warped", "warped_labels", "jacobian"):
        result = nib.load(folder / "registered" / f"{name}.nii.gz")
        assert result.shape == fixed.shape and np.allclose(result.affine, fixed.affine)
    assert sum(not row["label"] for row in rows_of(folder / "scans/scans.csv")) == 6
    assert len(shown(executed, "image/png")) == 1


@pytest.mark.slow
@notebook_of("05_own_tf_data")
def test_a_method_is_fitted_on_pairs_of_ones_own(executed):
    lines = printed(executed, "not registered").splitlines()
    assert [line.partition(":")[0] for line in lines] == ["not registered", "registered", "segmented"]


def test_an_error_in_a_cell_is_raised_and_commands_before_it_are_printed(tmp_path, capsys):
    path = tmp_path / "wrong.ipynb"
    cells = [nbformat.v4.new_code_cell(code) for code in ("!echo error: no such run", "1 / 0")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        execute(path, tmp_path)
    assert capsys.readouterr().out.splitlines()[0].endswith("error: no such run")


def test_saved_pictures_are_small_and_logs_left_out(tmp_path):
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
    picture, text = nbformat.read(tmp_path / "saved.ipynb", as_version=4).cells[0].outputs
    assert sizes([picture.data["image/png"]]) == [(760, 150)]
    assert text.text == "before\n 2/2\n"


@pytest.mark.parametrize("name", NAMES)
def test_saved_with_outputs_and_without_traces_of_a_machine(name):
    path = NOTEBOOKS / f"{name}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert path.read_text(encoding="utf-8") == nbformat.writes(notebook) + "\n"
    assert path.stat().st_size < 400_000
    cells = [cell for cell in notebook.cells if is_code(cell)]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))  # once, from the top
    assert [cell for cell in cells if not cell.outputs] == cells[:2]  # the installation and the settings
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]
    assert failed_commands(cells) == []
    text = json.dumps([cell.source for cell in notebook.cells])
    text += "".join(output.get("text", "") for cell in cells for output in cell.outputs)
    text += "".join(shown(cells, "text/plain") + shown(cells, "text/markdown"))
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
