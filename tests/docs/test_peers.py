"""The page of other tools, and their table in the README, hold what the benchmarks print."""

import itertools
import json

from tests.docs.test_results import NOTHING, README, RESULTS, ROOT, kept, table_after


def test_peers_are_what_the_benchmark_prints(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from peers import shown

    page = (ROOT / "docs" / "peers.md").read_text(encoding="utf-8")
    results = [json.loads(path.read_text("utf-8")) for path in sorted((RESULTS / "registration_peers").glob("*.json"))]
    assert len(results) >= 2
    for result in results:
        assert shown.markdown(result) in page, result["dataset"]


def test_joint_peers_are_what_the_benchmark_prints(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from joint import shown

    page = (ROOT / "docs" / "peers.md").read_text(encoding="utf-8")
    results = [json.loads(path.read_text("utf-8")) for path in sorted((RESULTS / "joint_peers").glob("*.json"))]
    for result in results:
        assert shown.markdown(result) in page, result["dataset"]
    methods = kept("joint_peers", "hippocampus.json")["methods"]
    nnunet, monai = (methods[f"{peer}, 26 min"] for peer in ("nnU-Net", "MONAI DeepAtlas"))
    assert f"nnU-Net makes {nnunet['training']['iterations']} steps" in page
    steps, validation = monai["training"]["steps"], monai["training"]["validation"]
    stage, own = kept("joint_peers", "hippocampus.json")["run"]["stages"]["deepatlas"], "last stage needs"
    assert f"{own} {stage:.0f} minutes" in page
    spacings = [after["seconds"] - before["seconds"] for before, after in itertools.pairwise(validation)]
    assert f"every {spacings[0]:.0f} seconds of training at first, then every {spacings[-2]:.0f}" in page
    best = max(validation, key=lambda row: row["segmentation"])
    assert f"recipe makes {steps:,} steps".replace(",", " ") in page
    assert f"best after {best['seconds'] / 60:.1f} minutes" in page
    dice = {
        task: [f"{found[task]['dice']['mean']:.3f}" for found in (methods["deepatlas"], monai, nnunet) if task in found]
        for task in ("segmentation", "registration")
    }
    assert "segmentation {} beside {} of MONAI's recipe and {} of nnU-Net".format(*dice["segmentation"]) in page
    assert "registration {} beside {}".format(*dice["registration"]) in page


def test_peers_in_the_readme():
    """Dice and seconds a pair of each data set, for the methods that the table names."""
    folders, (_, _, *rows) = table_after(README, "peers")
    for method, *cells in rows:
        expected = []
        for name in folders:
            found = kept("registration_peers", f"{name}.json")["methods"]
            key = next((key for key in found if key == method or key.endswith(f": {method}")), None)
            taken = found[key]["seconds"]["median"] if key else None
            expected += [f"{found[key]['test']['dice']['mean']:.3f}" if key else NOTHING]
            expected += [NOTHING if taken is None else f"{taken:.2g}"]
        assert cells == expected, method
    assert len(rows) >= 6
