"""What the README and docs/ say in words of the hippocampus with one label map, and of runs and trials beside it."""

import csv
import re

from tests.docs.test_results import README, RESULTS, ROOT, kept, mean

ONE, FIVE = "hippocampus_1_deepatlas_seed0", "hippocampus_5_deepatlas_seed0"
SMALLER, SLOW = "hippocampus_5_deepatlas_four-levels", "hippocampus_5_deepatlas_slow"
BASELINES = {"segmentation": "segmentation_baseline", "registration": "registration_unsupervised"}


def page(name):
    return " ".join((ROOT / "docs" / f"{name}.md").read_text("utf-8").split())


def gain(run, task):
    return kept(run, "comparison.json")[task][BASELINES[task]]


def test_one_label_map():
    results, evidence = page("results"), page("evidence")
    for task, cases in (("segmentation", "subjects"), ("registration", "pairs")):
        row = gain(ONE, task)
        assert f"{task} +{row['difference']:.3f} (better in {row['better_in']} {cases}, p = {row['p']})" in results
    segmentation, registration = (gain(ONE, task) for task in BASELINES)
    assert f"{segmentation['difference']:.3f} in segmentation, in {segmentation['better_in']} subjects" in evidence
    said = f"{registration['difference']:.3f} in a forward pass of registration, in {registration['better_in']} pairs"
    assert said in evidence
    masks = kept(ONE, "training.json")["pseudo_masks"]["deepatlas"]["dice"]
    assert f"The masks of the validation subjects have a Dice of {masks:.3f}." in results


def test_votes_with_one_label_map():
    """The differences are of the last stage minus each method, so a vote's gain on the baseline is one less another."""
    rows = kept(ONE, "comparison.json")["segmentation"]
    start = rows["segmentation_baseline"]["difference"]
    atlas, templates = (
        start - rows[f"segmentation_baseline_{kind}"]["difference"] for kind in ("atlases", "templates")
    )
    assert f"{atlas:.3f} to the baseline, and with eight templates {templates:.3f}" in page("evidence")
    assert rows["deepatlas_atlases"]["difference"] > 0  # adds nothing to the joint network


def test_one_and_five_label_maps_in_the_readme():
    registration, segmentation = (f"{gain(FIVE, task)['difference']:.3f}" for task in ("registration", "segmentation"))
    said = f"With five label maps registration gains {registration}, segmentation {segmentation}."
    assert said in README.read_text("utf-8")
    assert "Neither atlases nor templates add to that." in page("evidence")
    rows = kept(FIVE, "comparison.json")["segmentation"]
    assert all(rows[f"deepatlas_{kind}"]["difference"] > -0.001 for kind in ("atlases", "templates"))


def test_the_slower_baseline():
    row = gain(SLOW, "segmentation")
    said = f"(`{SLOW}`) +{row['difference']:.3f} (better in {row['better_in']} subjects, p = {row['p']})"
    assert said in page("results")
    row = gain(SMALLER, "segmentation")
    said = f"the gain was +{row['difference']:.3f} (better in {row['better_in']} subjects, p = {row['p']})"
    assert said in page("results")
    minutes = {run: round(sum(kept(run, "training.json")["minutes"].values())) for run in (SMALLER, SLOW)}
    assert f"steps of today in {minutes[SMALLER]} minutes" in page("experiments")
    assert f"{minutes[SLOW]} minutes of before" in page("experiments")


def test_trials_that_were_stopped():
    with open(RESULTS / "learning_rate" / "trials.csv", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["stage"] == BASELINES["segmentation"]]
    long = [row for row in rows if (row["steps"], row["rate"]) == ("1500", "0.003")]

    def trial(data, change):
        found = [row for row in long if (row["data"], row["change"]) == (data, change)]
        return {int(row["step"]): float(row["validation_dice"]) for row in found}

    changes = ("", "left and right mirrored", "five levels and dropout")
    assert [max(trial("hippocampus", change)) for change in changes] == [750, 750, 1500]
    assert "two of 1,500 steps after 750, and" in page("experiments")
    mirrored, plain = trial("brains", "left and right mirrored"), trial("brains", "")
    numbers = mirrored[600], mirrored[900], plain[600], plain[900]
    said = "worse after 600 and 900 steps ({:.3f} and {:.3f}; {:.3f} and {:.3f} without)".format(*numbers)
    assert said in page("experiments")


def test_the_segmentation_network():
    """The table of both networks on the test subjects, and the numbers of the smaller one beside table A1."""
    rows = re.findall(
        r"\| (4|5) \| `(hippocampus_\d_deepatlas_\S+)` \| (.*?) \| (.*?) \| (.*?) \|", page("experiments")
    )
    assert len(rows) == 2 * len({run[: len("hippocampus_1")] for _, run, *_ in rows}) > 0
    for levels, run, *dice in rows:
        assert len(kept(run, "experiment.json")["experiment"]["networks"]["segmentation"]["widths"]) == int(levels)
        methods = (BASELINES["segmentation"], "deepatlas")
        assert dice == [*(mean(run, name, "segmentation") for name in methods), mean(run, "deepatlas", "registration")]
    smaller = [mean(f"{ONE.removesuffix('seed0')}four-levels", name, "segmentation") for name in methods]
    assert "the baseline had {} and the joint network {}.".format(*smaller) in page("evidence")
