"""The tables of the evidence, whole on their page and in part in the README, are those that the script prints."""

import csv

import numpy as np
import pytest

from deepatlas_tf.evaluation.compare import means_of_rows
from deepatlas_tf.experiments import hippocampus
from deepatlas_tf.runs.files import read_rows
from tests.docs.test_results import LOG, PAGE, README, RESULTS, ROOT, kept, mean, table_after

BASELINE, HALF, SMALLER = "segmentation_baseline", "hippocampus_5_deepatlas_half", "hippocampus_5_deepatlas_four-levels"
SLOW = "hippocampus_5_deepatlas_slow"  # before today's rate
POOREST, SEEING = "brains_1_deepatlas_fold3", "brains_1_deepatlas_anatomy-fold1"


@pytest.mark.slow
def test_evidence_is_what_the_script_prints(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import evidence

    _, tables = (ROOT / "docs" / "evidence.md").read_text("utf-8").split("<!-- python benchmarks/evidence.py table -->")
    assert tables.strip() == "\n\n".join(map(evidence.table, evidence.TABLES))


@pytest.mark.parametrize("number", range(2))
def test_evidence_in_the_readme(number, monkeypatch):
    """Rows of a table of the evidence: Dice, the difference to the baseline, and p; the text says of how many cases."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import evidence

    (letter,), (_, _, *rows) = table_after(README, "evidence", number)
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
    before = README.read_text("utf-8").partition(f"<!-- evidence of {letter} -->")[0].strip().splitlines()[-1]
    assert f"{subjects} test subjects, {pairs} pairs" in before and len(rows) >= 4


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
    together = (
        f"both networks together gain {gains['deepatlas_templates']}, and with the baseline's segmentation network"
    )
    assert f"{together} {gains['segmentation_baseline_templates']}" in text
    alone = f"{gains['deepatlas_instance']} and {gains['registration_unsupervised_instance']}"
    assert f"on the images alone they gain {alone}" in text
    voted, page = gains["deepatlas_anatomy_templates"], PAGE.read_text("utf-8")
    runs = [run for run in evidence.TABLES["B"][1] if evidence.is_made(run)]
    dice = evidence.cases(runs, "registration", "dice")
    ours, theirs = (
        evidence.over_runs(dice[name]) for name in ("deepatlas_anatomy_templates", "registration_unsupervised")
    )
    pairs = f"{sum(ours[case] > theirs[case] for case in ours)} of {len(ours)} pairs"
    assert f"gains {voted} on the unsupervised network, better in {pairs}" in text
    assert f"but {voted} refined by an anatomy that is voted for" in page
    assert f"segmentation gains {line} in {better} of {n} subjects" in PAGE.read_text("utf-8")
    images, anatomy, voted = (
        mean(POOREST, f"deepatlas_{kind}", "registration") for kind in ("instance", "anatomy", "anatomy_templates")
    )
    assert f"images alone have {images}, the predicted anatomy {anatomy}, and the one that is voted for {voted}" in text
    added = float(gains["deepatlas_anatomy"]) - float(gains["deepatlas_instance"])
    assert f"the predicted anatomy adds {added:.3f} after the joint stage" in text
    before = float(gains["registration_unsupervised_anatomy"]) - float(gains["registration_unsupervised_instance"])
    assert f"and {before:.3f} before it" in text


def test_sentences_about_anatomy_in_the_registration_network():
    """The difference of one pass on test pairs and on validation subjects, and what is left of it."""
    text = LOG.read_text("utf-8").replace("\n", " ")
    gain = kept(SEEING, "comparison.json")["registration"]["registration_unsupervised"]
    assert f"One pass: {gain['difference']:+.3f} (better in {gain['better_in']} pairs, p = {gain['p']})" in text
    stages = kept(SEEING, "training.json")["validation"]
    best = {name: max(row.get("val_registration_dice", 0) for row in rows) for name, rows in stages.items()}
    assert f"this fold it was {best['deepatlas'] - best['registration_unsupervised']:+.3f}" in text


def test_sentences_about_the_hippocampus_in_20_minutes():
    """Differences, cases and p of the joint stage, and what atlases and pseudo masks are worth."""
    text = " ".join(LOG.read_text("utf-8").split())
    five, all_labels = (f"hippocampus_{n}_deepatlas_short" for n in (5, 150))
    segmentation, registration = (kept(five, "comparison.json")[task] for task in ("segmentation", "registration"))
    of_segmentation, of_registration = segmentation["segmentation_baseline"], registration["registration_unsupervised"]
    assert f"{of_segmentation['difference']:.3f} in segmentation (better in {of_segmentation['better_in']} " in text
    assert f"p = {of_segmentation['p']}) and {of_registration['difference']:.3f} in registration" in text
    losses = kept(all_labels, "comparison.json")
    losses = [losses["segmentation"]["segmentation_baseline"], losses["registration"]["registration_unsupervised"]]
    assert " and ".join(f"{loss['difference']:.3f}" for loss in losses) in text
    assert f"(p = {losses[0]['p']} and {losses[1]['p']})" in text
    names = ("deepatlas", "deepatlas_atlases", "segmentation_baseline_atlases")
    without, with_atlases, before = (mean(five, name, "segmentation") for name in names)
    p = segmentation["deepatlas_atlases"]["p"]
    assert f"test subjects' {without} become {with_atlases}" in text and before == with_atlases and f"p = {p})" in text
    assert f"the network alone has {mean(all_labels, 'segmentation_baseline', 'segmentation')}" in text
    for name in (five, all_labels):
        training = kept(name, "training.json")
        network = max(row["val_segmentation_dice"] for row in training["validation"]["segmentation_baseline"])
        assert f"{training['pseudo_masks']['deepatlas']['dice']:.3f}" in text and f"{network:.3f}" in text


def test_trials_of_the_step_that_sees_the_anatomy():
    """The table of the first and the last validation of each trial, and what is said of losses and folds."""
    text = LOG.read_text("utf-8")
    section = text[text.index("## Anatomy in the registration network") :]
    with open(RESULTS / "anatomy_step" / "trials.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    trials = {
        (row["data"], row["step"]): [r for r in rows if (r["data"], r["step"]) == (row["data"], row["step"])]
        for row in rows
    }
    names = {
        "hippocampus": "hippocampus",
        "brains, fold 1": "brains, second fold (2 pairs)",
        "synthetic knees": "knees, synthetic",
    }
    for data, name in names.items():
        plain, frozen = (trials[data, step] for step in ("U-Net, diffeomorphic", "force and U-Net, the rest frozen"))
        dice = [
            f"{float(value):.3f}"
            for value in (plain[0]["validation_dice"], plain[-1]["validation_dice"], frozen[-1]["validation_dice"])
        ]
        assert f"| {name} | {' | '.join(dice)} |" in section
    losses = [
        f"{float(row['anatomy_loss']):.3f}" for row in trials["brains, fold 1", "force and U-Net, the rest frozen"][1:]
    ]
    assert f"({losses[0]} to {losses[-1]})" in section
    folds = float(trials["hippocampus", "U-Net, displacement, rate 5e-4"][-1]["validation_folds_percent"])
    assert f"folds {folds:.2f} % of the hippocampus" in section
    twice = float(trials["synthetic knees", "the same, twice"][-1]["validation_dice"])
    assert f"A second pass of the step gains nothing on the knees ({twice:.3f})" in section


def section_of(heading):
    text = LOG.read_text("utf-8")
    return text[text.index(heading) :].partition("\n## ")[0]


def cells_of(section):
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip("` ") for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize(
    ("data", "heading"),
    [
        ("hippocampus", "## Learning rates and steps\n"),
        ("hippocampus_1", "## The segmentation network of the hippocampus"),
        ("brains", "## Learning rates and steps on the brains"),
    ],
)
def test_trials_of_learning_rates(data, heading):
    """The table of the best validation of each trial."""
    section = section_of(heading)
    with open(RESULTS / "learning_rate" / "trials.csv", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["data"] == data]
    trials = {}
    for row in rows:
        key = row["stage"], float(row["rate"]), int(row["steps"]), row["change"]
        trials.setdefault(key, {})[int(row["step"])] = float(row["validation_dice"])
    cells = cells_of(section)
    assert len(cells) == len(trials)
    for (stage, rate, steps, change), scores in trials.items():
        before = f"{scores.pop(0):.3f}" if 0 in scores else "-"
        best = max(scores, key=scores.get)
        numbers = [before, f"{scores[best]:.3f}", f"{best:,}"]
        start = [stage, f"{steps:,}", change]
        assert [row[-3:] for row in cells if [row[0], *row[2:-3]] == start and float(row[1]) == rate] == [numbers]


def test_trials_of_templates():
    """The table of the votes, and the numbers beside it."""
    section = section_of("## Scans without a label map as templates")
    with open(RESULTS / "templates" / "trials.csv", encoding="utf-8") as file:
        dice = {
            (row["network"], row["votes"], row["part"]): float(row["validation_dice"]) for row in csv.DictReader(file)
        }
    fused, by_network = "templates by network and label map", "templates by network"
    columns = [("network", ""), ("label map", "0.5"), (fused, "0.5"), (fused, "0.75"), (fused, "1.0")]
    networks = ("segmentation_baseline", "deepatlas")
    for network, cells in zip(networks, cells_of(section), strict=True):
        assert cells == [network, *(f"{dice[(network, *column)]:.3f}" for column in columns)]
    assert f"the label map alone ({dice[BASELINE, 'label map', '1.0']:.3f})" in section
    assert " and ".join(f"{dice[network, by_network, '0.75']:.3f}" for network in networks) in section
    masks = [
        dice[BASELINE, "pseudo mask, label map and templates", "0.75"],
        dice[BASELINE, "pseudo mask, label map", "0.5"],
    ]
    assert "better masks of the validation subjects ({:.3f} in place of {:.3f})".format(*masks) in section


def test_trials_of_registrations_by_voted_anatomies():
    """The table by weights, and the numbers beside it."""
    section = section_of("## Registering by anatomies that are voted for")
    with open(RESULTS / "templates" / "registration.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    dice = {
        (row["networks"], row["anatomies"], row["weight"]): float(row["dice"] or row["validation_dice"]) for row in rows
    }
    stages = kept("brains_1_deepatlas_fold0", "training.json")["validation"]
    best = [max(row["val_segmentation_dice"] for row in stages[name]) for name in (BASELINE, "deepatlas")]
    assert "{:.3f} for the baseline, {:.3f} after the joint stage".format(*best) in section
    with open(RESULTS / "templates" / "trials.csv", encoding="utf-8") as file:
        (again,) = (row for row in csv.DictReader(file) if row["network"] == "segmentation_baseline, trained again")
    said = "The first validation subject is segmented with {first_subject}, the other one with {second_subject}."
    assert said.format(**again) in section.replace("\n ", "")
    cells = cells_of(section)
    for anatomies, *shown in cells:
        found = [dice.get(("baselines", anatomies, weight)) for weight in ("0.2", "0.5", "1", "3")]
        assert shown == ["-" if value is None else f"{value:.3f}" for value in found]
    assert len(cells) == 6
    plain = [dice["baselines", name, weight] for name, weight in (("one pass", ""), ("none", "0"))]
    assert "One pass of the baseline has {:.3f}, refined by the images alone it has {:.3f}".format(*plain) in section
    joint = [dice[("deepatlas", *key)] for key in (("one pass", ""), ("none", "0"), ("network", "0.2"))]
    voted = [dice["deepatlas", "eight templates", weight] for weight in ("0.1", "0.2", "0.5", "1")]
    said = "one pass {:.3f}, images {:.3f}, the network's anatomy {:.3f} (weight 0.2), that of eight templates "
    assert (said + "{:.3f}, {:.3f}, {:.3f} and {:.3f}").format(*joint, *voted) in section
    found = means_of_rows(read_rows(RESULTS / "templates" / "validation.csv"), "dice")
    kinds = ("", "_instance", "_anatomy", "_anatomy_atlases", "_anatomy_templates")
    by_command = [np.mean(list(found[f"deepatlas{kind}"].values())) for kind in kinds]
    said = "{:.3f} in one pass, {:.3f} by the images, {:.3f} by the network's anatomy, {:.3f} and {:.3f} by one that"
    assert said.format(*by_command) in section
    with open(RESULTS / "anatomy_step" / "trials.csv", encoding="utf-8") as file:
        steps = [row for row in csv.DictReader(file) if row["data"] == "brains, fold 0"]
    first, last = (float(steps[index]["validation_dice"]) for index in (0, -1))
    assert f"end at {last:.3f} from {first:.3f}" in section
    losses = [float(steps[index]["anatomy_loss"]) for index in (1, -1)]
    assert "falls from {:.3f} to {:.3f} only".format(*losses) in section


def test_what_is_said_beside_the_learning_rates():
    """Of runs that were kept."""
    section = section_of("## Learning rates and steps\n")
    stages = kept(SLOW, "training.json")["validation"]
    reached = {name: max(row["val_segmentation_dice"] for row in stages[name]) for name in (BASELINE, "deepatlas")}
    assert f"reached {reached[BASELINE]:.3f}" in section.replace("\n", " ")
    assert f"({reached['deepatlas'] - reached[BASELINE]:+.3f})" in section
    for run, form in (
        (HALF, "{} for the baseline and {} for `deepatlas`, registration {} and {}"),
        (SLOW, "of before {} and {}, {} and {}"),
        (SMALLER, f"(`{SMALLER}`) {{}} and {{}}, {{}} and {{}}"),
    ):
        dice = [mean(run, name, "segmentation") for name in (BASELINE, "deepatlas")]
        dice += [mean(run, name, "registration") for name in ("registration_unsupervised", "deepatlas")]
        assert form.format(*dice) in section


def test_sentences_about_the_hippocampus_with_five_labels():
    """Gains, cases and p of its run of full length, where they stand in words."""
    found = kept("hippocampus_5_deepatlas_seed0", "comparison.json")
    registration = found["registration"]["registration_unsupervised"]
    segmentation = found["segmentation"]["segmentation_baseline"]
    pages = [" ".join(path.read_text("utf-8").split()) for path in (PAGE, ROOT / "docs" / "evidence.md")]
    better = f"better in {registration['better_in']} pairs, p = {registration['p']}"
    assert f"registration +{registration['difference']:.3f} over the network without labels ({better})" in pages[0]
    better = f"better in {segmentation['better_in']} subjects, p = {segmentation['p']}"
    assert f"segmentation +{segmentation['difference']:.3f} ({better})" in pages[0]
    in_pairs, in_subjects = registration["better_in"], segmentation["better_in"]
    assert f"{registration['difference']:.3f} better than the unsupervised one, in {in_pairs} pairs" in pages[1]
    assert f"segmentation {segmentation['difference']:.3f}, in {in_subjects} subjects" in pages[1]
    training = kept("hippocampus_5_deepatlas_seed0", "training.json")
    assert (
        f"The masks of the validation subjects have a Dice of {training['pseudo_masks']['deepatlas']['dice']:.3f}."
        in pages[0]
    )
    head = " ".join(hippocampus.__doc__.split())
    assert f"{sum(training['minutes'].values()):.0f} minutes of training on two CPU cores" in head
    half = sum(kept(HALF, "training.json")["minutes"].values())
    dice = [mean(HALF, name, "segmentation").lstrip("0") for name in (BASELINE, "deepatlas")]
    dice += [mean(HALF, name, "registration").lstrip("0") for name in ("registration_unsupervised", "deepatlas")]
    assert f"{half:.0f} minutes on two slow cores: {'{} and {}; {} and {}'.format(*dice)}" in head
