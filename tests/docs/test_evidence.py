"""The tables of the evidence, whole on their page and in part in the README, are those that the script prints."""

from tests.docs.test_results import README, ROOT, table_after


def test_evidence_is_what_the_script_prints(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import evidence

    _, tables = (ROOT / "docs" / "evidence.md").read_text("utf-8").split("<!-- python benchmarks/evidence.py table -->")
    assert tables.strip() == "\n\n".join(map(evidence.table, evidence.TABLES))


def test_evidence_in_the_readme(monkeypatch):
    """Rows of a table of the evidence: Dice, the difference to the baseline, and p; the text says of how many cases."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import evidence

    (letter,), (_, _, *rows) = table_after(README, "evidence")
    task, printed = "", {}
    for line in evidence.table(letter).splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 9:
            task = cells[0] or task
            printed[task, cells[1]] = cells[2:]
    task = ""
    for first, method, *cells in rows:
        task = first or task
        found = printed[task, method]
        assert cells == [found[1], found[5], found[6]], method
    subjects, pairs = printed["segmentation", "deepatlas"][0], printed["registration", "deepatlas"][0]
    assert f"{subjects} test subjects, {pairs} pairs" in README.read_text("utf-8") and len(rows) >= 6
