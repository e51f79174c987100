"""The figures on the stage of full resolution in docs/training.md are those of the raw results."""

import json

import numpy as np

from deepatlas_tf.evaluation.compare import means_of_rows
from deepatlas_tf.runs.files import read_rows
from tests.docs.test_results import RESULTS, ROOT, kept, table_after


def test_full_resolution():
    page = ROOT / "docs" / "training.md"
    text, ((folder,), (_, _, *rows)) = page.read_text("utf-8"), table_after(page, "own grid")
    measured = read_rows(RESULTS / folder / "segmentation_own_grid.csv")
    means = [means_of_rows(measured, measure) for measure in ("dice", "hd95_mm")]
    for method, *cells in rows:
        values = [np.mean(list(found[method.strip("`")].values())) for found in means]
        assert cells == [f"{values[0]:.3f}", f"{values[1]:.2f}"], method
    assert len(rows) == len(means[0]) and {len(cases) for cases in means[0].values()} == {5}
    gains = [np.mean(_gains(means[0], method)) for method in ("deepatlas", "segmentation_baseline")]
    better = np.sum(np.array(_gains(means[0], "deepatlas")) > 0)
    assert f"gains {gains[0]:.3f} on the joint network, in {better} of 5 subjects" in text
    assert f"and {gains[1]:.3f} on the baseline" in text
    *before, fine = kept(folder, "training.json")["minutes"].values()
    assert f"{fine:.0f} minutes of training" in text and f"after {sum(before):.0f} for" in text


def test_specks():
    files, (_, _, *rows) = table_after(ROOT / "docs" / "training.md", "specks")
    measured = [json.loads((RESULTS / "specks" / f"{name}.json").read_text("utf-8"))["rows"] for name in files]
    assert [len({row["subject"] for row in found}) for found in measured] == [2, 5]
    for share, *cells in rows:
        expected = []
        for found in measured:
            of_share = [row for row in found if row["share"] == float(share)]
            expected += [f"{np.mean([row['dice'] for row in of_share]):.3f}"]
            expected += [f"{np.mean([row['hd95_mm'] for row in of_share]):.2f}"]
        assert cells == expected, share
    assert [float(row[0]) for row in rows] == list(dict.fromkeys(row["share"] for row in measured[0]))


def _gains(means: dict[str, dict], method: str) -> list[float]:
    """Of the fine stage on another one, for each subject."""
    return [value - means[method][case] for case, value in means["full_resolution"].items()]
