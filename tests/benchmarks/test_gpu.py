"""benchmarks/gpu: programs that are exported, run by JAX where it is installed, and what is written about them.

JAX is looked for beside TensorFlow, and in ``.venv-gpu``, an environment of ``benchmarks/requirements-gpu.txt``;
PyTorch and MONAI in ``.venv-peers``, which ``benchmarks/speed.py`` makes.
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
SIZE = "8x12x16"  # what both sides can halve twice
COMPILED = """
import sys
from functools import partial
from pathlib import Path
import numpy as np
from benchmarks.gpu.expected import expected
from benchmarks.gpu.given import Folder
from benchmarks.gpu.programs import as_on_a_gpu
from deepatlas_tf.keras_stack import tf

folder, out = Folder(Path(sys.argv[1])), Path(sys.argv[2])
about, weights = folder.about(), folder.weights()
with as_on_a_gpu():
    for case in [case for case in about["cases"] if case["precision"] == "float32"]:
        compiled = partial(tf.function, jit_compile=True, autograph=False)
        np.savez(out / f"{case['program']}.npz", **expected(case, about, weights, compiled))
"""


MONAI = """
import sys
from pathlib import Path
import numpy as np
from benchmarks.gpu.given import Folder
from benchmarks.gpu.monai_side import step_of

folder = Folder(Path(sys.argv[1]))
about, weights = folder.about(), folder.weights()
for case in about["cases"]:
    if case["program"] in ("register", "segment", "warp") and case["precision"] == "float32":
        found = step_of(case, about, weights)()
        found = found[0] if case["program"] == "warp" else found
        (expected,) = np.load(folder.expected(case)).values()
        np.testing.assert_allclose(np.moveaxis(found.numpy(), 1, -1), expected, rtol=1e-3, atol=1e-4)
        print(case["program"])
