"""A few of the thousand cases of benchmarks/reliability/fuzz.py, and that its checks can fail."""

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def inputs(scripts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    scripts.fuzz.write_inputs(folder)
    return folder


@pytest.mark.long
def test_bad_input_ends_in_a_line(scripts, small_run, monkeypatch):
    monkeypatch.setattr(scripts.fuzz, "SECONDS", 120.0)  # a hang; how fast it is the script tells, on an idle machine
    found = scripts.fuzz.fuzz(0, 60, small_run)
    assert found["faults"] == [] and len(found["cases_by_kind"]) == 8


@pytest.mark.parametrize(
    ("end", "text"),
    [
        (lambda folder: 1 / 0, "exit status None"),
        (lambda folder: 7, "exit status 7"),
        (lambda folder: 1, "no message"),
        (lambda folder: (folder / "elsewhere").write_text("x") and 0, "wrote elsewhere"),
    ],
)
def test_every_check_can_fail(end, text, scripts, inputs, small_run, monkeypatch):
    seen = {}

    def case(seed, folder, *_):
        seen["folder"] = folder
        return "scan", []

    monkeypatch.setattr(scripts.fuzz, "case", case)
    monkeypatch.setattr("deepatlas_tf.cli.main", lambda argv: end(seen["folder"]))
    assert text in scripts.fuzz.fault(0, inputs, small_run)[1]
