"""``deepatlas data validate --hours``: the default grid, and the time of the updates."""

from deepatlas_tf.cli import main


def test_the_hours_are_told_first(new_cohort, tmp_path, monkeypatch, capsys):
    asked = []
    measured = "deepatlas_tf.training.estimate.seconds_of_updates"
    monkeypatch.setattr(measured, lambda experiment, *sizes: asked.append(sizes) or 7200.0)
    path = new_cohort(8).save()
    assert main(["data", "validate", str(path), "-o", str(tmp_path / "out"), "--hours"]) == 0
    assert asked == [((24, 16, 16), 4, 1)]
    line = capsys.readouterr().out.splitlines()[0]
    assert line.startswith("by default: a grid of 24 x 16 x 16 voxels of 1 x 1.5 x 2 mm") and "2 h" in line


def test_scans_that_cannot_be_trained_are_not_timed(new_cohort, tmp_path, capsys):
    cohort = new_cohort(2)
    cohort.add("s01")
    assert main(["data", "validate", str(cohort.save()), "-o", str(tmp_path / "out"), "--hours"]) == 1
    assert capsys.readouterr().out.startswith("--hours: not measured, since there are errors")
