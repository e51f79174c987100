"""The tables of the evidence, whole on their page and in part in the README, are those that the script prints."""

from tests.docs.test_results import PAGE, README, ROOT, kept, table_after


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


def test_sentences_about_the_brains(monkeypatch):
    """Their gains are those of the table, and the number of subjects that of the folds."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import evidence

    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in evidence.table("B").splitlines()]
    gains = {cells[1]: cells[7].lstrip("+") for cells in lines if len(cells) == 9 and cells[7][:1] == "+"}
    text = (ROOT / "docs" / "evidence.md").read_text("utf-8").replace("\n", " ")
    folds = [kept(f"brains_1_deepatlas_fold{fold}", "comparison.json")["segmentation"] for fold in range(4)]
    found = [fold["segmentation_baseline"]["better_in"].split(" of ") for fold in folds]
    better, n = (sum(int(one[k]) for one in found) for k in (0, 1))
    line = [cells[7] for cells in lines if cells[1:2] == ["deepatlas"]][0].lstrip("+")
    assert f"gains {line} in segmentation, in {better} of {n} subjects" in text
    assert f"and {gains['deepatlas_atlases']} with the one label map" in text
    assert gains["deepatlas_instance"] == gains["registration_unsupervised_instance"] and (
        f"both gain {gains['deepatlas_instance']} on the images alone" in text
    )
    assert f"segmentation gains {line} in {better} of {n} subjects" in PAGE.read_text("utf-8")