"""


@pytest.fixture
def gpu(monkeypatch):
    """The modules that need neither JAX nor PyTorch."""
    monkeypatch.syspath_prepend(ROOT)
    names = ("export", "given", "programs", "results", "table")
    return SimpleNamespace(**{name: importlib.import_module(f"benchmarks.gpu.{name}") for name in names})


def run(python, *arguments):
    """A command in a process of its own, since functions traced as on a GPU stay so; what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    found = subprocess.run([python, *map(str, arguments)], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr[-2000:]
    return found.stdout


def python_with(module, environment):
    """An interpreter that has the module, or the test is skipped."""
    for python in (sys.executable, ROOT / environment / "bin" / "python"):
        if (
            Path(python).exists()
            and not subprocess.run([python, "-c", f"import {module}"], capture_output=True).returncode
        ):
            return python
    return pytest.skip(f"{module} is installed neither beside TensorFlow nor in {environment}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Every program in both precisions for tiny networks, and what TensorFlow's normal step gives."""
    path = tmp_path_factory.mktemp("programs")
    run(sys.executable, "-m", "benchmarks.gpu.export", path, "--sizes", SIZE, "--tiny")
    run(sys.executable, "-m", "benchmarks.gpu.expected", path)
    return path


# ---------------------------------------------------------------------------------------------------- what is given


def test_inputs_are_the_same_on_every_side(gpu):
    arrays = gpu.given.given("registration_turn", (6, 7, 8), 3)
    again = gpu.given.given("segmentation_turn", [6, 7, 8], 3)
    assert tuple(arrays) == gpu.given.PAIR and all(np.array_equal(arrays[name], again[name]) for name in arrays)
    assert set(np.unique(arrays["moving/label"])) == {0, 1, 2}
    assert arrays["moving/label_weight"].min() == 1 and not arrays["fixed/label_weight"].any()
    warped = gpu.given.given("warp_gradients", (6, 7, 8), 3)
    assert {name: array.shape[-1] for name, array in warped.items()} == {"image": 3, "u": 3, "gradient": 3}


def test_a_size_is_read_and_written(gpu):
    assert gpu.export.shape_of("64") == (64, 64, 64)
    assert gpu.export.shape_of(gpu.given.text((160, 192, 160))) == (160, 192, 160)


def test_what_runs_without_tensorflow_does_not_import_it():
    modules = ("benchmarks.gpu.given", "benchmarks.gpu.results", "benchmarks.gpu.table", "machine")
    run(sys.executable, "-c", f"import sys; sys.modules['tensorflow'] = None; import {', '.join(modules)}")


def test_as_on_a_gpu_reaches_every_place_that_asks(gpu):
    from deepatlas_tf.models import convolution
    from deepatlas_tf.ops import sums, warp

    source = [path for path in (ROOT / "deepatlas_tf").rglob("*.py") if "on_gpu" in path.read_text("utf-8")]
    assert len(source) == 3  # these
    with gpu.programs.as_on_a_gpu():
        assert all(module.on_gpu() for module in (convolution, sums, warp))
    assert not any(module.on_gpu() for module in (convolution, sums, warp))


def test_the_header_of_a_program_says_what_it_changes(gpu):
    header = (
        "HloModule a, input_output_alias={ {0}: (2, {}, may-alias), {1}: (1, {}, may-alias) }, "
        "entry_computation_layout={(f32[1,4,3]{2,1,0}, s64[], /*index=2*/f32[3]{0})->(f32[3]{0}, s64[])}"
    )
    assert gpu.export._changed(header) == {0: 2, 1: 1}
    assert gpu.export._takes(header, 3) and not gpu.export._takes(header, 4)
    assert not gpu.export._takes(header.replace("f32[1,4,3]", "f32[<=1,4,3]"), 3)


# ------------------------------------------------------------------------------------------------- what is written


def options(gpu, tmp_path, *more):
    parser = argparse.ArgumentParser()
    gpu.results.add_arguments(parser, gpu.given.NAMES)
    return parser.parse_args([str(tmp_path), "-o", str(tmp_path), *more])


def a_case(program, shape=(4, 4, 4)):
    return {"program": program, "shape": list(shape), "precision": "float32"}


def test_median_and_quartiles_of_a_step(gpu):
    calls = []
    found = gpu.results.timed(lambda: calls.append(1), repeats=5)
    low, high = found["quartiles_ms"]
    assert len(calls) == 8 and found["n"] == 5 and 0 <= low <= found["ms"] <= high


def test_small_programs_come_first(gpu, tmp_path):
    about = {"cases": [a_case("warp", (9, 9, 9)), a_case("warp"), a_case("segment")]}
    chosen = gpu.results.chosen(about, options(gpu, tmp_path, "--only", "warp"))
    assert [case["shape"] for case in chosen] == [[4, 4, 4], [9, 9, 9]]
    assert not gpu.results.chosen(about, options(gpu, tmp_path, "--sizes", "5x5x5"))


def test_results_are_written_after_each_case(gpu, tmp_path, capsys):
    results = gpu.results.Results(
        tmp_path / "jax.json",
        {"what": "a test", "device": "none"},
        options(gpu, tmp_path, "--peak-tflops", "float32=2"),
    )
    results.add(a_case("register"), lambda: {"ms": 0.5, "convolution_flop": 250_000_000, "bytes": 2**30})

    def fails():
        raise RuntimeError("out of memory")

    results.add(a_case("segment"), fails)
    results.until = 0
    results.add(a_case("warp"), lambda: {})
    written = json.loads((tmp_path / "jax.json").read_text())
    assert [case["program"] for case in written["cases"]] == ["register"]
    assert written["cases"][0]["share_of_peak"] == 0.25
    assert [case["why"] for case in written["left_out"]] == ["out of memory", "no time was left"]
    with pytest.raises(SystemExit, match="1"):
        results.end()
    assert "out of memory" in capsys.readouterr().out
    assert gpu.table.table({"jax": written}).splitlines()[2] == "| register | 4x4x4 | float32 | 0.5 | 1.00 | 25% |"


def test_a_peak_is_for_a_precision(gpu, tmp_path):
    with pytest.raises(SystemExit, match="2"):
        options(gpu, tmp_path, "--peak-tflops", "float16=2")


# ---------------------------------------------------------------------------------------------------- the programs


@pytest.mark.long
def test_what_was_exported(gpu, folder):
    about = gpu.given.Folder(folder).about()
    weights = gpu.given.Folder(folder).weights()
    assert len(about["cases"]) == len(gpu.given.NAMES) * len(gpu.given.PRECISIONS)
    for case in about["cases"]:
        variables = case["inputs"][len(gpu.given.INPUTS[case["program"]]) :]
        assert all(list(weights[one["name"]].shape) == one["shape"] for one in variables)
        assert len(gpu.given.Folder(folder).program(case)) > 1000
        changed = {one["name"].split("/")[0] for one in case["outputs"] if one["input"] is not None}
        turn = case["program"].partition("_turn")[0]
        is_turn = case["program"].endswith("_turn")
        assert changed == ({turn, f"{turn}_optimizer", "mean"} if is_turn else set())
        assert (case["convolution_flop"] > 0) == (not case["program"].startswith("warp"))


@pytest.mark.long
def test_the_compiled_programs_equal_the_normal_step(gpu, folder, tmp_path):
    """With the operations for a GPU, by TensorFlow's own XLA on the CPU: without JAX."""
    path = gpu.given.Folder(folder)
    run(sys.executable, "-c", COMPILED, folder, tmp_path)
    for case in path.about()["cases"]:
        if case["precision"] == "float32":
            expected, found = np.load(path.expected(case)), np.load(tmp_path / f"{case['program']}.npz")
            shares = [np.abs(found[name] - expected[name]).max() / np.abs(expected[name]).max() for name in expected]
            assert max(shares) < 1e-4, case["file"]


@pytest.mark.long
def test_half_precision_rounds(gpu, folder):
    path = gpu.given.Folder(folder)
    one, other = (np.load(path.expected(case))["u"] for case in path.about()["cases"] if case["program"] == "register")
    assert 1e-4 < np.abs(one - other).max() < 0.1 * np.abs(one).max()


@pytest.mark.long
def test_jax_gives_what_tensorflow_gives(folder, tmp_path):
    python = python_with("jax", ".venv-gpu")
    command = ("-m", "benchmarks.gpu.run", folder, "-o", tmp_path, "--check", "--repeats", "1")
    run(python, *command, "--peak-tflops", "float32=1")
    written = json.loads((tmp_path / "jax.json").read_text())
    assert written["what"] == "XLA program of our step, run by JAX's client"
    assert written["machine"]["gpus"] == 0 or written["device"] != "cpu"
    assert len(written["cases"]) == 12 and not written["left_out"]
    for case in written["cases"]:
        found = case["largest_difference"]
        in_half = found.get("terms", found["relative"]) < 0.02  # rounding can turn around small gradients
        assert found["relative"] < 1e-4 if case["precision"] == "float32" else in_half, case
    assert "| segmentation turn | 8x12x16 | bfloat16 |" in run(python, "-m", "benchmarks.gpu.table", tmp_path)


@pytest.mark.long
def test_monai_runs_beside_it(folder, tmp_path):
    python = python_with("monai", ".venv-peers")
    run(python, "-m", "benchmarks.gpu.monai_side", folder, "-o", tmp_path, "--repeats", "1")
    written = json.loads((tmp_path / "monai.json").read_text())
    assert len(written["cases"]) == 12 and not written["left_out"]
    assert all(case["ms"] > 0 for case in written["cases"])
    assert run(python, "-c", MONAI, folder).split() == ["register", "segment", "warp"]
