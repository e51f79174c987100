"""docs/serving.md: the table of engines is what was measured."""

import json

from tests.docs.test_results import RESULTS, ROOT, table_after


def test_engines():
    (name,), (_, _, *rows) = table_after(ROOT / "docs" / "serving.md", "serving")
    measured = json.loads((RESULTS / "serving" / f"{name}.json").read_text("utf-8"))["rows"]
    expected = []
    for row in measured:
        engines = row["TensorFlow"], row["OpenVINO"]
        times = [f"{engine['milliseconds']:.0f} ms" for engine in engines]
        first = " / ".join(f"{engine['seconds_to_first']:.1f} s" for engine in engines)
        expected.append([" x ".join(map(str, row["size"])), *times, f"{row['ratio']:.2f}", first])
    assert rows == expected
    differences = [row["largest_difference"]["probabilities"] for row in measured]
    said = f"differ by {differences[0]:.4f} at most in the first, by up to {differences[1]:.2f} in the second"
    assert said in (ROOT / "docs" / "serving.md").read_text("utf-8")
