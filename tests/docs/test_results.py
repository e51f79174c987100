"""The tables of README.md, docs/results.md and docs/experiments.md hold the numbers of ``benchmarks/results``."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from deepatlas_tf.methods import method_names
from deepatlas_tf.recipes import recipe_names

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
README, PAGE, LOG = ROOT / "README.md", ROOT / "docs" / "results.md", ROOT / "docs" / "experiments.md"
FOLDERS = sorted(path.name for path in RESULTS.iterdir() if path.is_dir())
RUNS = [name for name in FOLDERS if (RESULTS / name / "experiment.json").exists()]
TIMINGS = {"data", "efficiency", "joint_peers", "memory", "onednn", "profile", "registration_peers", "reliability"}
TIMINGS |= {"serving", "specks", "speed", "startup", "subjects", "tests"}  # all of scripts
TRIALS = {"anatomy_step", "learning_rate", "templates"}
NAME = re.compile(r"(?P<data>[a-z0-9-]+)_(?P<labels>\d+)_(?P<method>[a-z-]+)(_(?P<variant>[a-z0-9-]+))?")
NOTHING = "-"


def table_after(page: Path, comment: str, number: int = 0) -> tuple[list[str], list[list[str]]]:
    """Folders that the comment ``<!-- KIND of FOLDER, ... -->`` names, and the cells of the table below it."""
    found = re.findall(rf"<!-- {comment}(?: of)? ?(.*?) -->\n\n((?:\|.*\n)+)", page.read_text(encoding="utf-8"))
    folders, table = found[number]
    rows = [[cell.strip(" *") for cell in line.strip().strip("|").split("|")] for line in table.splitlines()]
    return [name for name in folders.split(", ") if name], rows


def kept(folder: str, name: str):
    return json.loads((RESULTS / folder / name).read_text(encoding="utf-8"))


def mean(folder: str, method: str, task: str, measure: str = "dice") -> str:
    """As in a table, or "-" where the method has none; of two contrasts the one that the method is named with."""
    values = kept(folder, "summary.json").get(method, {}).get(task, {})
    digits = 2 if measure == "hd95_mm" else 3
    return f"{values[measure]['mean']:.{digits}f}" if values.get(measure, {}).get("mean") is not None else NOTHING


def last_validation(folder: str, stage: str = "deepatlas") -> str:
    row = kept(folder, "training.json")["validation"][stage][-1]
    return f"{row['val_segmentation_dice']:.3f} / {row['val_registration_dice']:.3f}"


def test_dice_on_real_scans():
    folders, (_, _, *rows) = table_after(PAGE, "dice")
    task, checked = "", 0
    for first, method, *cells in rows:
        task = first or task
        name, _, variant = method.replace("`", "").partition(", ")
        runs = [f"{folder}_{variant}" if variant else folder for folder in folders]
        expected = [mean(run, name, task) for run in runs]
        assert cells == expected, f"{task}, {method}"
        checked += sum(cell != NOTHING for cell in cells)
    assert len(folders) == 3 and checked >= 17


def test_dice_of_today():
    """With the registration network that the experiments have now."""
    folders, (_, _, *rows) = table_after(PAGE, "now")
    task = ""
    for first, method, *cells in rows:
        task = first or task
        assert cells == [mean(folder, method, task) for folder in folders], f"{task}, {method}"
    assert len(folders) == 4 and len(rows) >= 5


def test_rows_of_the_demo():
    (folder,), (_, _, *rows) = table_after(PAGE, "rows")
    assert len(rows) == len(kept(folder, "summary.json"))
    for method, *cells in rows:
        columns = [("segmentation", "dice"), ("segmentation", "hd95_mm"), ("registration", "dice")]
        columns += [("registration", "hd95_mm"), ("registration", "folds_percent")]
        assert cells == [mean(folder, method, *column) for column in columns], method


@pytest.mark.parametrize(("page", "suffix"), [(PAGE, "_"), (LOG, "-")], ids=["long", "short"])
def test_validation_after_the_joint_stage(page, suffix):
    folders, (_, _, *rows) = table_after(page, "validation")
    for variant, *cells in rows:
        name = variant.strip("`")
        if name == "before the joint stage":
            continue
        runs = [folder if name == "paper" else f"{folder}{suffix}{name}" for folder in folders]
        expected = [last_validation(run) if run in RUNS else NOTHING for run in runs]
        assert [cell.replace("*", "") for cell in cells] == expected, name
    assert {row[0].strip("`") for row in rows} >= {"paper", "weighted", "aligned", "confidence"}


def test_rounds_of_uniseg_reg():
    _, (_, _, *rows) = table_after(PAGE, "rounds")
    for folder, *cells, registration in rows:
        run = folder.strip("`")
        methods = ("segmentation_baseline", "mean_teacher", "uniseg_reg_1", "uniseg_reg")
        assert cells == [mean(run, method, "segmentation") for method in methods], run
        ends = [mean(run, method, "registration") for method in ("registration_pretrained", "uniseg_reg")]
        assert registration == " to ".join(ends), run
    assert len(rows) == 4


def test_two_contrasts():
    folders, (_, _, *rows) = table_after(PAGE, "contrasts")
    registration = ["identity", "registration_mi", "registration_mind", "registration_ngf", "seg_guided"]
    segmentation = [("segmentation_a", 0), ("segmentation_a", 1), ("domain_adaptation", 1)]
    for column, folder in enumerate(folders, start=1):
        domains = kept(folder, "experiment.json")["experiment"]["data"]["domains"]
        pair = f"({domains[0]} to {domains[1]})"
        expected = [mean(folder, f"{method} {pair}", "registration") for method in registration]
        expected += [mean(folder, f"{method} ({domains[of]})", "segmentation") for method, of in segmentation]
        assert [row[column] for row in rows] == expected, folder
    assert len(folders) == 4


def test_complete_tables_are_what_the_benchmark_prints(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import accuracy

    text = LOG.read_text(encoding="utf-8")
    tables = re.findall(r"<!-- python benchmarks/accuracy.py --together (.*?) -->\n\n((?:\|.*\n)+)", text)
    assert len(tables) >= 5
    for names, table in tables:
        assert table.strip() == accuracy.together(names.split()), names


def test_stages_of_the_first_run():
    (folder,), (_, _, *rows) = table_after(ROOT / "docs" / "first-run.md", "stages")
    assert [row[0] for row in rows] == ["identity", *kept(folder, "training.json")["minutes"]]
    for method, *cells in rows:
        assert cells == [mean(folder, method, task) for task in ("segmentation", "registration")], method


def test_borders_are_those_of_the_raw_results():
    rows = kept("reliability", "borders_demo.json")["rows"]
    found = {row["border"]: f"{np.mean(row['dice']):.3f}" for row in rows}
    plain = {dice for name, dice in found.items() if not name.endswith("noise")}
    noise = {dice for name, dice in found.items() if name.endswith("noise")}
    whole = [np.mean(row["whole_dice"]) for row in rows if row["whole_dice"] and row["border"] != "none"]
    (same,) = plain
    text = (ROOT / "docs" / "reliability.md").read_text("utf-8")
    assert f"knees: {same} without a border and with black, grey" in text
    assert (
        f"{min(noise)} to {max(noise)} in noise; the whole file in one pass: {min(whole):.3f} to {max(whole):.3f} "
        in text
    )


def test_kills():
    rows = [row for name in ("kill.json", "kill_again.json") for row in kept("reliability", name)["rows"]]
    text = (ROOT / "docs" / "reliability.md").read_text("utf-8")
    assert f"{sum(row['kills'] for row in rows)} kills of all seven methods by the script: no difference" in text
    assert len({row["method"] for row in rows}) == 7 and not any(row["different"] for row in rows)


@pytest.mark.parametrize(
    ("name", "folder", "task"),
    [
        ("brains", "brains_1_deepatlas_fold0", "segmentation"),
        ("brains", "brains_1_deepatlas_fold0", "registration"),
        ("hippocampus", "hippocampus_5_deepatlas_seed0", "segmentation"),
        ("hippocampus", "hippocampus_5_deepatlas_seed0", "registration"),
        ("phantom_knee", "phantom-knee_3_deepatlas_seed0", "segmentation"),
        ("phantom_knee", "phantom-knee_3_deepatlas_seed0", "registration"),
    ],
)
def test_measured_in_the_heads_of_experiments(name, folder, task):
    text = (ROOT / "deepatlas_tf" / "experiments" / f"{name}.py").read_text("utf-8").replace("\n", " ")
    for method in (
        {"segmentation": "segmentation_baseline", "registration": "registration_unsupervised"}[task],
        "deepatlas",
    ):
        dice = re.escape(mean(folder, method, task).lstrip("0"))
        assert re.search(rf"{dice} (for the baseline|for DeepAtlas|without labels)|without labels {dice}", text), method


def test_numbers_in_sentences():
    """Those of the first run of the evidence, and of the convolutions, are the raw results'."""
    run = "phantom-knee_3_deepatlas_seed0"
    text = (ROOT / "docs" / "evidence.md").read_text("utf-8")
    start, images, anatomy = (
        mean(run, f"registration_unsupervised{kind}", "registration") for kind in ("", "_instance", "_anatomy")
    )
    assert f"from {start} to {images}, and the segmentation network's\nanatomy to {anatomy}, with hardly a fold" in text
    line, old, other = text.replace("\n", " "), "phantom-knee_3_deepatlas", "phantom-knee_3_deepatlas_u-net"
    dice = {
        name: [mean(name, m, "segmentation") for m in ("segmentation_baseline", "deepatlas")] for name in (old, other)
    }
    assert "{} for the baseline and {} for DeepAtlas".format(*dice[old]) in line
    assert "and {} and {} with the same seed".format(*dice[other]) in line
    both = [mean(name, "deepatlas", "registration") for name in (old, other)]
    refined = mean(other, "deepatlas_anatomy", "registration")
    assert f"its registration {both[0]} and {both[1]}, and {refined} refined with anatomy" in line
    brains, page = "brains_1_deepatlas_fold0", PAGE.read_text("utf-8").replace("\n", " ")
    for folder, task, against in (
        (brains, "segmentation", "segmentation_baseline"),
        (brains, "registration", "registration_unsupervised"),
        (run, "segmentation", "segmentation_baseline"),
        (run, "registration", "registration_unsupervised"),
    ):
        gain = kept(folder, "comparison.json")[task][against]
        cases = f"{gain['better_in']} {'subjects' if task == 'segmentation' else 'pairs'}, p = {gain['p']:.2g})"
        assert cases in page and f"{gain['difference']:+.3f}" in page, (folder, task)
    masks = kept(brains, "training.json")["pseudo_masks"]["deepatlas"]["dice"]
    assert f"masks of the validation subjects have a Dice of {masks:.3f}" in page
    log = LOG.read_text("utf-8")
    hippocampus = mean("hippocampus_0_deepatlas", "registration_unsupervised", "registration")
    assert f"| hippocampus | 0.540 | 0.666 | {hippocampus} |" in log
    rows = {row["turn"]: row for row in kept("onednn", "turns.json")["rows"]}
    installing = (ROOT / "docs" / "install.md").read_text("utf-8")
    one, other = rows["registration"], rows["segmentation"]
    assert f"takes {one['oneDNN']:.0f} ms in place of {one['TensorFlow'] / 1000:.1f} s" in installing
    assert f"turn {other['oneDNN'] / 1000:.1f} s in place of {other['TensorFlow'] / 1000:.1f} s" in installing


