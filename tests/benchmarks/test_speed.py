"""benchmarks/speed.py on tiny inputs: both sides compute the same, and the table shows the ratio of their medians."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))  # scripts, not a package

import speed  # noqa: E402
from side_by_side import inputs, ours, pairing, rows, table, voxelmorph_side  # noqa: E402
from side_by_side.pairing import Side, agreement, compare_bytes, compare_seconds  # noqa: E402
from side_by_side.rows import OURS, ROWS, Case  # noqa: E402

from deepatlas_tf.models.networks import Networks, networks_from  # noqa: E402
from deepatlas_tf.models.old_settings import translated_networks  # noqa: E402

pytestmark = pytest.mark.slow
STUB = """
from side_by_side.worker import Task

def set_threads(n):
    set_threads.n = n

def threads():
    return {"n": set_threads.n}

def versions():
    return {"stub": "1"}

def task(settings, arrays):
    print("libraries print too")
    value = float(arrays["x"].sum()) + settings["error"]
    return Task(lambda: bytearray(3 * 2**24), {"sum": value}, weights={"x": arrays["x"]})

TASKS = {"sum": task}
"""


@pytest.fixture
def stub(tmp_path, monkeypatch):
    """Two sides of one small module in place of ours and MONAI."""
    (tmp_path / "stub.py").write_text(STUB)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(pairing, "MODULES", {OURS: "stub", "MONAI": "stub"})


def case(error=0.0, **kwargs):
    return Case("sum of ones", "sum", {"error": error}, lambda: {"x": np.ones(5)}, **kwargs)


def test_median_and_quartiles():
    assert table.summary([4.0, 1.0, 3.0, 2.0, 5.0]) == {"median": 3.0, "quartiles": [2.0, 4.0], "n": 5}
    assert table.summary([2.0])["quartiles"] == [2.0, 2.0]


def test_a_ratio_is_that_of_the_medians():
    assert table.ratios({OURS: [1.0, 1.0, 9.0], "MONAI": [4.0, 4.0, 0.1], "x": [2.0]}) == {"MONAI": 0.25, "x": 0.5}


def test_table_shows_seconds_bytes_and_ratios():
    cases = [
        {"name": "fast", "seconds": {OURS: [0.1], "MONAI": [0.4]}},
        {"name": "slow", "seconds": {OURS: [3.0], "MONAI": [4.0]}},
        {"name": "memory", "bytes": {OURS: [2**30], "MONAI": [2**31]}},
    ]
    lines = table.markdown([{"cases": cases}]).splitlines()[2:]
    assert [line.split("|")[-2].strip() for line in lines] == ["0.250", "0.750", "0.500"]
    assert "100 ms" in lines[0] and "3 s" in lines[1]
    assert "1.00 GiB | MONAI 2.00 GiB" in lines[2]


def test_table_says_where_other_programs_ran_and_what_differs():
    one = {"name": "busy", "seconds": {OURS: [0.1], "MONAI": [0.4]}, "others": [0.01, 0.4]}
    text = table.markdown([{"cases": [one | {"differs": {"MONAI: loss": "another border"}}]}])
    assert "| 0.250 (others had up to 40% of the cores)" in text
    assert text.endswith("Defined differently, MONAI: loss: another border.")


def test_stored_rows_are_read_for_the_table(tmp_path, monkeypatch, capsys):
    one = {"name": "the case", "seconds": {OURS: [1.0], "MONAI": [4.0]}}
    (tmp_path / "warp.json").write_text(json.dumps({"cases": [one]}))
    monkeypatch.setattr(sys, "argv", ["speed.py", "table", "--out", str(tmp_path)])
    speed.main()
    assert "| the case |" in capsys.readouterr().out


def test_an_unknown_row_is_an_error(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["speed.py", "wrap"])
    with pytest.raises(SystemExit, match="2"):
        speed.main()


def test_results_that_differ_stop_the_row():
    def answers(theirs, differs=None):
        return {OURS: {"values": {"a": 1.0}}, "MONAI": {"values": theirs, "differs": differs or {}}}

    assert agreement(answers({"a": 1.0005}))["agreement"]["MONAI"]["a"]["ours"] == 1.0
    assert agreement(answers({"a": 2.0}, {"a": "other"}))["differs"] == {"MONAI: a": "other"}
    for theirs in ({"a": 1.01}, {"a": float("nan")}, {"b": 1.0}):
        with pytest.raises(AssertionError):
            agreement(answers(theirs))


@pytest.mark.long
def test_sides_take_turns_in_processes_of_their_own(stub):
    with Side(OURS, sys.executable) as first, Side("MONAI", sys.executable) as second:
        found = compare_seconds({OURS: first, "MONAI": second}, case(), repeats=3)
        assert first.ask("about") == {"versions": {"stub": "1"}, "threads": {"n": 2}}
    assert {name: len(seconds) for name, seconds in found["seconds"].items()} == {OURS: 3, "MONAI": 3}
    assert found["agreement"]["MONAI"]["sum"]["theirs"] == 5.0
    assert len(found["others"]) == 3 and all(0 <= share <= 1 for share in found["others"])


def test_memory_is_counted_from_the_imports_on(stub):
    found = compare_bytes(dict.fromkeys((OURS, "MONAI"), sys.executable), case(unit="bytes"), steps=3)
    for name in (OURS, "MONAI"):
        assert 3 * 2**24 <= found["bytes"][name][0] < 5 * 2**24
        assert found["bytes_after_imports"][name] > 2**20


def test_an_error_in_a_side_is_reported(stub):
    with (
        Side(OURS, sys.executable) as side,
        pytest.raises(RuntimeError, match="process of ours ended during 'prepare'"),
    ):
        side.ask("prepare", task="unknown", settings={})


def test_synthetic_labels_have_every_class_and_images_are_in_range():
    pair = inputs.pair((24, 24, 24), 32)
    assert len(np.unique(pair["label"])) == 32
    assert all(pair[name].shape == (1, 24, 24, 24, 1) for name in ("moving", "fixed"))
    assert pair["moving"].min() == 0 and pair["moving"].max() == 1
    assert np.corrcoef(pair["moving"].ravel(), pair["fixed"].ravel())[0, 1] > 0.5


def test_widths_are_those_of_the_package():
    assert networks_from(translated_networks(rows.WIDTHS)) == Networks()


@pytest.mark.parametrize("row", ROWS)
def test_rows_have_cases_of_their_own(row):
    full, tiny = ROWS[row](False), ROWS[row](True)
    assert len({one.name for one in full}) == len(full) >= len(tiny) >= 1
    for one in full + tiny:
        assert one.peers and set(one.peers) <= set(rows.MODULES)


def prepared(module, one, weights=None):
    task = module.TASKS[one.task](one.settings, one.arrays() | (weights or {}))
    task.step()
    return {"values": dict(task.values), "differs": dict(task.differs)}, dict(task.weights)


@pytest.mark.long
@pytest.mark.parametrize("row", ["warp", "local_ncc", "voxelmorph"])
def test_voxelmorph_as_shipped_computes_the_same(row):
    one = ROWS[row](True)[-1]
    answer, weights = prepared(ours, one)
    theirs, _ = prepared(voxelmorph_side, one, weights)
    found = agreement({OURS: answer, "voxelmorph": theirs})["agreement"]["voxelmorph"]
    assert len(found) >= 2


@pytest.fixture(scope="module")
def monai():
    python = speed.PEERS / "bin" / "python"
    if not python.exists():
        pytest.skip(f"the peers' environment {speed.PEERS.name} is not there; benchmarks/speed.py makes it")
    with Side("MONAI", str(python)) as side:
        yield side


@pytest.mark.parametrize(("row", "n_agreeing"), [("turns", 3), ("files", 2), ("evaluation", 4)])
def test_monai_computes_the_same(row, n_agreeing, monai, tmp_path):
    one = ROWS[row](True)[0]
    answer, weights = prepared(ours, one)
    np.savez(tmp_path / "arrays.npz", **one.arrays(), **weights)
    theirs = monai.ask("prepare", task=one.task, settings=one.settings, arrays=str(tmp_path / "arrays.npz"))
    found = agreement({OURS: answer, "MONAI": theirs})
    assert len(found["agreement"]["MONAI"]) - len(found["differs"]) >= n_agreeing
