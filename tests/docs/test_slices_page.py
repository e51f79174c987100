"""What docs/evidence.md says in words of the slices of the brains; its tables have a test of their own."""

from tests.docs.test_results import ROOT, kept, mean

PAGE = " ".join((ROOT / "docs" / "evidence.md").read_text("utf-8").split())
RUNS = [f"brains-2d_{n}_deepatlas" for n in (1, 5, 10)]


def compared(run, task, method):
    return kept(run, "comparison.json")[task][method]


def test_how_many_slices_there_are(monkeypatch):
    """Of the 13, 2 and 5 brains of each split."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from brain_slices import SLICES

    training, validation, test = (n * SLICES for n in (13, 2, 5))
    said = (
        f"{training} slices of 13 brains to train on, {validation} of 2 brains to choose by, {test} of 5 brains to test"
    )
    assert said in PAGE and f"up to {2 * (SLICES - 1)} mm apart" in PAGE


def test_gains_of_deepatlas():
    segmentation = [compared(run, "segmentation", "segmentation_baseline") for run in RUNS]
    first, second, third = (f"{row['difference']:.3f}" for row in segmentation)
    of_slices = segmentation[0]["better_in"]
    assert f"{first} in segmentation with one label map, in {of_slices} slices, {second} with five" in PAGE
    assert (
        f"which may be chance (p = {segmentation[1]['p']}), and {third} with ten (p = {segmentation[2]['p']})" in PAGE
    )
    rows = [compared(run, "registration", "registration_unsupervised") for run in RUNS]
    assert "{:.3f}, {:.3f} and {:.3f} in registration".format(*(row["difference"] for row in rows)) in PAGE
    minutes = [round(sum(kept(run, "training.json")["minutes"].values())) for run in RUNS]
    assert f"{min(minutes)} to {max(minutes)} minutes of training" in PAGE


def test_mean_teacher_and_uniseg_reg():
    run = "brains-2d_1_uniseg-reg"
    row = compared(run, "segmentation", "mean_teacher")  # the last round, which is the baseline, minus Mean Teacher
    worse, _, cases = row["better_in"].partition(" of ")
    assert f"gains {-row['difference']:.3f}, in {int(cases) - int(worse)} of {cases} slices (p = {row['p']}" in PAGE
    five = compared("brains-2d_5_uniseg-reg", "segmentation", "mean_teacher")
    assert f"with five it loses {five['difference']:.3f}" in PAGE
    own = [mean(f"brains-2d_{n}_uniseg-reg", "segmentation_baseline", "segmentation") for n in (1, 5)]
    ours, joint = (
        [mean(name, method, "segmentation") for name in RUNS[:2]] for method in ("segmentation_baseline", "deepatlas")
    )
    said = (
        "{} with one label map and {} with five, beside {} and {} of DeepAtlas' own baseline and {} and {} of DeepAtlas"
    )
    assert said.format(*own, *ours, *joint) in PAGE
    networks = [kept(name, "experiment.json")["experiment"]["networks"]["segmentation"] for name in (run, RUNS[0])]
    assert networks[0] == networks[1]
    for trained in ("brains-2d_5_uniseg-reg", run):
        training = kept(trained, "training.json")
        best = {
            stage: max(epoch.get("val_segmentation_dice", 0) for epoch in epochs)
            for stage, epochs in training["validation"].items()
        }
        rounds = [dice for stage, dice in best.items() if stage.startswith("uniseg_reg")]
        assert len(rounds) == 10 and max(rounds) < best["segmentation_baseline"]
    masks = training["pseudo_masks"]["uniseg_reg"]["dice"]
    assert f"Dice of {masks:.2f} on the validation slices, the baseline {best['segmentation_baseline']:.2f}" in PAGE
    pyramid = mean(run, "registration_pretrained", "registration")
    demons = mean(RUNS[0], "registration_unsupervised", "registration")
    assert f"by its pyramid has {pyramid} where learned demons have {demons}" in PAGE