def test_speed_is_that_of_the_raw_results(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from side_by_side.table import markdown

    def cells(line):
        return tuple(cell.strip() for cell in line.strip("|").split("|"))[:4]

    raw = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((RESULTS / "speed").glob("*.json"))]
    measured = {cells(line) for line in markdown(raw).splitlines()[2:] if line.startswith("|")}
    page = (ROOT / "docs" / "speed.md").read_text(encoding="utf-8").partition("### What is defined differently")[0]
    shown = [cells(line) for line in page.splitlines() if line.startswith("| ") and "| ratio |" not in line]
    assert len(shown) == len(measured) > 30 and set(shown) == measured


@pytest.mark.parametrize("name", RUNS)
def test_name_of_a_run(name):
    """<data>_<labels>_<method>[_variant]"""
    parts = NAME.fullmatch(name)
    assert parts, name
    assert int(parts["labels"]) == kept(name, "experiment.json")["experiment"]["data"]["labels"]
    assert parts["method"].replace("-", "_") in {*method_names(), *recipe_names()}


def test_every_folder_is_listed_and_quoted():
    assert set(FOLDERS) - set(RUNS) == TIMINGS | TRIALS
    listed = re.findall(r"^\| `([^`]+)` \|.*\| ([\w, ]+) \|$", (RESULTS / "README.md").read_text("utf-8"), re.MULTILINE)
    quoted = {folder: pages.split(", ") for folder, pages in listed if folder in FOLDERS}
    assert sorted(quoted) == FOLDERS
    for folder, pages in quoted.items():
        for page in pages:
            path = README if page == "README" else ROOT / "docs" / f"{page}.md"
            assert _names(folder, path.read_text(encoding="utf-8")), f"{page} does not quote {folder}"


def _names(folder: str, text: str) -> bool:
    """A variant may be named by its ending: "`x`, with `_aligned`", or "deepatlas, `aligned`" in a table of `x`."""
    if _stands_in(folder, text):
        return True
    parts = re.match(r"(.*)([_-])([a-z]+)$", folder)
    endings = (parts[3], parts[2] + parts[3]) if parts else ()
    return any(f"`{ending}`" in text for ending in endings) and _stands_in(parts[1], text)


def _stands_in(folder: str, text: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(folder)}(?![\w-])", text) is not None
