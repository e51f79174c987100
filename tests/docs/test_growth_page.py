"""How time and memory grow: the tables of docs/speed.md and docs/scale.md are those that the benchmarks print."""

import importlib

import numpy as np
import pytest

from tests.docs.test_results import ROOT, kept

SPEED, SCALE = ((ROOT / "docs" / f"{name}.md").read_text("utf-8") for name in ("speed", "scale"))


@pytest.fixture
def printed_by(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module


@pytest.mark.parametrize("what", ["voxels", "classes", "channels"])
def test_time_of_a_turn(printed_by, what):
    rows = kept("efficiency", f"{what}.json")["rows"]
    table, _, _ = printed_by("efficiency").scaling_table(what, rows).partition("\n\n")
    assert table in SPEED and len(rows) == 2


def test_sentence_on_channels():
    found = kept("efficiency", "channels.json")
    registration, segmentation = found["rows"]
    assert found["channels"] == registration["n"] == [1, 2, 4, 8] and found["classes"] == [4]
    each, one = registration["b_s"], registration["step_s"][0]
    assert f"takes {1e3 * each:.1f} ms more for each channel, {100 * each / one:.0f} % of its time" in SPEED
    more = segmentation["step_s"][-1] / segmentation["step_s"][0] - 1
    assert f"segmentation turn takes {100 * more:.0f} % more for 8 channels than for 1" in SPEED


def test_preparation(printed_by):
    found = kept("subjects", "prepare.json")
    rows, voxels = found["rows"], np.prod(found["shape"])
    assert printed_by("subjects").preparation_table(rows) in SCALE
    assert max(row["scans"] for row in rows) == 1000
    assert f"takes\n{5 * voxels / 1e3:.0f} kB" in SCALE and found["workers"] == 2
    one, with_beam = ([row for row in rows if row["way"] == way] for way in ("one process", "Beam"))
    assert one[-1]["own_mib"] / one[0]["own_mib"] < 1.03 and max(row["cores"] for row in one) < 1
    scans = with_beam[-1]["scans"] - with_beam[0]["scans"]
    own, workers = ((with_beam[-1][name] - with_beam[0][name]) / scans for name in ("own_mib", "workers_mib"))
    assert f"{own:.2f} MiB a scan in the first process and {workers:.2f} MiB in its workers together" in SCALE
    assert own > 3 * 5 * voxels / 2**20 and all(
        slow["seconds"] > fast["seconds"] for slow, fast in zip(with_beam, one, strict=True)
    )


def test_training(printed_by):
    found = kept("subjects", "train.json")
    rows = found["rows"]
    assert printed_by("subjects").training_table(rows) in SCALE
    assert f"three epochs of {found['steps_per_epoch']} steps" in SCALE and found["epochs"] == 4
    times = [row["median_s"] for row in rows]
    assert max(times) / min(times) < 1.1 and max(row["subjects"] for row in rows) == 500
    each = 5 * 40 * 48 * 40 / 2**20
    assert f"5 bytes a voxel, {each:.2f} MiB on this grid" in SCALE
    whole, part = ([row for row in rows if row["memory_gib"] == budget] for budget in (2.0, 0.0125))
    grown, held = (whole[-1][name] - whole[0][name] for name in ("peak_mib", "held"))
    assert grown == pytest.approx(each * held, rel=0.1)
    assert part[-1]["peak_mib"] - part[0]["peak_mib"] < grown / 4 and part[-1]["held"] < 20
